// tokensieve's side, through its public surface, from the built checkout.
import { decode, keys, model as path, prompt, report, runs, STEPS, threads, tokens, valuesType, WARM } from './work.mjs'

const { load } = await import('../dist/index.mjs')
const model = await load(path, { threads })
const open = (length) => model.session({ contextLength: length + STEPS + 1, kv: { keys, values: valuesType } })
const ids = (count) => Int32Array.from(tokens(count, model.config.vocabularySize))

for (const count of prompt) {
  const times = []
  for (let run = 0; run <= runs; run++) {
    const session = open(count)
    const start = performance.now()
    await session.forward(ids(count), { logits: 'none' })
    if (run > 0) times.push((performance.now() - start) / count) // the first one warms up
    await session.close()
  }
  report('prefill', count, times)
}
for (const count of decode) {
  const session = open(count)
  await session.forward(ids(count - 1), { logits: 'none' })
  const times = []
  let last = performance.now()
  const options = { maxTokens: STEPS, temperature: 0, ignoreEnd: true }
  for await (const piece of session.stream(ids(1), options)) {
    const now = performance.now()
    for (let i = 0; i < piece.ids.length; i++) times.push((now - last) / piece.ids.length)
    last = now
  }
  report('decode', count, times.slice(WARM))
  await session.close()
}
await model.close()
