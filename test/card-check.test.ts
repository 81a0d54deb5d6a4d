// Cards that compute wrongly are not used: emulated ones, one of which is made to lie (TOKENSIEVE_FAULT, test/native/simt).
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { DeviceOption } from '../lib/device.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const folder = fileURLToPath(new URL('../build/simt', import.meta.url))
t.ok(existsSync(join(folder, 'build', 'Release', 'addon.node')), 'npm test has built the addon with emulated cards')
process.env.TOKENSIEVE_PREBUILD = folder
const { load } = await import('../lib/index.js')
const { native } = await import('../lib/native.js')
const { cli } = await import('./cli-run.js')

const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ layers: 2, headSize: 32 }))

async function loaded(t: { teardown(fn: () => unknown): void }, device: DeviceOption) {
  const model = await load(path, { device, threads: 1 })
  t.teardown(() => model.close())
  return model
}

t.test('a card that lies: by name it is an error that says what differed', async (t) => {
  process.env.TOKENSIEVE_FAULT = 'rotate_heads'
  await t.rejects(loaded(t, 'cuda'), {
    name: 'TokensieveError',
    code: 'ERR_DEVICE',
    message:
      /^\[cuda:0\] expected a card that passes a check of its kernels, but "emulated" step 1 of three, rotation gave -?[\d.]+ where -?[\d.]+ was expected$/,
  })
  delete process.env.TOKENSIEVE_FAULT
  const list: DeviceOption = [
    { layers: [0, 1], device: 'cpu' },
    { layers: [1, 2], device: 'cuda:0' },
  ]
  await t.rejects(loaded(t, list), { code: 'ERR_DEVICE' }, 'it is found out once a process')
})

t.test('auto leaves it out and says why', async (t) => {
  const model = await loaded(t, 'auto')
  t.match(model.stages, [
    { layers: [0, 2], device: 'cuda:1', why: /^cuda:0 is left out: "emulated" step 1 of three, rotation gave / },
  ])
  t.equal(await native().checkDevice(1), '')
})

t.test('where every card fails, or reports an error, the processor computes', async (t) => {
  const { spawnSync } = await import('node:child_process')
  const code = `
    const { load } = await import(${JSON.stringify(new URL('../dist/index.mjs', import.meta.url).href)})
    const model = await load(${JSON.stringify(path)}, { threads: 1 })
    const { text } = await model.session().generate('hello', { maxTokens: 2 })
    console.log(JSON.stringify({ stages: model.stages, text }))`
  const env = { ...process.env, TOKENSIEVE_FAULT: '!gather_rows', TOKENSIEVE_DEVICE: 'auto' }
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', env })
  t.equal(ran.stderr, '')
  const { stages, text } = JSON.parse(ran.stdout)
  t.type(text, 'string')
  t.match(stages, [{ layers: [0, 2], device: 'cpu' }])
  t.match(
    stages[0].why,
    /^cuda:0 is left out: "emulated" failed at step 1 of three: simt: gather_rows was told to fail; cuda:1 is left out: /,
  )
})

t.test('doctor tells which cards can be used', async (t) => {
  const { out } = await cli(['doctor', '--json'])
  t.match(JSON.parse(out), {
    devices: [
      { name: 'cpu', runs: true },
      { name: 'cuda:0', runs: false, why: /rotation gave/ },
      { name: 'cuda:1', runs: true, why: /^emulated, 1.0 GiB free; its kernels were checked$/ },
    ],
    problems: [],
  })
  process.env.TOKENSIEVE_DEVICE = 'cuda'
  t.match((await cli(['doctor', '--json'])).out, /asks for cuda, which cannot be used here/)
  process.env.TOKENSIEVE_DEVICE = 'cuda:1'
  t.equal((await cli(['doctor', '--json'])).code, 0)
  delete process.env.TOKENSIEVE_DEVICE
})
