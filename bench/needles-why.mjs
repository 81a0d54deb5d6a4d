// Why methods lose needles: where the needle's rows go, and what the answer is worth when they are given back to the heads that fetch, to the others, to all.
//   node bench/needles-why.mjs --model FILE [--cases 5] [--keep 0.25] [--threads 1] [--part rows|options]
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { defineMethod, load, methods, retrievalHeads } from '../dist/index.mjs'
import { CACHE } from './needles-methods.mjs'

const require = createRequire(import.meta.url)
const { judge } = require('../dist/lab/judge.js')
const { caseOf, readContext, runCase } = require('../dist/lab/run.js')
const { bootstrap, meanOf } = require('../dist/lab/statistics.js')
const { taskOf } = require('../dist/lab/tasks/index.js')

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    cases: { type: 'string', default: '5' },
    keep: { type: 'string', default: '0.25' },
    length: { type: 'string', default: '1024' },
    threads: { type: 'string', default: '1' },
    part: { type: 'string', default: 'rows,options' },
  },
})
const keep = Number(values.keep)
const kv = 'f16'
const model = await load(values.model, { threads: Number(values.threads) })
const heads = await retrievalHeads(model, { echo: 0.05 })
const fetches = new Set(heads.map(String))

/** The plan of a method, as a method, with rows of `span` given back where `where(layer, head)`. */
function patched(plan, [begin, end], where) {
  const byLayer = new Map(plan.filter(({ keptPerHead }) => keptPerHead).map((entry) => [entry.layer, entry]))
  const back = Array.from({ length: end - begin }, (_, i) => begin + i)
  return defineMethod({
    name: 'patched',
    acts: 'cache',
    looks: { at: 'prompt', layers: [...byLayer.keys()] },
    decide(seen) {
      const entry = byLayer.get(seen.layer)
      if (!entry || seen.step > 0) return null
      const keptPerHead = entry.keptPerHead.map((kept, head) =>
        where(seen.layer, head) ? [...new Set([...kept, ...back])].sort((a, b) => a - b) : kept,
      )
      return { action: 'evict', layer: seen.layer, keptPerHead }
    },
  })()
}

/** The same rows by chance everywhere, or others in every head and layer. */
function chance(same) {
  return defineMethod({
    name: 'chance',
    acts: 'cache',
    options: { seed: 1 },
    looks: ({ layers }) => ({ at: 'prompt', layers: Array.from({ length: layers }, (_, layer) => layer) }),
    decide(seen, { seed }) {
      const score = (head, row) => {
        const x = Math.sin((row + 1) * 12.9898 + (same ? 0 : (seen.layer * 7 + head) * 78.233) + seed) * 43758.5453
        return x - Math.floor(x)
      }
      const keptPerHead = Array.from({ length: seen.shape.kvHeads }, (_, head) => {
        const rows = [...seen.sources(head)]
        const count = Math.ceil(keep * rows.length)
        const safe = (i) => i < 4 || i >= rows.length - 32
        const order = rows.map((_, i) => i).sort((a, b) => safe(b) - safe(a) || score(head, b) - score(head, a))
        return order
          .slice(0, count)
          .sort((a, b) => a - b)
          .map((i) => rows[i])
      })
      return { action: 'evict', layer: seen.layer, keptPerHead }
    },
  })
}

async function casesOf(query) {
  const task = taskOf('needle', {})
  // The last depth is left out: whoever keeps the newest rows has it.
  const places = task.places({ lengths: [Number(values.length)], depths: [0.1, 0.3, 0.5, 0.7, 0.9], seeds: 9 })
  const made = []
  for (let i = 0; made.length < Number(values.cases); i++) {
    const one = await caseOf(model, task, places[(i % 5) * 9 + Math.floor(i / 5)], query)
    const holder = await readContext(model, one, { kv, methods: [] })
    const full = await runCase(model, one, { kv, methods: [] })
    if (judge(full.reading, full.reading, one.answer).exact) made.push({ one, full, holder })
    else await holder.close()
  }
  return made
}

const ask = async ({ full, one }, method) => {
  const run = await runCase(model, one, { kv, methods: [method].flat() })
  return { ...judge(full.reading, run.reading, one.answer), ...run, share: run.bytes / full.bytes }
}
const two = (value) => value.toFixed(2).replace('-', '−')
const share = (value) => `${Math.round(100 * value)} %`

/** Rows of the needle that stay, and answers with them given back. */
async function rowsOf(query, cases) {
  const names = ['random', 'recent', ...CACHE.filter((name) => name !== 'streamingLlm')] // which is `recent` here
  for (const name of names) {
    const seen = []
    for (const at of cases) {
      const alone = await ask(at, methods[name]({ keep }))
      const [begin, end] = at.one.span
      const stay = (wanted) => {
        const shares = alone.plan.flatMap(({ keptPerHead, layer }) =>
          (keptPerHead ?? []).flatMap((kept, head) =>
            fetches.has(`${layer},${head}`) === wanted
              ? [kept.filter((row) => row >= begin && row < end).length / (end - begin)]
              : [],
          ),
        )
        return meanOf(shares)
      }
      const given = async (where) => (await ask(at, patched(alone.plan, at.one.span, where))).logprob
      const isFetching = (layer, head) => fetches.has(`${layer},${head}`)
      seen.push({
        fetching: stay(true),
        others: stay(false),
        alone: alone.logprob,
        toFetching: await given(isFetching),
        toOthers: await given((layer, head) => !isFetching(layer, head)),
        toAll: await given(() => true),
      })
    }
    const of = (what) => meanOf(seen.map((one) => one[what]))
    const cells = [
      share(of('fetching')),
      share(of('others')),
      ...['alone', 'toFetching', 'toOthers', 'toAll'].map((what) => two(of(what))),
    ]
    console.log(`| \`${name}\` | ${query} | ${cells.join(' | ')} |`)
  }
}

const llm = (layers) => methods.llmDrop({ layers })
const VARIANTS = [
  ['snapkv({ window: 8 })', () => methods.snapkv({ keep, window: 8 })],
  ['snapkv({ window: 4 })', () => methods.snapkv({ keep, window: 4 })],
  ['h2o', () => methods.h2o({ keep, every: 0 })],
  ['h2o({ recent: 0.1 })', () => methods.h2o({ keep, every: 0, recent: 0.1 })],
  ['expectedAttention', () => methods.expectedAttention({ keep })],
  ['expectedAttention({ epsilon: 0.02 })', () => methods.expectedAttention({ keep, epsilon: 0.02 })],
  ['lagKv({ lag: 32 })', () => methods.lagKv({ keep, lag: 32 })],
  ['chance, other rows in every head', () => chance(false)()],
  ['chance, the same rows everywhere', () => chance(true)()],
  ['evenShare', () => methods.evenShare()],
  ['evenShare({ heads })', () => methods.evenShare({ heads })],
  ['zipVl', () => methods.zipVl()],
  ["zipVl({ prefill: 'dense' })", () => methods.zipVl({ prefill: 'dense' })],
  ['llmDrop, layers 20, 22, 23, 24', () => llm([20, 22, 23, 24])],
  ['llmDrop, layers 10, 11, 12, 13', () => llm([10, 11, 12, 13])],
  ['fastv({ layer: 2 })', () => methods.fastv({ keep })],
  ['fastv({ layer: 16 })', () => methods.fastv({ keep, layer: 16 })],
  ['fastv({ layer: 25 })', () => methods.fastv({ keep, layer: 25 })],
  ['pyramidDrop', () => methods.pyramidDrop()],
]

async function optionsOf(query, cases) {
  for (const [name, make] of VARIANTS) {
    const found = []
    for (const at of cases) found.push(await ask(at, make()))
    const { high, low, mean } = bootstrap(found.map(({ logprob }) => logprob))
    const exact = meanOf(found.map((one) => one.exact))
    console.log(
      `| ${name} | ${query} | ${share(meanOf(found.map((one) => one.share)))} | ${two(mean)} [${two(low)}, ${two(high)}] | ${share(exact)} |`,
    )
  }
}

for (const query of ['after', 'before']) {
  const cases = await casesOf(query)
  if (values.part.includes('rows')) await rowsOf(query, cases)
  if (values.part.includes('options')) await optionsOf(query, cases)
  for (const { holder } of cases) await holder.close()
}
await model.close()
