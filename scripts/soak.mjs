// npm run soak: a long life in one process. 1,000 models opened, used and closed, 200 generations aborted, 50 worker threads, some of
// which end in the middle of work; then memory, handles and threads must be what they were. Prints a line a stage and 'N passed, N failed'.
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'

const MIB = 2 ** 20
const require = createRequire(import.meta.url)
const { load, methods, pull } = require('..')
setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc')
const times = Number(process.argv[2] ?? 1)
const path = await pull('smollm2')
const prompt = 'The keeper of the lighthouse wrote down the weather every morning, and the ships that passed.'
let failed = 0
let passed = 0

async function settled() {
  for (let i = 0; i < 4; i++) {
    gc()
    await wait(25)
  }
  const threads = process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0
  return { memory: process.memoryUsage.rss(), handles: process.getActiveResourcesInfo().length, threads }
}

// The first rounds fill caches of Node and of the C library: growth counts after them.
async function stage(name, count, once, room) {
  for (let i = 0; i < Math.min(20, count); i++) await once(i)
  const before = await settled()
  const start = performance.now()
  for (let i = 0; i < count; i++) await once(i)
  const after = await settled()
  const grown = (after.memory - before.memory) / MIB
  const ok = grown < room && after.handles <= before.handles && after.threads <= before.threads
  if (ok) passed++
  else failed++
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  const rest = `${after.handles - before.handles} more handles, ${after.threads - before.threads} more threads`
  console.log(`${ok ? 'ok   ' : 'FAIL '} ${count} × ${name}: ${grown.toFixed(1)} MiB more, ${rest} (${seconds} s)`)
}

const kinds = [
  {},
  { methods: [methods.streamingLlm({ keep: 0.5 })] },
  { methods: [methods.snapkv({ keep: { tokens: 8 }, window: 4 })], kv: 'q8_0' },
  { kv: 'kivi4' },
  { methods: [methods.h2o({ keep: { tokens: 12 } })] },
]

await stage(
  'open, generate, close',
  1000 * times,
  async (i) => {
    const model = await load(path)
    const session = model.session(kinds[i % kinds.length])
    await session.generate(prompt, { maxTokens: 4, ignoreEnd: true })
    if (i % 2) await session.close()
    await model.close()
  },
  48,
)

const model = await load(path)
await stage(
  'aborted generation',
  200 * times,
  async (i) => {
    const session = model.session(kinds[i % kinds.length])
    const stop = new AbortController()
    const { result } = session.stream(prompt.repeat(i % 8 ? 1 : 20), {
      maxTokens: 500,
      ignoreEnd: true,
      signal: stop.signal,
    })
    await wait((i * 7) % 60)
    stop.abort()
    await result.then(
      () => Promise.reject(new Error('was not aborted')),
      (error) => error.name === 'AbortError' || Promise.reject(error),
    )
    await session.close()
  },
  48,
)
await model.close()

const code = `
  const { workerData, parentPort } = require('node:worker_threads')
  const { load } = require(workerData.package)
  load(workerData.path, { threads: 1 }).then(async (model) => {
    const session = model.session()
    parentPort.postMessage((await session.generate('The sun is', { maxTokens: workerData.tokens, ignoreEnd: true })).text)
  })`
const work = (i) =>
  new Promise((done, fail) => {
    const cut = i % 3 === 2
    const workerData = { package: require.resolve('..'), path, tokens: cut ? 1000 : 4 }
    const worker = new Worker(code, { eval: true, workerData })
    worker.on('error', fail)
    worker.on('exit', done)
    if (cut) setTimeout(() => worker.terminate(), 600)
  })
await stage('worker thread', 50 * times, work, 64)

const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim()
if (children === '') passed++
else failed++
console.log(`${children === '' ? 'ok   ' : 'FAIL '} no child process is left`)
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
