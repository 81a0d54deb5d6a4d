// RazorAttention. What folds into the row of the middle; what the engine makes of it is in test/fold.test.ts.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { keptRows, randomCache, shape, span } from './seen.js'

test('razorAttention: sinks, one row for the middle, the newest', async (t) => {
  const seen = randomCache(50, 1, { layer: 3 })
  const method = methods.razorAttention({
    heads: [
      [3, 1],
      [4, 0],
    ],
    keep: { tokens: 12 },
  })
  const [far, near] = [[...span(0, 50)], [...span(0, 5), ...span(43, 50)]]
  t.same(keptRows(method, seen), [near, far])
  const [decision] = method.decide(seen)
  t.match(decision, { action: 'evict', keys: true, sizes: true })
  const folds = decision?.action === 'evict' ? (decision.folds ?? []) : []
  t.same(folds[0], { from: [...span(5, 43)], into: Array(38).fill(4), weights: Array(38).fill(1) })
  t.same(folds[1], { from: [], into: [], weights: [] })
})

test('razorAttention: without the row, without room for it, without anything to fold', async (t) => {
  const seen = randomCache(50, 1)
  const of = (options: object) => methods.razorAttention({ keep: { tokens: 12 }, ...options })
  t.same(keptRows(of({ compensate: false }), seen)[0], [...span(0, 4), ...span(42, 50)])
  t.same(keptRows(of({ keep: { tokens: 3 } }), seen)[0], [0, 1, 49])
  const [decision] = of({ keep: { tokens: 3 } }).decide(seen)
  t.same(decision?.action === 'evict' && decision.folds?.[0]?.from, [])
  t.same(of({ heads: Array.from({ length: 2 }, (_, head) => [0, head]) }).decide(seen), [], 'all heads fetch')
  t.same(of({ keep: 1 }).looks(shape), [])
  t.throws(() => of({ compensate: 1 as never }), { name: 'TypeError' })
  t.throws(() => of({ heads: [[0, -1]] }), { name: 'RangeError' })
})
