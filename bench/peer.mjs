// node-llama-cpp's side, as its documentation has it: its prebuilt binary, flash attention on, greedy evaluation.
import { getLlama } from 'node-llama-cpp'
import { decode, keys, model as path, prompt, report, runs, STEPS, threads, tokens, valuesType, WARM } from './work.mjs'

const options = { gpu: false, build: 'never', skipDownload: true, progressLogs: false, logLevel: 'error' }
const llama = await getLlama({ ...options, maxThreads: threads })
const model = await llama.loadModel({ modelPath: path })
const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length
const context = await model.createContext({
  contextSize: Math.max(...prompt, ...decode) + 2 * STEPS,
  batchSize: 512,
  threads: { ideal: threads, min: threads },
  flashAttention: true,
  experimentalKvCacheKeyType: keys.toUpperCase(),
  experimentalKvCacheValueType: valuesType.toUpperCase(),
  failedCreationRemedy: false,
  ignoreMemorySafetyChecks: true,
})
const sequence = context.getSequence()

for (const count of prompt) {
  const times = []
  for (let run = 0; run <= runs; run++) {
    await sequence.clearHistory()
    const start = performance.now()
    await sequence.evaluateWithoutGeneratingNewTokens(tokens(count, vocabulary))
    if (run > 0) times.push((performance.now() - start) / count)
  }
  report('prefill', count, times)
}
for (const count of decode) {
  await sequence.clearHistory()
  await sequence.evaluateWithoutGeneratingNewTokens(tokens(count - 1, vocabulary))
  const times = []
  let last = performance.now()
  for await (const _ of sequence.evaluate(tokens(1, vocabulary), { temperature: 0, yieldEogToken: true })) {
    const now = performance.now()
    times.push(now - last)
    last = now
    if (times.length === STEPS) break
  }
  report('decode', count, times.slice(WARM))
}
await context.dispose()
await model.dispose()
await llama.dispose()
