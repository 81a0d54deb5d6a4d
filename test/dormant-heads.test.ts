// Dormant heads: the entropies of the card by hand, a report against what the oracle's own attention says, and sinks that are protected.
import t from 'tap'
import { entropiesOf } from '../lib/dormant-heads.js'
import { activeDormantHeads, methods } from '../lib/index.js'
import { loadTiny, raised } from './engine.js'
import { randomIds } from './numbers.js'
import { Reference } from './reference-model.js'

const causal = (n: number, weight: (row: number, column: number) => number) =>
  Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (j <= i ? weight(i, j) : 0)))
const near = (a: number, b: number) => Math.abs(a - b) < 5e-4

t.test('entropies of four rows: all on the first, even, each on itself', async (t) => {
  const sink = entropiesOf(causal(4, (_, j) => Number(j === 0)))
  t.ok(near(sink.row, 0) && near(sink.column, 1), JSON.stringify(sink))
  const even = entropiesOf(causal(4, (i) => 1 / (i + 1)))
  t.ok(near(even.row, 0.75) && near(even.column, 0.985), JSON.stringify(even))
  t.same(entropiesOf(causal(4, (i, j) => Number(i === j))), { row: 0, column: 0 })
})

t.test('a report says what the attention of each head does', async (t) => {
  const { model, tiny } = await loadTiny(t, { layers: 4 }, { isa: 'reference' })
  const { heads, kvHeads, layers } = tiny.config
  const ids = randomIds(12, 3)
  const watch = Array.from({ length: layers }, (_, layer) => layer)
  const run = new Reference(tiny).run(ids, { watch })
  const found = await activeDormantHeads(model, ids)
  t.equal(found.heads.length, heads * layers)
  for (const { columnEntropy, dormant, head, kvHead, layer, rowEntropy, sink } of found.heads) {
    const matrix = Array.from(ids.keys(), (row) => {
      const line = run.attention.get(layer)?.get(row)?.[head]
      return Array.from(ids.keys(), (column) => line?.get(column) ?? 0)
    })
    const expected = entropiesOf(matrix)
    t.ok(Math.abs(rowEntropy - expected.row) < 1e-3 && Math.abs(columnEntropy - expected.column) < 1e-3)
    t.ok(Math.abs(sink - matrix.reduce((sum, line) => sum + (line[0] as number), 0) / 12) < 1e-3)
    t.equal(kvHead, Math.floor((head * kvHeads) / heads))
    t.equal(dormant, rowEntropy < 0.2 && columnEntropy > 0.8)
  }
  t.same(found.dormant, [], 'weights by chance have no dormant head')
  t.same(found.sinks, [0], 'nor other sinks')
  const all = await activeDormantHeads(model, ids, { rows: 1, columns: 0, peak: 1 })
  t.equal(all.dormant.length, kvHeads * layers)
  t.ok(all.sinks.length > 3 && all.sinks.includes(0), 'half of the rows are larger than the median')
  const error = await raised(() => activeDormantHeads(model, ids.subarray(0, 1)))
  t.match(error, { name: 'RangeError', message: /2 to 256 tokens for `prompt` but received 1/ })
  t.equal((await raised(() => activeDormantHeads(model, ids, { rows: 2 }))).name, 'RangeError')
})

t.test('what is protected stays, whatever the method', async (t) => {
  const { model } = await loadTiny(t)
  const ids = randomIds(40, 5)
  const own = { snapkv: { window: 4 }, h2o: { every: 0 }, adaKv: { of: methods.snapkv({ window: 4 }) } } as const
  for (const [name, options] of Object.entries({ ...own, random: { recent: 4 }, recent: {}, ems: { window: 4 } })) {
    const make = methods[name as 'snapkv'] as (options: object) => ReturnType<typeof methods.snapkv>
    const inside = make({ ...options, keep: { tokens: 12 } })
    const session = model.session({ methods: [methods.protect([0, 9, 17], inside)] })
    await session.forward(ids, { logits: 'none' })
    for (const { keptPerHead = [] } of session.plan)
      for (const rows of keptPerHead)
        t.ok(
          [0, 9, 17, 39].every((row) => rows.includes(row)),
          `${name}: ${rows}`,
        )
    const total = session.stats.kv.layers.map(({ rows }) => rows.reduce((sum, count) => sum + count, 0))
    t.ok(
      total.every((rows) => rows === 24),
      `${name} within its budget: ${total}`,
    )
    await session.close()
  }
  t.throws(() => methods.protect([1.5], methods.snapkv()), { name: 'RangeError' })
  t.throws(() => methods.protect(3 as never, methods.snapkv()), { name: 'TypeError' })
  t.throws(() => methods.protect([1], methods.fastv()), { name: 'TypeError' })
})
