// PyramidKV. Numbers of the card, worked by hand.
import { test } from 'tap'
import { pyramid } from '../../lib/methods/cache/pyramid-kv.js'
import { methods } from '../../lib/methods/index.js'
import { keptRows, randomCache, shape } from './seen.js'

const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0)

test('pyramidKv: 2048 rows in 32 layers', async (t) => {
  const counts = pyramid(2016, { tokens: 8192, guarded: 32, layers: 32, beta: 20 })
  t.equal(
    sum(counts),
    32 * 2016,
    'exactly the even budget; steps that are rounded down, as in the card, keep 304 rows more',
  )
  t.same([counts[0], counts[1], counts[31]], [3931, 3808, 101], 'the card has 3932, 3809 and 119')
  const few = pyramid(120, { tokens: 4096, guarded: 8, layers: 32, beta: 20 })
  t.same([few[0], few[1], few[31]], [234, 227, 6], 'the card has 234, 227 and 17')
  t.equal(sum(few), 32 * 120)
})

test('pyramidKv: even where half of the tokens stay, capped by what there is', async (t) => {
  t.same(pyramid(60, { tokens: 119, guarded: 0, layers: 3, beta: 20 }), [60, 60, 60])
  t.same(pyramid(60, { tokens: 120, guarded: 10, layers: 3, beta: 20 }), [110, 60, 10])
  t.same(pyramid(10, { tokens: 900, guarded: 0, layers: 1, beta: 20 }), [10])
})

test('pyramidKv: layers add up to the budget, sliding ones stay even', async (t) => {
  const rowsOf = (windows: number[]) =>
    windows.map((_, layer) => {
      const seen = randomCache(400, 7, { layer, shape: { ...shape, windows } })
      const rows = keptRows(methods.pyramidKv({ keep: 0.25 }), seen)
      t.equal(rows[0]?.length, rows[1]?.length)
      return rows[0]?.length ?? 0
    })
  const counts = rowsOf(shape.windows as number[])
  t.equal(sum(counts), 8 * 100)
  t.equal(counts[0], 32 + 133)
  t.ok(counts.every((count, layer) => layer === 0 || count < (counts[layer - 1] as number)))
  const mixed = rowsOf([200, 0, 0, 0, 0, 200, 0, 0])
  t.equal(sum(mixed), 6 * 100 + 2 * 50, 'a quarter of a window of 200')
  t.same([mixed[0], mixed[5]], [50, 50])
})

test('pyramidKv is snapkv where the even budget is large', async (t) => {
  const seen = randomCache(100, 3, { layer: 6 })
  t.same(keptRows(methods.pyramidKv({ keep: 0.9 }), seen), keptRows(methods.snapkv({ keep: 0.9 }), seen))
})
