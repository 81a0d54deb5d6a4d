// evenShare: weights worked by hand, what stays whatever its weight, and the mixes that it is part of.
import t from 'tap'
import { methods } from '../../lib/index.js'
import { weightsOf } from '../../lib/methods/cache/even-share.js'
import { loadTiny } from '../engine.js'
import { randomIds } from '../numbers.js'
import { cacheSeen, keptRows, randomCache, shape, single } from './seen.js'

const columnSums = [[3, 0.2, 0.6, 0.7, 0.5]] // by 5, 4, 3, 2 and 1 queries
const attention = [[1.2, 0.1, 0.1, 0.2, 0.4]] // of two queries
const long = [0, 0, 2, 0]
const values = [[...[1, 0, 0, 0], ...[0, 1, 0, 0], ...long, ...[0, 0, 0, 1], ...[0.6, 0.8, 0, 0]]]
const seen = cacheSeen({ tokens: 5, shape: single, columnSums, attention, values })
const plain = { sinks: 0, recent: 0 }

t.test(
  'a weight: the mean of the queries that saw the row and the last ones, times the length of its value',
  async (t) => {
    const expected = [0.6 + 0.6, 0.05 + 0.05, 2 * (0.2 + 0.05), 0.35 + 0.1, 0.5 + 0.2]
    for (const [row, weight] of weightsOf(seen, 0).entries())
      t.ok(Math.abs(weight - (expected[row] as number)) < 1e-6, `${row}: ${weight}`)
    const narrow = cacheSeen({ tokens: 5, shape: { ...single, windows: [2] }, columnSums, attention, values })
    t.ok(Math.abs((weightsOf(narrow, 0)[0] as number) - (1.5 + 0.6)) < 1e-6, 'two queries saw it, in a window of two')
  },
)

t.test('rows under a share of the mean weight go', async (t) => {
  t.same(keptRows(methods.evenShare({ ...plain, under: 0.8 }), seen), [[0, 2, 4]], 'of .59: those under .472')
  t.same(keptRows(methods.evenShare({ ...plain, under: 1 }), seen), [[0, 4]])
  t.same(keptRows(methods.evenShare({ under: 1, sinks: 2, recent: 0.2 }), seen), [[0, 1, 4]])
  t.same(keptRows(methods.evenShare({ under: 1, sinks: 0, recent: 0.3 }), seen), [[0, 3, 4]], 'the newest, rounded up')
  const safe = cacheSeen({ tokens: 5, shape: single, columnSums, attention, values, safe: new Set([1]) })
  t.same(keptRows(methods.evenShare({ ...plain, under: 1 }), safe), [[0, 1, 4]], 'what is safe stays')
  t.same(keptRows(methods.evenShare({ ...plain, under: 1, heads: [[3, 0]] }), { ...seen, layer: 3 }), [[0, 1, 2, 3, 4]])
  t.same(keptRows(methods.evenShare({ ...plain, under: 1, heads: [[3, 0]] }), seen), [[0, 4]], 'of another layer')
  t.same(methods.evenShare({ under: 0 }).looks(shape), [], 'nothing is looked at where nothing can go')
  t.throws(() => methods.evenShare({ under: 17 }), { name: 'RangeError', message: /`under`/ })
})

t.test(
  'heads keep unlike numbers of rows, none loses more than its share, and nothing more goes the second time',
  async (t) => {
    for (const seed of [1, 2, 3]) {
      const many = randomCache(200, seed)
      const method = methods.evenShare({ under: 0.6, recent: 0.04 })
      const kept = keptRows(method, many)
      for (const [head, rows] of kept.entries()) {
        const weights = weightsOf(many, head)
        const all = weights.reduce((sum, weight) => sum + weight, 0)
        const lost = all - Array.from(rows).reduce((sum, row) => sum + (weights[row] as number), 0)
        t.ok(rows.length < 200 && lost <= 0.6 * all, `${rows.length} rows, ${lost / all} of the attention gone`)
      }
      t.not(kept[0]?.length, kept[1]?.length)
      const of = (rows: Float32Array, head: number, wide: number) =>
        Array.from(kept[head] ?? []).flatMap((row) => [...rows.subarray(row * wide, (row + 1) * wide)])
      const again = cacheSeen({
        tokens: 200,
        sources: kept,
        columnSums: kept.map((_, head) => of(many.columnSums(head), head, 1)),
        attention: kept.map((_, head) => of(many.attention(head), head, 1)),
        values: kept.map((_, head) => of(many.values(head), head, shape.headSize)),
      })
      t.same(keptRows(method, again), kept)
    }
  },
)

t.test('presets are options of a session', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const bytes: number[] = []
  for (const name of ['light', 'balanced', 'small'] as const) {
    const session = model.session({ ...methods.preset(name), contextLength: 1024 })
    await session.forward(randomIds(700, 3), { logits: 'none' })
    bytes.push(session.stats.kv.bytes / session.stats.kv.fullBytes)
    const plan = JSON.parse(JSON.stringify(session.plan))
    t.equal(plan.length > 0, name !== 'light')
  }
  t.ok((bytes[0] as number) > (bytes[1] as number) && (bytes[1] as number) > (bytes[2] as number), String(bytes))
  t.throws(() => methods.preset('tiny' as 'small'), {
    name: 'TypeError',
    message: /light, balanced, small for `preset`/,
  })
})

t.test('heads that fetch keep their rows, and finer keys where there is room', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const heads = [
    [0, 1],
    [1, 0],
    [1, 1],
  ] as const
  t.match(methods.preset('balanced', { heads }).kv.except, [
    { layers: [0, 1], heads: [1], keys: 'q8_0' },
    { layers: [1, 2], heads: [0, 1], keys: 'q8_0' },
  ])
  t.equal(methods.preset('small', { heads }).kv.except, undefined)
  t.equal(methods.preset('balanced', { heads: [] }).kv.except, undefined)
  for (const name of ['balanced', 'small'] as const) {
    const session = model.session({ ...methods.preset(name, { heads }), contextLength: 1024 })
    await session.forward(randomIds(700, 3), { logits: 'none' })
    for (const entry of session.plan) {
      const whole: number[] = heads.flatMap(([layer, head]) => (layer === entry.layer ? [head] : []))
      for (const [head, kept] of (entry.keptPerHead ?? []).entries())
        t.ok(kept.length === 700 || !whole.includes(head), `${entry.layer}.${head}: ${kept.length}`)
    }
  }
  t.throws(() => methods.preset('small', { heads: [[1]] as never }), { name: 'TypeError', message: /heads\[0\]/ })
  t.throws(() => methods.preset('small', { head: [] } as never), { name: 'TypeError', message: /\{ heads \}/ })
})

t.test(
  'no mass is summed for heads that keep every row; the others see what they saw, over prompts and steps',
  async (t) => {
    const { model } = await loadTiny(t, { headSize: 32 })
    const found = []
    for (const heads of [[], [[0, 1]]] as const) {
      const session = model.session({
        methods: [methods.evenShare({ under: 0.9, recent: 0.05, heads })],
        contextLength: 1024,
      })
      await session.forward(randomIds(300, 3), { logits: 'none' })
      const kept = session.plan.find(({ layer }) => layer === 0)?.keptPerHead
      for (const id of randomIds(8, 4)) await session.forward(Int32Array.of(id))
      await session.forward(randomIds(40, 5), { logits: 'none' })
      found.push({ kept, rows: session.stats.kv.layers[0]?.rows })
      await session.close()
    }
    const [all, named] = found
    t.same(named?.kept?.[0], all?.kept?.[0])
    t.ok((all?.kept?.[0]?.length ?? 300) < 300 && (all?.kept?.[1]?.length ?? 300) < 300, 'something goes')
    t.equal(named?.kept?.[1]?.length, 300)
    t.same(named?.rows?.[1], 348)
  },
)
