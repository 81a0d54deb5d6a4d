// Worker threads and processes: the addon in several threads, threads that end in the middle of work, a process that ends with open handles.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { loadTiny, raised } from './engine.js'
import { randomIds } from './numbers.js'

// The compiled package: a worker of its own has no TypeScript.
const addon = JSON.stringify(fileURLToPath(new URL('../native/load.cjs', import.meta.url)))

/** Natively, without the facade: a model is loaded, a session runs steps. */
const work = `
  const { loadAddon } = require(${addon})
  const native = loadAddon()
  async function begin(path, prompt) {
    const file = await native.open(path)
    const model = await native.load(file, { threads: 2, isa: 'auto' }, null).model
    file.close()
    const none = new Int32Array(0)
    const float = { keys: 'f16', values: 'f16', sinks: 0, recent: 0, residual: 0, hadamardKeys: false, hadamardValues: false }
    const cache = { kv: [float], kvOf: none }
    const session = model.session({ contextLength: 4096, ...cache, repack: false, skipAttention: none, skipMlp: none })
    const sampler = model.sampler({ temperature: 0, topK: 0, topP: 1, minP: 0, repeatPenalty: 1, seed: 1 })
    const run = async (ids) => {
      session.begin(Int32Array.from(ids), [])
      const [{ token }] = await model.advance([{ session, from: 0, to: model.config.layers, begin: 0, end: ids.length, head: { logits: 'none', sampler } }])
      session.commit()
      return token
    }
    return { model, session, run, first: await run(prompt) }
  }`

function worker(code: string, data: object): { worker: Worker; ended: Promise<unknown[]> } {
  const made = new Worker(`const { workerData: w, parentPort } = require('node:worker_threads')\n${work}\n${code}`, {
    eval: true,
    workerData: data,
  })
  const messages: unknown[] = []
  const ended = new Promise<unknown[]>((done, fail) => {
    made.on('message', (message) => messages.push(message))
    made.on('error', fail)
    made.on('exit', () => done(messages))
  })
  return { worker: made, ended }
}

const generating = `
  begin(w.path, w.prompt).then(async ({ run, first }) => {
    const said = [first]
    while (said.length < w.count) said.push(await run([said.at(-1)]))
    parentPort.postMessage(said.slice(0, 12))
  })`

t.test('worker threads load it, use it and end, also in the middle of work', async (t) => {
  const { model, path } = await loadTiny(t)
  const prompt = [...randomIds(30, 1)]
  const expected = [
    ...(await model.session().generate(Int32Array.from(prompt), { maxTokens: 12, ignoreEnd: true })).ids,
  ]
  for (let round = 0; round < 3; round++) {
    const some = [0, 1, 2].map(() => worker(generating, { path, prompt, count: 12 }))
    const killed = [0, 1].map(() => worker(generating, { path, prompt: [...randomIds(500, 2)], count: 1 << 20 }))
    const beside = model.session().generate(Int32Array.from(prompt), { maxTokens: 12, ignoreEnd: true })
    await new Promise((next) => setTimeout(next, 60 + 40 * round))
    for (const { worker } of killed) await worker.terminate()
    for (const { ended } of some) t.same(await ended, [expected])
    for (const { ended } of killed) t.same(await ended, [])
    t.same([...(await beside).ids], expected, 'the main thread goes on')
  }
})

function child(code: string, data: object): Promise<{ code: number | null; out: string; took: number }> {
  const started = performance.now()
  const run = spawn(process.execPath, ['-e', `const w = ${JSON.stringify(data)}\n${work}\n${code}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  run.stdout.on('data', (chunk) => {
    out += chunk
  })
  run.stderr.on('data', (chunk) => {
    out += chunk
  })
  return new Promise((done) => run.on('exit', (code) => done({ code, out, took: performance.now() - started })))
}

t.test('a process ends with open handles, and not while work is under way', async (t) => {
  const { path } = await loadTiny(t)
  const prompt = [...randomIds(30, 1)]
  const idle = await child(`begin(w.path, w.prompt).then(() => console.log('begun'))`, { path, prompt })
  t.same([idle.code, idle.out], [0, 'begun\n'])
  const busy = await child(
    `begin(w.path, w.prompt).then(({ run }) => { run(w.prompt).then(() => console.log('done')) })`,
    { path, prompt },
  )
  t.same([busy.code, busy.out], [0, 'done\n'], 'what is under way is waited for')
  const leaving = await child(`begin(w.path, w.prompt).then(({ run }) => { run(w.long); process.exit(3) })`, {
    path,
    prompt,
    long: [...randomIds(500, 2)],
  })
  t.same([leaving.code, leaving.out], [3, ''], 'process.exit in the middle of work')
})

t.test('collected handles', async (t) => {
  const { path } = await loadTiny(t)
  const prompt = [...randomIds(30, 1)]
  const made = await child(
    `(async () => {
      const { setFlagsFromString } = require('node:v8')
      setFlagsFromString('--expose-gc')
      const gc = require('node:vm').runInNewContext('gc')
      for (let i = 0; i < 20; i++) { await begin(w.path, w.prompt); gc(); await new Promise((next) => setImmediate(next)) }
      const { run } = await begin(w.path, w.prompt)
      const running = run([5]); gc(); gc()
      console.log(typeof await running)
    })()`,
    { path, prompt },
  )
  t.same([made.code, made.out], [0, 'number\n'])
  t.equal((await raised(() => 1)).message, 'nothing was thrown')
})
