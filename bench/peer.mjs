// node-llama-cpp's side, as its documentation has it: its prebuilt binary, flash attention on, greedy evaluation.
import { getLlama } from 'node-llama-cpp'
import {
  context as contextSize,
  decode,
  GREETING,
  keys,
  measurePrompts,
  model as path,
  report,
  reportSteps,
  STEPS,
  start,
  threads,
  tokens,
  valuesType,
} from './work.mjs'

const options = { gpu: false, build: 'never', skipDownload: true, progressLogs: false, logLevel: 'error' }
const llama = await getLlama({ ...options, maxThreads: threads })
const model = await llama.loadModel({ modelPath: path })
const context = await model.createContext({
  contextSize: start ? 512 : contextSize,
  batchSize: 512,
  threads: { ideal: threads, min: threads },
  flashAttention: true,
  experimentalKvCacheKeyType: keys.toUpperCase(),
  experimentalKvCacheValueType: valuesType.toUpperCase(),
  failedCreationRemedy: false,
  ignoreMemorySafetyChecks: true,
})
const sequence = context.getSequence()
const greedy = { temperature: 0, yieldEogToken: true }

if (start) {
  for await (const _ of sequence.evaluate(model.tokenize(GREETING), greedy)) break
  report('start', 1, [performance.now()])
  process.exit()
}

await measurePrompts(async (count) => {
  await sequence.clearHistory()
  await sequence.evaluateWithoutGeneratingNewTokens(tokens(0, count))
})
for (const count of decode) {
  const there = sequence.nextTokenIndex
  if (there >= count) await sequence.eraseContextTokenRanges([{ start: count - 1, end: there }])
  else if (there < count - 1) await sequence.evaluateWithoutGeneratingNewTokens(tokens(there, count - 1))
  const times = []
  let last = performance.now()
  for await (const _ of sequence.evaluate(tokens(count - 1, count), greedy)) {
    const now = performance.now()
    times.push(now - last)
    last = now
    if (times.length === STEPS) break
  }
  reportSteps(count, times)
}
await context.dispose()
await model.dispose()
await llama.dispose()
