// Ada-KV. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows } from './seen.js'

const ragged = [
  [0.9, 0.02, 0.01, 0.01, 0.01, 0.01],
  [0.2, 0.19, 0.18, 0.17, 0.16, 0.15],
]

test('adaKv: one peaked and one even head', async (t) => {
  // Six rows before a window of two; five rows a head are three and the window.
  const attention = ragged.map((head) => [...head, 9, 9])
  const of = methods.snapkv({ window: 2, kernel: 1 })
  const counts = (floor: number) =>
    keptRows(methods.adaKv({ of, floor, keep: { tokens: 5 } }), cacheSeen({ tokens: 8, attention })).map(
      (rows) => rows.length - 2,
    )
  t.same(counts(0), [1, 5], 'the six best rows of both heads')
  t.same(counts(0.2), [1, 5], 'the card has (1, 4); the row that rounding leaves goes to the larger fraction, then on')
  t.same(counts(0.5), [2, 4])
  t.same(counts(1), [3, 3], 'the base method')
  const [first, second] = keptRows(
    methods.adaKv({ of, floor: 0.5, keep: { tokens: 5 } }),
    cacheSeen({ tokens: 8, attention }),
  )
  t.same(first, [0, 1, 6, 7])
  t.same(second, [0, 1, 2, 3, 6, 7])
})

test('adaKv: a second prompt on a ragged cache has the whole budget of the layer', async (t) => {
  const sources = [
    [0, 5, 6, 7, 8],
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
  ]
  const attention = sources.map((rows) => rows.map((row) => 1 / (row + 1)))
  const method = methods.adaKv({ of: methods.snapkv({ window: 2, kernel: 1 }), keep: { tokens: 6 } })
  const rows = keptRows(method, cacheSeen({ tokens: 9, sources, attention })).map((head) => head.length)
  t.equal((rows[0] as number) + (rows[1] as number), 12)
  t.same(
    keptRows(
      methods.adaKv({ of: methods.snapkv({ window: 2 }), keep: { tokens: 7 } }),
      cacheSeen({ tokens: 9, sources, attention }),
    ),
    sources,
    '14 rows for 14',
  )
})

test('adaKv takes any method that scores, and no other', async (t) => {
  const seen = cacheSeen({ tokens: 8, columnSums: ragged.map((head) => [...head, 9, 9]) })
  const rows = keptRows(methods.adaKv({ of: methods.h2o({ recent: 0 }), keep: { tokens: 4 } }), seen)
  t.equal(rows.flat().length, 8)
  t.throws(() => methods.adaKv({ of: methods.fastv() }), {
    name: 'TypeError',
    message: /a method that scores cache rows for `of` but received "fastv"/,
  })
  t.throws(() => methods.adaKv({ of: 'snapkv' as never }), { name: 'TypeError', message: /received "snapkv"/ })
  const sinks = methods.adaKv({ of: methods.streamingLlm({ sinks: 2 }), keep: { tokens: 5 } })
  t.same(
    keptRows(sinks, seen),
    keptRows(methods.streamingLlm({ sinks: 2, keep: { tokens: 5 } }), seen),
    'nothing is left to spread',
  )
})
