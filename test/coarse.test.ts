// Rows in two precisions by importance: what is seen of them, how many bytes they take, and that sessions carry them.
import { join } from 'node:path'
import t from 'tap'
import {
  type CacheSeen,
  type Decision,
  defineMethod,
  type KvTypes,
  type Method,
  methods,
  type PlanEntry,
  type Session,
} from '../lib/index.js'
import { packedRows } from '../lib/kv-heads.js'
import { apart, loadTiny, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { generator, randomIds } from './numbers.js'

const N = 230
const ids = randomIds(N, 91)
const more = randomIds(60, 92)
const SIZE = 32
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

type Rows = { sources: Int32Array; keys: Float32Array; values: Float32Array; attention: Float32Array }

/** Makes a share of the rows of a call that are not coarse yet coarse, by chance; writes down what it sees, [step][layer][head]. */
function byChance(share: number, found: Rows[][][] = [], steps: readonly number[] = [0]): Method {
  return defineMethod({
    name: 'byChance',
    acts: 'cache',
    looks: [
      { at: 'prompt', needs: [{ what: 'attention', rows: 4 }, { what: 'columnSums' }] },
      { at: 'decode', every: 1, needs: [{ what: 'attention', rows: 1 }] },
    ],
    decide(seen) {
      const { attention, keys, layer, shape, sources, step, values } = seen as CacheSeen
      const heads = range(0, shape.kvHeads)
      found[step] ??= []
      ;(found[step] as Rows[][])[layer] = heads.map((h) => ({
        sources: sources(h).slice(),
        keys: keys(h).slice(),
        values: values(h).slice(),
        attention: attention(h).slice(),
      }))
      if (!steps.includes(step)) return null
      const coarsePerHead = heads.map((head) => {
        const next = generator(1000 * step + 10 * layer + head)
        return [...sources(head)].filter(() => next() < share)
      })
      return { action: 'coarsen', layer, coarsePerHead } as Decision
    },
  })()
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * (y[i] as number), 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

async function run(session: Session): Promise<Float32Array[]> {
  const calls = [more.subarray(0, 1), more.subarray(1, 2), more.subarray(2, 50), more.subarray(50, 51)]
  const logits: Float32Array[] = []
  for (const call of calls) logits.push(await session.forward(call))
  return logits
}

/** What the cache of a session takes in pages, from its plan: each head's coarse rows in pages of their own, the rest as if there were no others. */
function predicted(session: Session, kv: { type: 'f16' | 'kivi4'; sinks: number; recent: number }): number[] {
  const row = { f16: 2 * SIZE, kivi4: SIZE / 2 + 4, kivi2: SIZE / 4 + 4 } // keys and values have scales of 4 bytes: a channel of 32 rows, 32 channels of a row
  const coarse = new Map<number, number[]>()
  for (const { coarsePerHead, layer } of session.plan as PlanEntry[])
    if (coarsePerHead)
      coarse.set(
        layer,
        coarsePerHead.map(({ length }) => length),
      )
  return session.stats.kv.layers.map(({ rows }, layer) => {
    let bytes = 0
    for (const [head, all] of rows.entries()) {
      const there = coarse.get(layer)?.[head] ?? 0
      const rest = all - there
      const pages = (n: number) => 32 * Math.ceil(n / 32)
      bytes += 2 * pages(there) * row.kivi2
      if (kv.type === 'f16') {
        bytes += 2 * pages(rest) * row.f16
        continue
      }
      const packed = packedRows(rest, { ...kv, keys: 'kivi4', values: 'kivi4' } as never)
      const open = rest - kv.sinks - packed
      const lead = packed === 0 ? kv.sinks : 0
      bytes += (16 + kv.sinks) * row.f16 + 2 * pages(open + lead) * row.f16
      bytes += packed === 0 ? 0 : 2 * pages(kv.sinks + packed) * row.kivi4
    }
    return bytes
  })
}

t.test('bytes are those of the plan to the page; what is not coarse stays as it was', async (t) => {
  const { model } = await loadTiny(t, { headSize: SIZE })
  for (const type of ['f16', 'kivi4'] as const) {
    const [sinks, recent] = type === 'f16' ? [0, 0] : [4, 32]
    for (const share of [0.1, 0.5, 0.8]) {
      const chosen = defineMethod({
        name: 'chosen',
        acts: 'cache',
        looks: { at: 'prompt' },
        decide: (seen) => {
          const next = generator(seen.at === 'prompt' ? seen.layer : 0)
          const { layer, shape, sources } = seen as CacheSeen
          const rows = range(0, shape.kvHeads).map((h) => [...sources(h)].filter((s) => s >= sinks && next() < share))
          return { action: 'coarsen', layer, coarsePerHead: rows } as Decision
        },
      })
      const session = model.session({ kv: type, methods: [chosen()] })
      await session.forward(ids, { logits: 'none' })
      const { layers } = session.stats.kv
      for (const [layer, pages] of predicted(session, { type, sinks, recent }).entries()) {
        const { bytes, rows } = layers[layer] as { bytes: number; rows: readonly number[] }
        const tables = rows.length * (4 * (1.5 * N + 16) + 2 * 16 * (1.5 * 10 + 8)) // runs of sources, and where pages are
        t.ok(bytes >= pages && bytes < pages + tables, `${type} ${share} layer ${layer}: ${bytes} for ${pages}`)
      }
      t.match(session.plan[0], { action: 'coarsen', method: 'chosen' })
      await session.close()
    }
  }
})

t.test('rows are seen by their tokens whatever their order in the cache', async (t) => {
  const { model } = await loadTiny(t, { headSize: SIZE })
  const [found, plain] = [[], []] as [Rows[][][], Rows[][][]]
  const mixed = model.session({ methods: [byChance(0.5, found)] })
  const whole = model.session({ methods: [byChance(0, plain)] })
  for (const session of [mixed, whole]) {
    await session.forward(ids, { logits: 'none' })
    await run(session)
  }
  for (const step of [1, 2, 3, 4]) {
    for (const [layer, heads] of (found[step] as Rows[][]).entries()) {
      const { coarsePerHead } = mixed.plan.find((entry) => entry.layer === layer) as PlanEntry
      for (const [head, rows] of heads.entries()) {
        const full = plain[step]?.[layer]?.[head] as Rows
        t.same(rows.sources, full.sources)
        const coarse = new Set(coarsePerHead?.[head])
        for (const side of ['keys', 'values'] as const) {
          const off = (wanted: boolean) =>
            Math.max(
              ...range(0, N)
                .filter((row) => coarse.has(row) === wanted)
                .map((row) =>
                  apart(
                    rows[side].subarray(row * SIZE, (row + 1) * SIZE),
                    full[side].subarray(row * SIZE, (row + 1) * SIZE),
                  ),
                ),
            )
          const most = Math.max(...full[side].map(Math.abs))
          if (off(false) !== 0) t.fail(`${side} of rows that are not coarse are off by ${off(false)}`)
          if (!(off(true) > 0 && off(true) < 0.5 * most)) t.fail(`coarse ${side} are off by ${off(true)} of ${most}`)
        }
        const sum = rows.attention.reduce((all, value) => all + value, 0)
        t.ok(Math.abs(sum - (step === 3 ? 4 : 1)) < 1e-4, 'every row is attended to')
        if (layer === 0) t.ok(cosine(rows.attention, full.attention) > 0.5)
      }
    }
  }
  const near = await mixed.attention(more.subarray(51, 54), { layer: 0, rows: [-1] })
  const far = await whole.attention(more.subarray(51, 54), { layer: 0, rows: [-1] })
  t.ok(near.every((p) => p > 0))
  t.ok(cosine(near, far) > 0.3 + cosine(near.subarray(1), far), 'each at its token')
})

for (const kv of ['f16', 'kivi4', 'q4_0', { keys: 'kivi4', values: 'q4_0' }] as KvTypes[]) {
  t.test(
    `${JSON.stringify(kv)}: forks, files and plans go on as the session does, and what is truncated is gone`,
    async (t) => {
      const { model } = await loadTiny(t, { headSize: SIZE })
      const make = () => byChance(0.6, [], [0, 2, 3])
      const session = model.session({ kv, methods: [make()] })
      await session.forward(ids, { logits: 'none' })
      const path = join(scratch(t), 'session.bin')
      await session.save(path)
      const twin = await session.fork()
      const restored = await model.restore(path, { methods: [make()] })
      const wanted = await run(session)
      for (const own of [twin, restored]) {
        for (const [i, logits] of (await run(own)).entries()) t.ok(same(logits, wanted[i] as Float32Array), `call ${i}`)
        t.same(
          own.stats.kv.layers.map(({ rows }) => rows),
          session.stats.kv.layers.map(({ rows }) => rows),
        )
      }
      const again = model.session({ kv, plan: JSON.parse(JSON.stringify(session.plan)) })
      await again.forward(ids, { logits: 'none' })
      for (const [i, logits] of (await run(again)).entries())
        t.ok(same(logits, wanted[i] as Float32Array), `plan, call ${i}`)
      t.same(again.plan, session.plan)
      session.truncate(150)
      t.same(session.stats.kv.layers[1]?.rows, [150, 150])
      const cut = join(scratch(t), 'cut.bin')
      await session.save(cut)
      const short = await model.restore(cut, { methods: [make()] })
      t.ok(same(await session.forward(more.subarray(0, 1)), await short.forward(more.subarray(0, 1))))
    },
  )
}

t.test('batches, threads and pieces change no bit; no coarse row is no change at all', async (t) => {
  const { model, path } = await loadTiny(t, { headSize: SIZE })
  const first = model.session({ kv: 'kivi4', methods: [byChance(0.5)] })
  const none = model.session({ kv: 'kivi4', methods: [byChance(0)] })
  const plain = model.session({ kv: 'kivi4' })
  await Promise.all([first, none, plain].map((session) => session.forward(ids, { logits: 'none' })))
  const [mixed, same0, same1] = await Promise.all([first, none, plain].map(run))
  for (const [i, logits] of (same0 as Float32Array[]).entries()) t.ok(same(logits, same1?.[i] as Float32Array))
  t.same(
    none.plan.filter(({ action }) => action === 'coarsen'),
    [],
  )
  const other = await (await import('./engine.js')).loadWith(path, 'auto', 1)
  t.teardown(() => other.close())
  const alone = other.session({ kv: 'kivi4', methods: [byChance(0.5)] })
  await alone.forward(ids, { logits: 'none' })
  for (const [i, logits] of (await run(alone)).entries()) t.ok(same(logits, mixed?.[i] as Float32Array))
})

const rows = (lists: number[][]) => () => ({ action: 'coarsen', coarsePerHead: lists }) as Partial<Decision>

function saying(decision: () => Partial<Decision>, more: object = {}): Method {
  return defineMethod({
    name: 'saying',
    acts: 'cache',
    looks: { at: 'prompt' },
    decide: (seen) => ({ layer: (seen as CacheSeen).layer, ...decision() }) as Decision,
    ...more,
  })()
}

t.test('what rows of two precisions do not go with is refused, and nothing has happened', async (t) => {
  const { model } = await loadTiny(t, { headSize: SIZE })
  const refused = async (method: Method, code: string) => {
    const session = model.session({ methods: [method] })
    t.match(await raised(() => session.forward(ids, { logits: 'none' })), { code }, method.name)
    t.equal(session.ids.length, 0)
    await session.close()
  }
  await refused(saying(rows([[1, 2]])), 'ERR_PLAN')
  await refused(saying(rows([[2, 1], []])), 'ERR_PLAN')
  await refused(saying(rows([[1], [N]])), 'ERR_PLAN')
  await refused(saying(rows([[1], [2]]), { repack: true }), 'ERR_UNSUPPORTED')
  const rule = { action: 'rule', rule: { kind: 'window', sinks: 4, tokens: 50, share: 0 } } as const
  const ruled = defineMethod({
    name: 'ruled',
    acts: 'cache',
    looks: [{ at: 'session' }, { at: 'prompt' }],
    decide: (seen) =>
      (seen.at === 'session'
        ? range(0, seen.shape.layers).map((layer) => ({ ...rule, layer }))
        : { layer: (seen as CacheSeen).layer, ...rows([[1], [2]])() }) as Decision,
  })
  await refused(ruled(), 'ERR_UNSUPPORTED')
})

t.test('rows do not fold where some are coarse', async (t) => {
  const { model } = await loadTiny(t, { headSize: SIZE })
  const folding = defineMethod({
    name: 'folding',
    acts: 'cache',
    looks: [{ at: 'prompt' }, { at: 'decode', every: 1 }],
    decide(seen) {
      const { at, layer, shape, sources } = seen as CacheSeen
      if (at === 'prompt') return { layer, ...rows([[1], [2]])() } as Decision
      const keptPerHead = range(0, shape.kvHeads).map((head) => sources(head).slice(0, -1))
      const folds = keptPerHead.map(() => ({ from: [N], into: [0], weights: [0.5] }))
      return { action: 'evict', layer, keptPerHead, folds } as Decision
    },
  })
  const session = model.session({ methods: [folding()] })
  await session.forward(ids, { logits: 'none' })
  t.match(await raised(() => session.forward(more.subarray(0, 1))), { code: 'ERR_UNSUPPORTED' })
})

t.test('layers with a window keep one precision', async (t) => {
  const { model } = await loadTiny(t, { architecture: 'gemma3', layers: 6, headSize: SIZE })
  const windowed = model.session({ methods: [saying(rows([[1]]))] })
  t.match(await raised(() => windowed.forward(ids)), { code: 'ERR_PLAN', message: /window/ })
  const mixing = model.session({
    kv: 'kivi4',
    methods: [methods.zipVl({ lowPrecision: 'kivi2', tau: 0.5, rows: 8 })],
  })
  await mixing.forward(ids, { logits: 'none' })
  const layers = mixing.plan.filter(({ action }) => action === 'coarsen').map(({ layer }) => layer)
  t.same(layers, [2, 5])
})

t.test('rows that are coarse can be evicted as others can', async (t) => {
  const { model } = await loadTiny(t, { headSize: SIZE })
  const method = defineMethod({
    name: 'both',
    acts: 'cache',
    looks: [{ at: 'prompt' }, { at: 'decode', every: 1 }],
    decide(seen) {
      const { at, layer, shape, sources } = seen as CacheSeen
      const of = (wanted: (source: number) => boolean) => range(0, shape.kvHeads).map((h) => sources(h).filter(wanted))
      if (at === 'prompt') return { action: 'coarsen', layer, coarsePerHead: of((s) => s % 3 === 1) } as Decision
      return { action: 'evict', layer, keptPerHead: of((s) => s % 2 === 0 || s > 200) } as Decision
    },
  })
  const session = model.session({ kv: 'kivi4', methods: [method()] })
  await session.forward(ids, { logits: 'none' })
  const before = session.stats.kv.bytes
  await session.forward(more.subarray(0, 1))
  t.same(session.stats.kv.layers[0]?.rows, [101 + 30, 101 + 30])
  t.ok(session.stats.kv.bytes < before)
  const twin = await session.fork()
  t.ok(same(await session.forward(more.subarray(1, 2)), await twin.forward(more.subarray(1, 2))))
})
