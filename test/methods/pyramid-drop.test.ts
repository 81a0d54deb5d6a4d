// PyramidDrop. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { droppedRows, layerSeen, shape, span } from './seen.js'

const attention = [0.3, 0.02, 0.05, 0.01, 0.05, 0.04, 0.03, 0.5]

test('pyramidDrop: 576 tokens become 288, 144 and 72', async (t) => {
  const method = methods.pyramidDrop()
  t.same(
    method.looks({ ...shape, layers: 32 }).map((look) => look.at === 'layer' && look.layer),
    [8, 16, 24],
  )
  t.same(
    method.looks({ ...shape, layers: 30 }).map((look) => look.at === 'layer' && look.layer),
    [7, 15, 22],
  )
  const large = { ...shape, layers: 32 }
  let [left, given] = [span(10, 586), 576]
  for (const [layer, expected] of [
    [8, 288],
    [16, 144],
    [24, 72],
  ] as const) {
    const rows = 20 + left.length
    const [decision] = method.decide(
      layerSeen({
        shape: large,
        layer,
        rows,
        droppable: span(10, 10 + left.length),
        given,
        attention: Array.from({ length: rows }, (_, i) => (i * 37) % 101),
      }),
    )
    if (decision?.action !== 'drop') throw new Error('nothing was dropped')
    t.equal(decision.kept.length, 20 + expected)
    t.equal(decision.positions, 'repack')
    left = span(10, 10 + expected)
    given = 576
  }
})

test('pyramidDrop rounds down, as its paper does', async (t) => {
  const seen = layerSeen({ layer: 3, rows: 8, droppable: span(1, 6), attention })
  t.same(droppedRows(methods.pyramidDrop({ layers: [3], ratios: [0.5] }), seen), [1, 3, 5], 'two of five')
  t.same(methods.pyramidDrop({ layers: [3], ratios: [1] }).looks(shape), [])
  t.equal(methods.pyramidDrop({ layers: [3, 4, 5], ratios: [1, 1, 1] }).looks(shape).length, 0)
  t.same(methods.pyramidDrop().looks({ ...shape, layers: 3 }).length, 2, 'a small model has fewer stages')
})

test('pyramidDrop: options that do not fit each other', async (t) => {
  t.throws(() => methods.pyramidDrop({ layers: [3, 4] }), {
    name: 'RangeError',
    message: /2 ratios.* for `ratios` but received 3/,
  })
  t.throws(() => methods.pyramidDrop({ layers: [5, 4, 6] }), { name: 'RangeError', message: /ascending layers/ })
  t.throws(() => methods.pyramidDrop({ layers: [4, 4, 6] }), { name: 'RangeError', message: /each layer once/ })
  t.throws(() => methods.pyramidDrop({ ratios: [0.25, 0.5, 0.125] }), { name: 'RangeError', message: /do not grow/ })
  t.throws(() => methods.pyramidDrop({ ratios: [1.5, 0.5, 0.125] }), {
    name: 'RangeError',
    message: /`ratios\[0\]` but received 1.5/,
  })
  t.throws(() => methods.pyramidDrop({ keep: 0.5 } as never), { name: 'TypeError', message: /received "keep"/ })
})
