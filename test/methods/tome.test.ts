// ToMe. Numbers of the card, worked by hand.
import { test } from 'tap'
import { defineMethod, methods } from '../../lib/index.js'
import { partnersOf } from '../../lib/methods/partners.js'
import { loadTiny } from '../engine.js'
import { randomIds } from '../numbers.js'
import { layerSeen, shape, span } from './seen.js'

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

test('tome: native finds the partners that the keys tell, also after another method', async (t) => {
  const { model } = await loadTiny(t)
  const ids = randomIds(90, 7)
  const prompt = [{ ids: ids.slice(0, 3) }, { ids: ids.slice(3, 80), droppable: true }, { ids: ids.slice(80) }]
  let looked = 0
  const spy = defineMethod({
    name: 'spy',
    acts: 'layers',
    looks: { at: 'layer', layer: 2, needs: [{ what: 'keys' }, { what: 'partners' }] },
    decide(seen) {
      if (seen.at !== 'layer') return null
      const expected = partnersOf(seen.keys(), seen.droppable, seen.shape.headSize)
      const { partner, similarity } = seen.partners()
      t.same(partner, expected.partner)
      t.ok(similarity.every((value, i) => Math.abs(value - (expected.similarity[i] as number)) < 1e-6))
      looked++
      return null
    },
  })
  await model.session({ methods: [spy()] }).forward(prompt)
  t.equal(looked, 1)
  const both = model.session({
    methods: [methods.chain(methods.fastv({ layer: 2 }), methods.tome({ layers: [2], keep: 0.25 }))],
  })
  await both.forward(prompt)
  t.same(
    both.plan.map(({ action, after, before }) => [action, before, after]),
    [
      ['drop', 90, 52],
      ['merge', 52, 33],
    ],
  )
})
