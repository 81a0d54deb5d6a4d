// tokensieve's side, through its public surface, from the built checkout.
import {
  context,
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

const { load } = await import('../dist/index.mjs')
const model = await load(path, { threads })

if (start) {
  await model.session({ contextLength: 512 }).generate(GREETING, { maxTokens: 1 })
  report('start', 1, [performance.now()])
  await model.close()
  process.exit()
}

const open = () => model.session({ contextLength: context, kv: { keys, values: valuesType }, reuse: false })
const ids = (from, to) => Int32Array.from(tokens(from, to))
let session
async function read(count) {
  await session?.close()
  session = open()
  await session.forward(ids(0, count), { logits: 'none' })
}

await measurePrompts(read)
session ??= open()
for (const count of decode) {
  const there = session.ids.length
  if (there >= count) await session.truncate(count - 1)
  else if (there < count - 1) await session.forward(ids(there, count - 1), { logits: 'none' })
  const times = []
  let last = performance.now()
  const options = { maxTokens: STEPS, temperature: 0, ignoreEnd: true }
  for await (const piece of session.stream(ids(count - 1, count), options)) {
    const now = performance.now()
    for (let i = 0; i < piece.ids.length; i++) times.push((now - last) / piece.ids.length)
    last = now
  }
  reportSteps(count, times)
}
await model.close()
