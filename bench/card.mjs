// All that is to be known of a model on a card, in one run, as Markdown: whether its kernels compute what they should,
// the card's limits and what is achieved of them, what dropping rows saves, and whether a split model says the same.
//   node bench/card.mjs [--model smollm2]… [--device cuda] [--prompt 512,2048,8192] [--decode 128,2048,8192] [--runs 3]
//                       [--tokens 48] [--steps 24]
// Needs a built checkout (npm run build, with nvcc: docs/cuda.md).
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { load, methods } = require('../dist/index.js')
const { native } = require('../dist/native.js')
const { resolveModel } = require('../dist/pull.js')
const { median } = require('../dist/cli/format.js')
const { randomIds } = require('../dist/cli/bench/context.js')
const program = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', multiple: true, default: ['smollm2'] },
    device: { type: 'string', default: 'cuda' },
    prompt: { type: 'string', default: '512,2048,8192' },
    decode: { type: 'string', default: '128,2048,8192' },
    runs: { type: 'string', default: '3' },
    tokens: { type: 'string', default: '48' },
    steps: { type: 'string', default: '24' },
  },
})
const say = (text) => console.log(`${text}\n`)

async function checkCards() {
  const cards = native().devices()
  if (cards.length === 0)
    throw new Error('expected a card: none was found (a driver, and a build with nvcc? docs/cuda.md)')
  for (const [card, { device, free, name }] of cards.entries()) {
    const fault = await native().checkDevice(card)
    const found = fault === '' ? 'its kernels compute what they should' : `not to be used: ${fault}`
    say(`${device}: ${name}, ${Math.round(free / 2 ** 20)} MiB free; ${found}.`)
  }
}

/** A section of tokensieve bench. */
function bench(section, ...more) {
  const models = args.model.flatMap((model) => ['-m', model])
  const words = ['--section', section, ...models, '--device', args.device, '--runs', args.runs, ...more]
  const stdio = ['ignore', 'pipe', 'inherit']
  const { status, stdout } = spawnSync(process.execPath, [program, 'bench', ...words], { encoding: 'utf8', stdio })
  if (status !== 0) throw new Error(`bench --section ${section} failed`)
  return stdout.trim()
}

/** Milliseconds of a decode step at `context`, and the rows of a KV head that it reads. */
async function stepAt(model, context, used) {
  const session = model.session({ methods: used, reuse: false, contextLength: context + 64 })
  try {
    await session.forward(randomIds(context, model.config.vocabularySize), { logits: 'none' })
    const times = []
    for (let step = 0; step < Number(args.steps); step++) {
      const before = performance.now()
      await session.forward(Int32Array.of(3), { logits: 'none' })
      if (step > 0) times.push(performance.now() - before)
    }
    const rows = session.stats.kv.layers.map(({ rows: of }) => median(of))
    return { time: median(times), rows: median(rows) }
  } finally {
    await session.close()
  }
}

/** What is left of a step's time when that at nearly no context is taken off is attention's: half of the rows should take half of it. */
async function halfTheRows(model, context) {
  const least = await stepAt(model, 8, [])
  const all = await stepAt(model, context, [])
  const half = await stepAt(model, context, [methods.snapkv({ keep: 0.5 })])
  const faster = (all.time - least.time) / (half.time - least.time)
  const ideal = (all.rows - least.rows) / (half.rows - least.rows)
  const numbers = `${all.rows} rows ${all.time.toFixed(3)} ms, ${half.rows} rows ${half.time.toFixed(3)} ms, ${least.rows} rows ${least.time.toFixed(3)} ms`
  return `| ${context} | ${numbers} | ${faster.toFixed(2)} x | ${ideal.toFixed(2)} x | ${((100 * faster) / ideal).toFixed(0)} % |`
}

async function textOn(path, device) {
  const model = await load(path, { device })
  try {
    const session = model.session()
    const prompt = 'The first thing that anybody said about the sea was that it is wide.'
    await session.generate(prompt, { maxTokens: Number(args.tokens), ignoreEnd: true })
    return [...session.ids]
  } finally {
    await model.close()
  }
}

/** Half of the layers on the processor, half on the card. */
async function split(path, layers) {
  const card = args.device === 'cuda' ? 'cuda:0' : args.device
  const half = layers >> 1
  const parts = [
    { layers: [0, half], device: 'cpu' },
    { layers: [half, layers], device: card },
  ]
  const [alone, whole, both] = [await textOn(path, 'cpu'), await textOn(path, card), await textOn(path, parts)]
  const against = (name, other) => {
    const differs = both.findIndex((id, i) => id !== other[i])
    return `${name}: ${differs < 0 ? 'the same text' : `other text from token ${differs} of ${both.length} on`}`
  }
  return `Layers 0 to ${half} on the processor, the rest on ${card}, beside ${against('the processor alone', alone)}; ${against('the card alone', whole)}.`
}

await checkCards()
say(bench('speed', '--prompt', args.prompt, '--decode', args.decode))
say(bench('dropping', '--prompt', args.prompt, '--decode', '', '--method', 'fastv:layer=1,keep=0.5'))
for (const name of args.model) {
  const path = resolveModel(name)
  const model = await load(path, { device: args.device })
  const { layers } = model.config
  say(`${name}: attention of a decode step with half of the rows dropped`)
  const lines = ['| context | measured | faster | ideal | of ideal |', '| ---: | --- | ---: | ---: | ---: |']
  for (const context of args.decode.split(',').map(Number).slice(-2)) lines.push(await halfTheRows(model, context))
  say(lines.join('\n'))
  await model.close()
  say(await split(path, layers))
}
