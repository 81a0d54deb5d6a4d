import { test } from 'tap'
import { type Method, makeSchedule, methods } from '../../lib/methods/index.js'
import { randomCache, randomLayer, shape, span } from './seen.js'

const { knorm } = methods

const conflictOf = (...list: Method[]): string => {
  try {
    makeSchedule(list, shape)
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    return `${code}: ${message}`
  }
  return ''
}

test('two methods that claim the same are named, with the layer', async (t) => {
  t.match(
    conflictOf(methods.snapkv({ keep: 0.5 }), methods.h2o({ keep: 0.5 })),
    /^ERR_METHOD_CONFLICT: .*the cache of layer 0, but received snapkv and h2o$/,
  )
  t.match(conflictOf(methods.snapkv(), methods.snapkv()), /snapkv and snapkv/)
  t.match(
    conflictOf(methods.fastv({ layer: 4 }), methods.pyramidDrop()),
    /the rows before layer 4, but received fastv and pyramidDrop/,
  )
  t.match(conflictOf(methods.llmDrop({ layers: [3] }), methods.llmDrop({ layers: [2, 3] })), /the attention of layer 3/)
  t.match(
    conflictOf(methods.llmDrop({ layers: [3], what: 'block' }), methods.llmDrop({ layers: [3], what: 'mlp' })),
    /the MLP of layer 3/,
  )
  t.match(
    conflictOf(methods.llmDrop({ layers: [1] }), methods.fastv({ layer: 2 })),
    /the attention of layer 1, which one skips and the other looks at, but received llmDrop and fastv/,
  )
  t.match(
    conflictOf(methods.llmDrop({ layers: [2] }), methods.tome({ layers: [2] })),
    /the attention of layer 2, which one skips/,
  )
  t.match(
    conflictOf(methods.onLayers([0, 5], methods.snapkv()), methods.onLayers([4, 8], methods.h2o())),
    /layer 4, but received onLayers\(snapkv\) and onLayers\(h2o\)/,
  )
})

test('methods that touch different things compose', async (t) => {
  for (const list of [
    [methods.fastv({ layer: 2 }), methods.pyramidDrop({ layers: [3, 5, 7] })],
    [methods.fastv(), methods.snapkv()],
    [methods.llmDrop({ layers: [3] }), methods.snapkv()],
    [methods.llmDrop({ layers: [3] }), methods.llmDrop({ layers: [3], what: 'mlp' })],
    [methods.onLayers([0, 4], methods.snapkv()), methods.onLayers([4, 8], methods.h2o())],
    [methods.chain(methods.snapkv(), methods.h2o())],
    [methods.snapkv({ keep: 1 }), methods.h2o()],
    [],
  ]) {
    t.equal(conflictOf(...list), '', list.map(({ label }) => label).join(' + '))
  }
})

test('the work is cut where somebody decides, and nowhere else', async (t) => {
  t.same(makeSchedule([], shape).cuts, [])
  t.same(makeSchedule([methods.snapkv(), methods.llmDrop()], shape).cuts, [])
  const schedule = makeSchedule([methods.pyramidDrop(), methods.fastv({ layer: 3 })], shape)
  t.same(schedule.cuts, [2, 3, 4, 6])
  t.same(schedule.layerNeeds(3), [{ what: 'attention', rows: 1, of: 'before' }])
  t.same(schedule.layerNeeds(4), [{ what: 'attention', rows: 1, of: 'next' }])
  t.same(schedule.layerNeeds(5), [])
  t.notOk(schedule.decidesBefore(5))
  t.ok(schedule.decidesBefore(6))
})

test('what native observes', async (t) => {
  const fast = makeSchedule([methods.fastv({ layer: 3 })], shape)
  t.same(fast.observations('prompt', 0), [{ layer: 2, attention: { rows: 1 } }])
  t.same(fast.observations('decode', 1), [])
  const mass = makeSchedule([methods.onLayers([6, 8], methods.h2o())], shape)
  t.same(mass.observations('prompt', 0), [
    { layer: 6, columnSums: true },
    { layer: 7, columnSums: true },
  ])
  t.same(mass.observations('decode', 3), mass.observations('prompt', 0), 'the mass is added up at every step')
  t.same(mass.cacheLayers('prompt', 0), [6, 7])
  t.same(mass.cacheLayers('decode', 3), [], 'a rule needs no look')
  const named = methods.evenShare({
    heads: [
      [6, 1],
      [7, 0],
      [7, 2],
    ],
  })
  const sums = ({ unsummed }: { unsummed?: Int32Array }) => unsummed && Array.from(unsummed)
  t.same(
    makeSchedule([named], shape).observations('prompt', 0).slice(5).map(sums),
    [undefined, [1], [0, 2]],
    'heads that keep all',
  )
  const window = makeSchedule([methods.every(2, methods.onLayers([7, 8], methods.snapkv({ window: 9 })))], shape)
  t.same(window.observations('prompt', 0), [{ layer: 7, attention: { rows: 9 } }])
  t.same(window.observations('decode', 1), [])
  t.same(window.observations('decode', 2), [{ layer: 7, attention: { rows: 9 } }])
  t.same(makeSchedule([methods.streamingLlm()], shape).observations('prompt', 0), [])
  t.same(
    makeSchedule([methods.llmDrop({ layers: [0, 1] }), knorm()], shape).cacheLayers('prompt', 0),
    [2, 3, 4, 5, 6, 7],
  )
})

test('one layer, looked at in two ways', async (t) => {
  const both = makeSchedule([methods.fastv({ layer: 3 }), methods.snapkv()], shape)
  t.same(both.observations('prompt', 0)[2], { layer: 2, attention: { rows: 32 } })
  t.same([...both.probes], [[2, 1]], 'the one row is probed before layer 2 runs')
  t.same(both.cuts, [2, 3])
  t.notOk(both.decidesBefore(2))
  const same = makeSchedule([methods.fastv({ layer: 3 }), methods.snapkv({ window: 1 })], shape)
  t.same([...same.probes], [])
  t.match(
    conflictOf(methods.chain(methods.snapkv(), methods.snapkv({ window: 8 }))),
    /ERR_METHOD_CONFLICT: .* number of rows .* in layer 0/,
  )
  t.match(
    conflictOf(methods.chain(methods.fastv({ layer: 2 }), methods.pyramidDrop({ layers: [2], ratios: [0.5] }))),
    /number of rows .* before layer 2/,
  )
})

test('decisions are checked in turn, each against what is left', async (t) => {
  const schedule = makeSchedule([methods.chain(methods.random({ keep: 0.5 }), knorm({ keep: 0.2 }))], shape)
  const decided = schedule.decide(randomCache(100, 1, { layer: 2 }))
  t.match(
    decided.map(({ entry }) => entry),
    [
      { phase: 'prefill', step: 0, layer: 2, method: 'random', action: 'evict', before: 200, after: 100 },
      { phase: 'prefill', step: 0, layer: 2, method: 'knorm', action: 'evict', before: 100, after: 40 },
    ],
  )
  t.notOk('scores' in (decided[0]?.entry ?? {}))
  t.equal(schedule.decide(randomCache(100, 1), { trace: true })[1]?.entry.scores?.length, 100)
  t.same(schedule.decide(randomLayer(3, 20, span(2, 18), 1)), [])
})

test('observations are fetched once', async (t) => {
  const reads: string[] = []
  const seen = randomCache(50, 1)
  const counted = {
    ...seen,
    attention(head: number) {
      reads.push(`attention ${head}`)
      return seen.attention(head)
    },
    sources(head: number) {
      reads.push(`sources ${head}`)
      return seen.sources(head)
    },
  }
  makeSchedule([methods.adaKv()], shape).decide(counted)
  t.same(reads.sort(), ['attention 0', 'attention 1', 'sources 0', 'sources 1'])
})
