// TOVA. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, generator, keptRows, shape, span } from './seen.js'

const attention = [
  [0.4, 0.05, 0.2, 0.05, 0.3],
  [0.1, 0.35, 0.05, 0.1, 0.4],
]

test('tova: the mean over the heads decides for all of them', async (t) => {
  const seen = cacheSeen({ tokens: 5, attention })
  const kept = [0, 1, 4]
  t.same(keptRows(methods.tova({ keep: { tokens: 3 } }), seen), [kept, kept], '.25 .2 .125 .075 .35')
  t.same(keptRows(methods.tova({ keep: { tokens: 5 } }), seen), [[...span(0, 5)], [...span(0, 5)]])
  t.same(keptRows(methods.tova({ keep: { tokens: 1 } }), seen), [[4], [4]], 'nothing is protected: the best row')
})

test('tova judges the rows of every head by their tokens, where heads hold unlike rows', async (t) => {
  const sources = [
    [0, 2, 3],
    [1, 2, 3],
  ]
  const seen = cacheSeen({
    tokens: 4,
    sources,
    attention: [
      [0.5, 0.2, 0.3],
      [0.1, 0.5, 0.4],
    ],
  })
  t.same(keptRows(methods.tova({ keep: { tokens: 2 } }), seen), [
    [2, 3],
    [2, 3],
  ])
})

test('tova decides after every decode step, and the cache never exceeds its limit', async (t) => {
  t.same(
    methods
      .tova()
      .looks(shape)
      .map(({ at }) => at),
    ['prompt', 'decode'],
  )
  t.match(methods.tova().looks(shape)[1], { every: 1, needs: [{ what: 'attention', rows: 1 }] })
  t.equal(methods.tova({ every: 0 }).looks(shape).length, 1)
  const method = methods.tova({ keep: { tokens: 6 } })
  const next = generator(5)
  let rows = [...span(0, 6)]
  for (let step = 1; step < 40; step++) {
    rows.push(5 + step)
    const line = rows.map(() => next())
    const seen = cacheSeen({ at: 'decode', step, tokens: 6 + step, sources: [rows, rows], attention: [line, line] })
    const [first = [], second] = keptRows(method, seen)
    t.equal(first.length, 6)
    t.same(first, second)
    rows = first
  }
})
