// tokensieve's side, through its public surface, from the built checkout.
import {
  context,
  decode,
  GREETING,
  keys,
  measurePrompts,
  model as path,
  report,
  STEPS,
  start,
  threads,
  tokens,
  valuesType,
  WARM,
} from './work.mjs'

const { load } = await import('../dist/index.mjs')
const model = await load(path, { threads })

if (start) {
  await model.session({ contextLength: 512 }).generate(GREETING, { maxTokens: 1 })
  report('start', 1, [performance.now()])
  await model.close()
  process.exit()
}

const kv = { keys, values: valuesType }
const ids = (count) => Int32Array.from(tokens(count, model.config.vocabularySize))
let session
async function read(count) {
  await session?.close() // so that the next one reads all of its prompt itself
  session = model.session({ contextLength: context, kv })
  await session.forward(ids(count), { logits: 'none' })
}

await measurePrompts(read)
session ??= model.session({ contextLength: context, kv })
for (const count of decode) {
  const there = session.ids.length
  if (there >= count) await session.truncate(count - 1)
  else if (there < count - 1) await session.forward(ids(count - 1 - there), { logits: 'none' })
  const times = []
  let last = performance.now()
  const options = { maxTokens: STEPS, temperature: 0, ignoreEnd: true }
  for await (const piece of session.stream(ids(1), options)) {
    const now = performance.now()
    for (let i = 0; i < piece.ids.length; i++) times.push((now - last) / piece.ids.length)
    last = now
  }
  report('decode', count, times.slice(WARM))
}
await model.close()
