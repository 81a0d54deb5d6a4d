// ChunkKV. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, generator, keptRows, single, span } from './seen.js'

// Twenty times the scores of the card, so that equal means are equal in binary.
const sums = [2, 18, 0, 0, 6, 6, 6, 6, 1, 1, 1, 1, 8, 2]
const base = methods.h2o({ recent: 0 })

test('chunkKv: whole chunks by their means', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 14, columnSums: [sums] })
  const of = (tokens: number) => keptRows(methods.chunkKv({ of: base, chunk: 4, keep: { tokens } }), seen)[0]
  t.same(of(8), [...span(0, 8)], '5 6 1 5: the tail has the same mean as the first, which is the lower')
  t.same(of(4), [4, 5, 6, 7])
  t.same(of(7), [0, 1, 2, 4, 5, 6, 7], 'of the chunk that does not fit, the first rows')
  t.same(of(10), [...span(0, 8), 12, 13])
  t.same(keptRows(methods.h2o({ recent: 0, keep: { tokens: 7 } }), seen)[0], [0, 1, 4, 5, 6, 7, 12], 'row by row')
})

test('chunkKv: one choice for all heads; chunks of one row are the rows of the summed scores', async (t) => {
  const next = generator(2)
  const lines = [Array.from({ length: 30 }, next), Array.from({ length: 30 }, next)]
  const method = methods.chunkKv({ of: base, chunk: 1, keep: { tokens: 11 } })
  const [first, second] = keptRows(method, cacheSeen({ tokens: 30, columnSums: lines }))
  t.same(first, second)
  const both = lines[0]?.map((value, i) => value + (lines[1]?.[i] as number)) ?? []
  t.same(
    first,
    keptRows(
      methods.h2o({ recent: 0, keep: { tokens: 11 } }),
      cacheSeen({ shape: single, tokens: 30, columnSums: [both] }),
    )[0],
  )
})

test('chunkKv: the window of the method inside is in no chunk', async (t) => {
  const attention = [Array.from({ length: 50 }, (_, j) => (j === 3 ? 1 : 0))]
  const of = methods.snapkv({ window: 6, kernel: 1 })
  const seen = cacheSeen({ shape: single, tokens: 50, attention })
  t.same(keptRows(methods.chunkKv({ of, chunk: 5, keep: { tokens: 11 } }), seen)[0], [...span(0, 5), ...span(44, 50)])
  t.same(methods.chunkKv({ of }).looks(single)[0], methods.snapkv({ window: 6 }).looks(single)[0])
  t.throws(() => methods.chunkKv({ of: methods.fastv() }), { name: 'TypeError', message: /scores cache rows for `of`/ })
  t.throws(() => methods.chunkKv({ chunk: 0 }), { name: 'RangeError' })
})
