// The whole engine on cards.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { DeviceOption } from '../lib/device.js'
import type { PlanEntry } from '../lib/plan.js'
import { distance, folder, real } from './cards.js'
import { scratch, type TinyOptions, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { Reference } from './reference-model.js'

t.ok(existsSync(join(folder, 'build', 'Release', 'addon.node')), 'npm test has built the addon with emulated cards')
const { load, methods } = await import('../lib/index.js')
const { native } = await import('../lib/native.js')
const cards = native().devices().length
const last = `cuda:${Math.min(cards, 2) - 1}`

const SPLIT: DeviceOption = [
  { layers: [0, 2], device: 'cuda:0' },
  { layers: [2, 3], device: 'cpu' },
  { layers: [3, 4], device: last },
]

async function loaded(t: { teardown(fn: () => unknown): void }, options: TinyOptions, device: DeviceOption) {
  const tiny = tinyModel({ layers: 4, headSize: 32, ...options })
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tiny)
  const model = await load(path, { device, threads: 2 })
  t.teardown(() => model.close())
  return { model, tiny }
}

t.test('cards that are there', async (t) => {
  t.ok(cards > 0)
  if (!real) t.match(native().devices(), [{ device: 'cuda:0', name: 'emulated' }, { device: 'cuda:1' }])
  const { model } = await loaded(t, {}, SPLIT)
  t.same(model.stages, [
    { layers: [0, 2], device: 'cuda:0' },
    { layers: [2, 3], device: 'cpu' },
    { layers: [3, 4], device: last },
  ])
  const all = await loaded(t, {}, 'auto')
  t.same(all.model.stages, [{ layers: [0, 4], device: 'cuda:0' }])
})

t.test('devices that are not there, layers that are not covered', async (t) => {
  const wrong: [DeviceOption, RegExp][] = [
    ['cuda:9', /asked for cuda:9, there (is 1|are \d)/],
    ['tpu', /'cuda:<number>'/],
    [[{ layers: [0, 2], device: 'cuda' }], /devices for 4 layers, got them for 2/],
    [[{ layers: [1, 4], device: 'cuda' }], /layers 1 to 4 where 0 comes next/],
    [[{ layers: [0, 5], device: 'cpu' }], /layers 0 to 4/],
  ]
  for (const [device, message] of wrong)
    await t.rejects(loaded(t, {}, device), { code: 'ERR_DEVICE', message }, JSON.stringify(device))
})

const kinds: Record<string, TinyOptions> = {
  llama: { biases: true },
  'llama, tied, q8_0 weights': { tied: true, type: 'q8_0' },
  gemma3: { architecture: 'gemma3' },
}
for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: a prompt, then steps, against the float64 oracle`, async (t) => {
    for (const device of ['cuda', SPLIT]) {
      const { model, tiny } = await loaded(t, options, device)
      const ids = randomIds(48, 7)
      const { logits } = new Reference(tiny).run(ids)
      const session = model.session({ kv: 'f16' })
      await session.forward(ids.subarray(0, 40))
      for (let i = 40; i < 47; i++) await session.forward(ids.subarray(i, i + 1), { logits: 'none' })
      const off = distance(await session.forward(ids.subarray(47)), logits[47] as Float64Array)
      t.ok(off < 0.03, `${JSON.stringify(device)}: ${off.toFixed(4)}`)
    }
  })
}

t.test('the text of a split model is that of either device alone', async (t) => {
  const texts = []
  for (const device of ['cpu', 'cuda', SPLIT]) {
    const { model } = await loaded(t, {}, device)
    const session = model.session()
    await session.generate('hello world', { maxTokens: 12 })
    texts.push([...session.ids])
  }
  t.same(texts[1], texts[0])
  t.same(texts[2], texts[0])
})

t.test('tokens are those that the host would take of the same logits', async (t) => {
  const { model } = await loaded(t, {}, 'cuda')
  const ids = randomIds(12, 11)
  const first = await model.session().forward(ids)
  const session = model.session()
  await session.generate(ids, { maxTokens: 1 })
  t.equal(session.ids.at(-1), first.indexOf(Math.max(...first)), 'the largest, found on the card')
  for (const sampling of [
    { temperature: 0.9, seed: 3 },
    { temperature: 0.9, topK: 5, seed: 3 },
    { repeatPenalty: 1.3 },
  ]) {
    const texts = await Promise.all(
      [false, true].map(async (logprobs) => {
        const session = model.session()
        await session.generate(ids, { maxTokens: 6, ...sampling, ...(logprobs && { logprobs }) })
        return [...session.ids]
      }),
    )
    t.same(texts[0], texts[1], JSON.stringify(sampling))
  }
})

t.test('types of cache', async (t) => {
  const ids = randomIds(48, 5)
  const [card, processor] = [await loaded(t, {}, 'cuda'), await loaded(t, {}, 'cpu')]
  const exact = new Reference(card.tiny).run(ids).logits[47] as Float64Array
  for (const kv of ['f32', 'bf16', 'q8_0', 'q4_0', 'kivi4', 'kivi2'] as const) {
    const [off, usual] = await Promise.all(
      [card, processor].map(async ({ model }) => {
        const session = model.session({ kv: { keys: kv, values: kv, sinks: 4, recent: 8, rotate: kv === 'q4_0' } })
        await session.forward(ids.subarray(0, 44))
        for (let i = 44; i < 47; i++) await session.forward(ids.subarray(i, i + 1), { logits: 'none' })
        return distance(await session.forward(ids.subarray(47)), exact)
      }),
    )
    t.ok(
      (off as number) < (usual as number) * 1.5 + 0.02,
      `${kv}: ${off?.toFixed(4)}, on the processor ${usual?.toFixed(4)}`,
    )
  }
})

t.test('methods: the same rows as on the processor, bytes that go, and what is kept of a session', async (t) => {
  const ids = randomIds(60, 3)
  const used = () => [methods.fastv({ keep: 0.75, layer: 2 }), methods.snapkv({ keep: 0.5, window: 8 })]
  const kept = []
  for (const device of ['cpu', 'cuda', SPLIT]) {
    const { model } = await loaded(t, {}, device)
    // Finely: which of two rows that are nearly even stays would else be a matter of rounding.
    const session = model.session({ methods: used(), arithmetic: 'fine' })
    const full = model.session()
    await session.forward(ids)
    await full.forward(ids)
    kept.push(session.plan)
    t.ok(session.stats.kv.bytes < full.stats.kv.bytes, 'a smaller cache')
    const next = await session.forward(ids.subarray(0, 1))
    const fork = await full.fork()
    const [a, b] = [await fork.forward(ids.subarray(0, 1)), await full.forward(ids.subarray(0, 1))]
    t.same(a, b, 'a fork goes on as its origin')
    t.ok(next.every(Number.isFinite))
  }
  t.same(kept[1], kept[0])
  t.same(kept[2], kept[0])
})

t.test('rows in two precisions, the same ones as on the processor: what they give', async (t) => {
  const ids = randomIds(100, 3)
  const logits = []
  let plan: PlanEntry[] | undefined
  for (const device of ['cpu', 'cuda', SPLIT]) {
    const { model } = await loaded(t, {}, device)
    const method = methods.zipVl({ tau: 0.7, rows: 8, every: 2, lowPrecision: 'kivi2' })
    const session = model.session({ kv: 'kivi4', ...(plan ? { plan } : { methods: [method] }) })
    await session.forward(ids)
    for (let i = 0; i < 4; i++) await session.forward(ids.subarray(i, i + 1))
    plan ??= session.plan
    t.same(session.plan, plan)
    const fork = await session.fork()
    const [a, b] = [await fork.forward(ids.subarray(5, 6)), await session.forward(ids.subarray(5, 6))]
    t.same(a, b, 'a fork goes on as its origin')
    logits.push(b)
  }
  const [processor, ...cards] = logits as [Float32Array, Float32Array, Float32Array]
  for (const card of cards) t.ok(distance(card, processor) < 0.15, `${distance(card, processor)}`)
})

t.test('sessions side by side give what each gives alone', async (t) => {
  const { model } = await loaded(t, {}, 'cuda')
  const prompts = [5, 17, 9].map((n, seed) => randomIds(n, seed))
  const alone = []
  for (const ids of prompts) {
    const session = model.session()
    await session.forward(ids)
    alone.push(await session.forward(Int32Array.of(7)))
  }
  const sessions = prompts.map(() => model.session())
  await Promise.all(sessions.map((session, i) => session.forward(prompts[i] as Int32Array)))
  const together = await Promise.all(sessions.map((session) => session.forward(Int32Array.of(7))))
  t.same(together, alone)
})
