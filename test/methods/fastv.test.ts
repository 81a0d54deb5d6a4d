// FastV. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { droppedRows, layerSeen, shape, span } from './seen.js'

const attention = [0.3, 0.02, 0.05, 0.01, 0.05, 0.04, 0.03, 0.5]

test('fastv keeps the best of the droppable rows, at their positions', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), attention })
  t.same(droppedRows(methods.fastv(), seen), [1, 3], 'three of five, rounded up')
  t.same(
    droppedRows(methods.fastv({ keep: { tokens: 1 } }), seen),
    [1, 3, 4, 5],
    'rows 2 and 4 are equal: the lower stays',
  )
  t.same(methods.fastv({ keep: 1 }).decide(seen), [])
  t.match(methods.fastv().decide(seen)[0], { action: 'drop', layer: 2, positions: 'keep' })
  t.same(methods.fastv({ layer: 3 }).looks(shape), [
    { at: 'layer', layer: 3, needs: [{ what: 'attention', rows: 1, of: 'before' }] },
  ])
  t.same(methods.fastv({ keep: 1 }).looks(shape), [])
})

test('a share is of what the call was given, whatever went before', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), given: 8, attention })
  t.same(droppedRows(methods.fastv(), seen), [3], 'four of eight')
  t.same(methods.fastv().decide(layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), given: 10, attention })), [])
})

test('sources are those of the session, not places of the call', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), sources: span(100, 108), attention })
  t.same(droppedRows(methods.fastv({ keep: 0.4 }), seen), [101, 103, 105])
})

test('fastv on a model without such a layer', async (t) => {
  t.throws(() => methods.fastv({ layer: 8 }).looks(shape), {
    name: 'RangeError',
    message: /a layer from 1 to 7 for `fastv` but received 8/,
  })
  t.throws(() => methods.fastv({ layer: 0 }), { name: 'RangeError', message: /for `layer` but received 0/ })
})
