// Rows that fold into others before they go: what is in the cache then, and what attention makes of it.
import t from 'tap'
import { type CacheSeen, defineMethod, type Method, methods, type Session } from '../lib/index.js'
import { apart, loadTiny, raised } from './engine.js'
import { randomIds } from './numbers.js'
import { type CacheRow, Reference, type Vector } from './reference-model.js'

type Fold = { from: number[]; into: number[]; weights: number[] }
type Seen = { sources: number[]; keys: Float32Array; values: Float32Array }
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const kept = [0, 2, 5, 6, 7]
/** CaM: row 1 goes with a weight of 3/4, spread over the three rows after it; row 3 into row 2, of which a half stays. */
const fold: Fold = { from: [1, 1, 1, 3, 2], into: [2, 5, 6, 2, 2], weights: [0.25, 0.25, 0.25, 0.5, 0.5] }

/** Writes down what it sees; at the first call it evicts with folds. */
function folding(found: Seen[][], more: { keys?: boolean; fold?: Fold; kept?: number[] } = {}): Method {
  return defineMethod({
    name: 'folding',
    acts: 'cache',
    looks: { at: 'prompt' },
    decide(seen) {
      const { keys, layer, shape, sources, step, values } = seen as CacheSeen
      const heads = range(0, shape.kvHeads)
      const views = heads.map((head) => ({ sources: [...sources(head)], keys: keys(head), values: values(head) }))
      if (layer === 1) found.push(views)
      if (step > 0) return null
      const folds = heads.map(() => more.fold ?? fold)
      return {
        action: 'evict',
        layer,
        keptPerHead: heads.map(() => more.kept ?? kept),
        folds,
        keys: more.keys ?? false,
      }
    },
  })()
}

/** The row of a token after the fold, from what was seen before it. */
function expected(before: Seen, side: 'keys' | 'values', token: number, size: number): number[] {
  const row = (source: number) => before[side].subarray(before.sources.indexOf(source) * size).subarray(0, size)
  const pairs = fold.from.map((from, i) => [from, fold.into[i], fold.weights[i]] as [number, number, number])
  const own = pairs.find(([from, into]) => from === token && into === token)?.[2] ?? 1
  const out = Array.from(row(token), (x) => own * x)
  for (const [from, into, weight] of pairs)
    if (into === token && from !== token)
      for (const [d, x] of row(from).entries()) out[d] = (out[d] as number) + weight * x
  return out
}

for (const [kv, tolerance] of [
  ['f32', 1e-6],
  ['f16', 2e-3],
  ['q8_0', 0.03],
] as const) {
  t.test(`${kv}: values fold, keys where asked`, async (t) => {
    const { model, tiny } = await loadTiny(t, { headSize: 32 }, { isa: 'reference' })
    const size = tiny.config.headSize
    for (const withKeys of [false, true]) {
      const found: Seen[][] = []
      const session = model.session({ kv, methods: [folding(found, { keys: withKeys })] })
      await session.forward(randomIds(8, 3))
      await session.forward(randomIds(2, 4))
      const [before = [], after = []] = found
      for (const [head, now] of after.entries()) {
        t.same(now.sources, [...kept, 8, 9])
        for (const [place, token] of kept.entries()) {
          const at = (side: 'keys' | 'values') => now[side].subarray(place * size, (place + 1) * size)
          t.ok(apart(at('values'), expected(before[head] as Seen, 'values', token, size)) < tolerance, `value ${token}`)
          const key = before[head]?.keys.subarray(token * size, (token + 1) * size) ?? []
          const wanted = withKeys ? expected(before[head] as Seen, 'keys', token, size) : key
          t.ok(apart(at('keys'), wanted) <= (withKeys ? tolerance : 0), `key ${token}`)
        }
      }
      t.match(session.plan[0], { action: 'evict', after: 5 * tiny.config.kvHeads, folds: before.map(() => fold) })
      t.equal(session.plan[0]?.keys, withKeys ? true : undefined)
      const replay = model.session({ kv, plan: session.plan })
      await replay.forward(randomIds(8, 3))
      t.same(
        replay.plan,
        session.plan.map(({ scores, ...entry }) => entry),
        'the plan given back',
      )
      await Promise.all([session.close(), replay.close()])
    }
  })
}

t.test('a fork keeps its own rows, and folds that do not fit change nothing', async (t) => {
  const { model } = await loadTiny(t, {}, { isa: 'reference' })
  const session = model.session({ kv: 'f32', methods: [folding([])] })
  await session.forward(randomIds(8, 3))
  const twin = await session.fork()
  t.ok(apart(await session.forward(randomIds(1, 5)), await twin.forward(randomIds(1, 5))) === 0)
  const cases: [Partial<Parameters<typeof folding>[1] & object>, RegExp][] = [
    [{ fold: { from: [1], into: [3], weights: [1] } }, /folds into rows that stay of layer 0 head 0 but received 3/],
    [{ fold: { from: [2], into: [5], weights: [1] } }, /rows that go to fold of layer 0 head 0 but received 2/],
    [{ fold: { from: [9], into: [5], weights: [1] } }, /rows that go to fold .* received 9/],
    [{ fold: { from: [1], into: [5], weights: [Number.NaN] } }, /finite weights .* received NaN/],
    [{ fold: { from: [1], into: [5, 6], weights: [1] } }, /as many rows, targets and weights .* received 1, 2, 1/],
  ]
  for (const [more, message] of cases) {
    const other = model.session({ methods: [folding([], more)] })
    const error = await raised(() => other.forward(randomIds(8, 3)))
    t.equal(error.code, 'ERR_PLAN')
    t.match(error.message, message)
    t.equal(other.ids.length, 0)
    await other.close()
  }
})

/** The oracle's rows between sinks and newest, as one: the mean, weighted by sizes, of keys and values. */
function compensate(oracle: Reference, layer: number, head: number, sinks: number, recent: number): void {
  const rows = oracle.alive(layer, head)
  const middle = rows.slice(sinks, rows.length - recent)
  const size = middle.reduce((sum, row) => sum + row.size, 0)
  const mean = (read: (row: CacheRow) => Vector) =>
    read(middle[0] as CacheRow).map(
      (_, d) => middle.reduce((sum, row) => sum + row.size * (read(row)[d] as number), 0) / size,
    )
  const [rotated, value] = [mean((row) => row.rotated), mean((row) => row.value)]
  const cache = oracle.cache[layer]?.[head] ?? []
  for (const row of middle.slice(1)) row.alive = false
  cache[cache.indexOf(middle[0] as CacheRow)] = { ...(middle[0] as CacheRow), rotated, value, size }
}

t.test('razorAttention: the row of the middle counts as all that it holds, also after the next prompt', async (t) => {
  const { model, tiny } = await loadTiny(t, {}, { isa: 'reference' })
  const oracle = new Reference(tiny)
  const heads = [
    [0, 1],
    [2, 0],
  ]
  const session: Session = model.session({
    kv: 'f32',
    methods: [methods.razorAttention({ heads, keep: { tokens: 12 } })],
  })
  for (const [call, ids] of [
    randomIds(40, 1),
    randomIds(1, 2),
    randomIds(9, 3),
    randomIds(1, 4),
    randomIds(1, 5),
  ].entries()) {
    const logits = await session.forward(ids)
    const run = oracle.run(ids)
    t.ok(apart(logits, run.logits.at(-1) ?? []) < 2e-4, `call ${call}: ${apart(logits, run.logits.at(-1) ?? [])}`)
    if (ids.length === 1) continue
    for (let layer = 0; layer < tiny.config.layers; layer++)
      for (let head = 0; head < tiny.config.kvHeads; head++)
        if (!heads.some(([l, h]) => l === layer && h === head)) compensate(oracle, layer, head, 4, 7)
  }
  t.same(session.stats.kv.layers[0]?.rows, [14, 52], 'twelve and two decode steps; everything')
})

t.test('cam: what leaves at a decode step is in the rows after it at the next', async (t) => {
  const { model, tiny } = await loadTiny(t, { headSize: 32 }, { isa: 'reference' })
  const size = tiny.config.headSize
  const found: Seen[][] = []
  const watch = defineMethod({
    name: 'watch',
    acts: 'probe',
    looks: { at: 'decode', every: 1, layers: [2] },
    decide(seen) {
      const { keys, sources, values } = seen as CacheSeen
      found.push(range(0, 2).map((head) => ({ sources: [...sources(head)], keys: keys(head), values: values(head) })))
      return null
    },
  })()
  const cam = methods.cam({ of: methods.recent({ sinks: 2 }), keep: { tokens: 12 }, window: 3, every: 1 })
  const session = model.session({ kv: 'f32', methods: [watch, cam] })
  await session.forward(randomIds(20, 6), { logits: 'none' })
  for (const seed of [7, 8, 9]) await session.forward(randomIds(1, seed), { logits: 'none' })
  const entries = session.plan.filter(({ layer, phase }) => layer === 2 && phase === 'decode')
  t.equal(entries.length, 3)
  for (const [step, entry] of entries.slice(0, 2).entries()) {
    for (const [head, { from, into, weights }] of (entry.folds ?? []).entries()) {
      const [before, after] = [found[step]?.[head] as Seen, found[step + 1]?.[head] as Seen]
      t.same([...new Set(from)], [before.sources[2]], 'the first row behind the sinks')
      for (const [place, source] of (entry.keptPerHead?.[head] ?? []).entries()) {
        const added = range(0, from.length).filter((i) => into[i] === source)
        const row = (seen: Seen, at: number) => seen.values.subarray(at * size, (at + 1) * size)
        const expected = Array.from(row(before, before.sources.indexOf(source)), (value, d) =>
          added.reduce((sum, i) => sum + (weights[i] as number) * (row(before, 2)[d] as number), value),
        )
        t.ok(apart(row(after, place), expected) < 1e-6, `row ${source}`)
      }
    }
  }
})

t.test('ems: native finds the row most like each that folds', async (t) => {
  const { model, tiny } = await loadTiny(t, { headSize: 32 })
  const size = tiny.config.headSize
  const found: Seen[][] = []
  const watch = defineMethod({
    name: 'watch',
    acts: 'probe',
    looks: { at: 'prompt', layers: [2] },
    decide(seen) {
      const { keys, sources, values } = seen as CacheSeen
      found.push(range(0, 2).map((head) => ({ sources: [...sources(head)], keys: keys(head), values: values(head) })))
      return null
    },
  })()
  const ems = methods.ems({ keep: 0.3, window: 4, relevant: 1, similar: 0.05 })
  const session = model.session({ kv: 'f32', methods: [watch, ems] })
  await session.forward(randomIds(90, 8), { logits: 'none' })
  const entry = session.plan.find(({ layer }) => layer === 2)
  let folded = 0
  for (const [head, { from, into }] of (entry?.folds ?? []).entries()) {
    const seen = found[0]?.[head] as Seen
    const cosine = (side: 'keys' | 'values', a: number, b: number) => {
      const [x, y] = [a, b].map((row) => seen[side].subarray(row * size, (row + 1) * size)) as unknown as [
        Float32Array,
        Float32Array,
      ]
      const dot = (one: Float32Array, two: Float32Array) =>
        one.reduce((sum, value, d) => sum + value * (two[d] as number), 0)
      return Math.max(0, dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y)))
    }
    const alike = (a: number, b: number) => cosine('keys', a, b) * cosine('values', a, b)
    const centres = (entry?.keptPerHead?.[head] ?? []).filter((source) => source !== 0)
    for (const [i, row] of from.entries()) {
      if (row === into[i]) continue
      const most = Math.max(...centres.map((centre) => alike(row, centre)))
      t.ok(Math.abs(alike(row, into[i] as number) - most) < 1e-6 && most >= 0.05, `${row} into ${into[i]}`)
      folded++
    }
  }
  t.ok(folded > 20, `${folded} rows`)
})
