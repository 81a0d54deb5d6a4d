// ZipVL. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, layerSeen, randomCache, shape, single, span } from './seen.js'

// Rows 2 and 3 looked: (.7 .2 .1 0) and (.5 .1 .2 .2).
const toy = cacheSeen({ shape: single, tokens: 4, attention: [[1.2, 0.3, 0.3, 0.2]] })
const of = (tau: number) => methods.zipVl({ tau, rows: 2, sinks: 0 })

test('zipVl: how many by the sums, which by the mean of those that could see a row', async (t) => {
  t.same(keptRows(of(0.6), toy), [[0, 3]], 'one holds it; the newest row stays beside it')
  t.same(keptRows(of(0.9), toy), [[0, 1, 3]], 'three; the sums alone would have taken 0, 1 and 2')
  t.same(of(0.975).decide(toy), [], 'all four')
  t.same(of(1).looks(shape), [])
  t.same(keptRows(methods.zipVl({ tau: 0.6, rows: 2, sinks: 2 }), toy), [[0, 1, 3]])
})

test('zipVl: the share is kept, in every head alike; layers differ', async (t) => {
  const counts = [1, 2, 3].map((seed) => {
    const seen = randomCache(300, seed)
    const [first = [], second] = keptRows(methods.zipVl({ tau: 0.8, rows: 150, sinks: 0 }), seen)
    t.same(first, second)
    const mass = Array.from(seen.attention(0), (value, i) => value + (seen.attention(1)[i] as number))
    const total = mass.reduce((sum, value) => sum + value, 0)
    const most = [...mass].sort((a, b) => b - a).slice(0, first.length - 2)
    t.ok(most.reduce((sum, value) => sum + value, 0) < 0.8 * total, 'no fewer would have done')
    return first.length
  })
  t.ok(new Set(counts).size > 1, `${counts}`)
})

test('zipVl: with 2 bits for the others, the same rows stay as they are, and all stay', async (t) => {
  const mixed = (tau: number, more: object = {}) =>
    methods.zipVl({ tau, rows: 2, sinks: 0, lowPrecision: 'kivi2', ...more })
  const wide = { ...single, headSize: 32 }
  const coarse = (method: ReturnType<typeof mixed>, seen = toy) => {
    const [decision] = method.decide(seen)
    return decision?.action === 'coarsen' ? decision.coarsePerHead.map((rows) => Array.from(rows)) : decision
  }
  t.same(coarse(mixed(0.6)), [[1, 2]], 'bits: 2 rows of 4, 2 of 2')
  t.same(coarse(mixed(0.9)), [[2]])
  t.same(mixed(0.975).decide(toy), [])
  t.same(coarse(methods.protect([2], mixed(0.6)) as ReturnType<typeof mixed>), [[1]])
  const attention = [[0.1, 0.1, 0, 0, 0.5, 0.1, 0.1, 0.1]]
  const seen = cacheSeen({ at: 'decode', step: 4, shape: single, tokens: 8, attention })
  t.same(coarse(mixed(0.6, { every: 4 }), seen), [[5, 6]], 'of the newest four alone')
  t.same(mixed(1).looks(wide), [])
  t.match(mixed(0.6).looks(wide), [
    { at: 'prompt', layers: span(0, 8) },
    { at: 'decode', every: 100 },
  ])
  const windows = [0, 16, 0, 16, 0, 16, 0, 16]
  t.match(mixed(0.6, { every: 0 }).looks({ ...wide, windows }), [{ at: 'prompt', layers: [0, 2, 4, 6] }])
  t.throws(() => mixed(0.6).looks(single), RangeError, 'head sizes that groups of 32 do not fit')
})

test('zipVl: while decoding the newest rows are thinned, the others left alone', async (t) => {
  const attention = [[0.1, 0.1, 0, 0, 0.5, 0.1, 0.1, 0.1]]
  const seen = cacheSeen({ at: 'decode', step: 4, shape: single, tokens: 8, attention })
  const method = methods.zipVl({ tau: 0.6, every: 4, sinks: 0 })
  t.same(keptRows(method, seen), [[0, 1, 2, 3, 4, 7]], 'of .5 .1 .1 .1 one holds six tenths')
  const looks = (options: object) => methods.zipVl(options).looks(shape)
  t.match(looks({ every: 4, prefill: 'dense' }), [
    { at: 'prompt', layers: span(0, 8) },
    { at: 'decode', every: 4 },
  ])
  t.match(looks({ every: 0, prefill: 'dense' }), [{ at: 'prompt' }])
  const sparse = looks({ every: 0 })
  t.same(
    sparse.flatMap((look) => (look.at === 'layer' ? [look.layer] : [])),
    [...span(1, 8)],
    'from the second layer on',
  )
  t.match(sparse.at(-1), { at: 'prompt', layers: [0] })
})

test('zipVl: the same while a prompt is read, of rows that take part in the attention', async (t) => {
  const sampled = { asking: [2, 3], attention: [0.7, 0.2, 0.1, 0, 0.5, 0.1, 0.2, 0.2] }
  const seen = layerSeen({ layer: 3, rows: 4, droppable: span(0, 0), sampled })
  const kept = (tau: number, sinks = 0) => {
    const [decision] = methods.zipVl({ tau, sinks }).decide(seen)
    return decision?.action === 'pass' ? [...Array.from(decision.kept), decision.what] : decision
  }
  t.same(kept(0.6), [0, 3, 'attention'])
  t.same(kept(0.9), [0, 1, 3, 'attention'])
  t.same(kept(0.975), undefined)
  t.same(kept(0.6, 2), [0, 1, 3, 'attention'])
  const held = methods.protect([2], methods.zipVl({ tau: 0.6, sinks: 0 }))
  t.match(held.decide(seen), [{ action: 'pass', kept: Int32Array.of(0, 2, 3) }], 'protected rows take part')
  t.same(keptRows(held, toy), [[0, 2, 3]], 'and stay')
  const far = { asking: [1, 2], attention: [0.5, 0.5, 0, 0.1, 0.3, 0.6] }
  const third = layerSeen({ layer: 1, rows: 3, droppable: span(0, 0), sampled: far })
  t.match(
    methods.zipVl({ tau: 0.7, sinks: 0 }).decide(third),
    [{ kept: Int32Array.of(1, 2) }],
    '.3 .4 .6 of those that see',
  )
})
