// Skipped heads: what is decided on them, by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { makeSchedule } from '../../lib/methods/schedule.js'
import { shape } from './seen.js'

test('skipHeads names query heads, layer by layer', async (t) => {
  const seen = { at: 'session', shape } as const // 6 heads that read 2
  t.same(
    methods
      .skipHeads({
        heads: [
          [5, 1],
          [2, 0],
          [5, 1],
        ],
      })
      .decide(seen),
    [
      { action: 'skip', layer: 2, what: 'heads', heads: [0, 1, 2] },
      { action: 'skip', layer: 5, what: 'heads', heads: [3, 4, 5] },
    ],
  )
  t.same(
    methods
      .skipHeads({
        heads: [
          [5, 4],
          [5, 1],
        ],
        what: 'query',
      })
      .decide(seen),
    [{ action: 'skip', layer: 5, what: 'heads', heads: [1, 4] }],
  )
  t.same(methods.skipHeads().looks(shape), [])
  t.throws(() => methods.skipHeads({ heads: [[8, 0]] }).looks(shape), { name: 'RangeError', message: /received 8/ })
  t.throws(() => methods.skipHeads({ heads: [[0, 2]] }).looks(shape), { name: 'RangeError', message: /received 2/ })
  t.same(methods.skipHeads({ heads: [[0, 5]], what: 'query' }).looks(shape).length, 1)
  t.throws(() => methods.skipHeads({ what: 'all' as never }), { name: 'TypeError' })
})

test('heads are claimed one by one', async (t) => {
  const two = (a: number, b: number) =>
    makeSchedule(
      [a, b].map((head) => methods.skipHeads({ heads: [[3, head]], what: 'query' })),
      shape,
    )
  t.doesNotThrow(() => two(1, 2))
  t.throws(() => two(2, 2), { code: 'ERR_METHOD_CONFLICT', message: /head 2 of layer 3/ })
  const cache = makeSchedule([methods.skipHeads({ heads: [[3, 0]] }), methods.snapkv()], shape)
  t.ok(cache.cacheLayers('prompt', 0).includes(3), 'its rows are there, for others to take')
})
