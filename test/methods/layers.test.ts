// Layer methods against the numbers of their cards, worked by hand.
import { test } from 'tap'
import { type LayerSeen, type Method, methods } from '../../lib/methods/index.js'
import { layerSeen, shape, span } from './seen.js'

function dropped(method: Method, seen: LayerSeen): number[] {
  const [decision] = method.decide(seen)
  if (decision?.action !== 'drop') return []
  const kept = new Set(Array.from(decision.kept))
  return [...seen.sources].filter((source) => !kept.has(source))
}

const attention = [0.3, 0.02, 0.05, 0.01, 0.05, 0.04, 0.03, 0.5]

test('fastv keeps the best of the droppable rows, at their positions', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), attention })
  t.same(dropped(methods.fastv(), seen), [1, 3], 'three of five, rounded up')
  t.same(dropped(methods.fastv({ keep: { tokens: 1 } }), seen), [1, 3, 4, 5], 'rows 2 and 4 are equal: the lower stays')
  t.same(methods.fastv({ keep: 1 }).decide(seen), [])
  t.match(methods.fastv().decide(seen)[0], { action: 'drop', layer: 2, positions: 'keep' })
  t.same(methods.fastv({ layer: 3 }).looks(shape), [
    { at: 'layer', layer: 3, needs: [{ what: 'attention', rows: 1, of: 'before' }] },
  ])
  t.same(methods.fastv({ keep: 1 }).looks(shape), [])
})

test('a share is of what the call was given, whatever went before', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), given: 8, attention })
  t.same(dropped(methods.fastv(), seen), [3], 'four of eight')
  t.same(methods.fastv().decide(layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), given: 10, attention })), [])
})

test('sources are those of the session, not places of the call', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 8, droppable: span(1, 6), sources: span(100, 108), attention })
  t.same(dropped(methods.fastv({ keep: 0.4 }), seen), [101, 103, 105])
})

test('fastv on a model without such a layer', async (t) => {
  t.throws(() => methods.fastv({ layer: 8 }).looks(shape), {
    name: 'RangeError',
    message: /a layer from 1 to 7 for `fastv` but received 8/,
  })
  t.throws(() => methods.fastv({ layer: 0 }), { name: 'RangeError', message: /for `layer` but received 0/ })
})

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
  t.same(dropped(methods.pyramidDrop({ layers: [3], ratios: [0.5] }), seen), [1, 3, 5], 'two of five')
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

const flat = { ...shape, headSize: 2 }
const rows = [1, 0, 0.9, 0.1, 0, 1, 0.2, 0.9, -1, 0, 0.8, 0.6]

test('tome: six rows, the two most similar pairs', async (t) => {
  const seen = layerSeen({ shape: flat, layer: 2, rows: 6, droppable: span(0, 6), keys: rows })
  const into = (keep: number, more: object = {}) => {
    const [decision] = methods.tome({ layers: [2], keep, ...more }).decide(seen)
    return decision?.action === 'merge' ? Array.from(decision.into) : undefined
  }
  t.same(into(4 / 6), [1, 1, 3, 3, 4, 5], 'row 0 folds into 1 and 2 into 3: (.95, .05) and (.1, .95) once averaged')
  t.same(into(5 / 6), [1, 1, 2, 3, 4, 5])
  t.same(into(0.1), [1, 1, 3, 3, 3, 5], 'at most half in one step; row 4 is nearest to 3 of what points away')
  t.same(into(1), undefined)
  t.same(methods.tome({ layers: [2], keep: 1 }).looks(shape), [])
})

test('tome splits the droppable rows only', async (t) => {
  const keys = [5, 5, ...rows.slice(0, 4), 7, 7, ...rows.slice(4, 8), 9, 9]
  const seen = layerSeen({
    shape: flat,
    layer: 2,
    rows: 7,
    droppable: Int32Array.of(1, 2, 4, 5),
    sources: span(50, 57),
    keys,
  })
  const [decision] = methods.tome({ layers: [2], keep: 0.5 }).decide(seen)
  t.match(decision, { action: 'merge', positions: 'keep' })
  t.same(decision?.action === 'merge' && Array.from(decision.into), [50, 52, 52, 53, 55, 55, 56])
})

test('tome: equal similarities, lower rows first; zeros are like nothing', async (t) => {
  const same = layerSeen({ shape: flat, layer: 2, rows: 6, droppable: span(0, 6), keys: Array(12).fill(1) })
  const [decision] = methods.tome({ layers: [2], keep: 4 / 6 }).decide(same)
  t.same(decision?.action === 'merge' && Array.from(decision.into), [1, 1, 1, 3, 4, 5])
  const zeros = layerSeen({ shape: flat, layer: 2, rows: 4, droppable: span(0, 4), keys: [0, 0, 0, 0, 1, 0, 1, 0] })
  const [other] = methods.tome({ layers: [2], keep: 3 / 4 }).decide(zeros)
  t.same(other?.action === 'merge' && Array.from(other.into), [0, 1, 3, 3])
})

test('tome: a budget for each listed layer', async (t) => {
  const method = methods.tome({ layers: [2, 4], keep: [0.75, { tokens: 2 }] })
  const count = (layer: number, droppable: Int32Array) => {
    const [decision] = method.decide(layerSeen({ shape: flat, layer, rows: 6, given: 6, droppable, keys: rows }))
    return decision?.action === 'merge' ? new Set(Array.from(decision.into)).size : 6
  }
  t.equal(count(2, span(0, 6)), 5)
  t.equal(count(4, span(0, 5)), 4, 'two at most of five')
  t.throws(() => methods.tome({ layers: [2, 4], keep: [0.5] }), { name: 'RangeError', message: /2 budgets/ })
  t.throws(() => methods.tome({ keep: [0.5, 1.5] }), { name: 'RangeError', message: /`keep\[1\]` but received 1.5/ })
  t.throws(() => methods.tome({ metric: 'values' as never }), {
    name: 'TypeError',
    message: /`metric` but received "values"/,
  })
  t.same(
    methods
      .tome()
      .looks(shape)
      .map((look) => look.at === 'layer' && look.layer),
    [2, 4],
  )
})

test('llmDrop skips what it names', async (t) => {
  const seen = { at: 'session', shape } as const
  t.same(methods.llmDrop({ layers: [5, 2] }).decide(seen), [
    { action: 'skip', layer: 5, what: 'attention' },
    { action: 'skip', layer: 2, what: 'attention' },
  ])
  t.same(methods.llmDrop({ layers: [3], what: 'mlp' }).decide(seen), [{ action: 'skip', layer: 3, what: 'mlp' }])
  t.same(
    methods
      .llmDrop()
      .decide({ at: 'session', shape: { ...shape, layers: 32 } })
      .map(({ layer }) => layer),
    [22, 24, 25, 26],
  )
  t.same(methods.llmDrop({ layers: [] }).looks(shape), [])
  t.throws(() => methods.llmDrop({ layers: [8] }).looks(shape), { name: 'RangeError', message: /received 8/ })
  t.throws(() => methods.llmDrop({ what: 'all' as never }), { name: 'TypeError' })
})
