import { test } from 'tap'
import { type Decision, type Method, makeSchedule, methods, type Seen } from '../../lib/methods/index.js'
import { cacheSeen, randomCache, randomLayer, shape, span } from './seen.js'

const { knorm } = methods

function rows(method: Method, seen: Seen): number[] | undefined {
  const decision = method.decide(seen).at(-1)
  return decision?.action === 'evict' ? decision.keptPerHead.map((kept) => kept.length) : undefined
}
const layersOf = (method: Method) => method.looks(shape).flatMap((look) => (look.at === 'prompt' ? look.layers : []))

test('perLayer: an array, or a function; what is missing keeps its own', async (t) => {
  const method = methods.perLayer(knorm({ keep: 0.5 }), [0.25, { tokens: 3 }, 1])
  t.same(rows(method, randomCache(100, 1, { layer: 0 })), [25, 25])
  t.same(rows(method, randomCache(100, 1, { layer: 1 })), [3, 3])
  t.same(rows(method, randomCache(100, 1, { layer: 2 })), undefined)
  t.same(rows(method, randomCache(100, 1, { layer: 3 })), [50, 50])
  t.same(layersOf(method), [0, 1, 3, 4, 5, 6, 7], 'a layer that keeps all is not looked at')
  const falling = methods.perLayer(knorm, (layer) => (layer === 7 ? undefined : 1 / (layer + 2)))
  t.same(rows(falling, randomCache(100, 1, { layer: 3 })), [20, 20])
  t.same(rows(falling, randomCache(100, 1, { layer: 7 })), [50, 50])
  t.equal(falling.label, 'perLayer(knorm)')
})

test('perHead: by head, or by layer and head', async (t) => {
  t.same(rows(methods.perHead(methods.snapkv({ window: 4 }), [0.1, 0.9]), randomCache(100, 2)), [10, 90])
  const nested = methods.perHead(methods.snapkv({ window: 4 }), [
    [0.1, 0.9],
    [0.4, undefined],
  ])
  t.same(rows(nested, randomCache(100, 2, { layer: 1 })), [40, 50])
  t.same(
    rows(methods.perHead(methods.adaKv, [0.3, 0.7]), randomCache(400, 2))?.reduce((a, b) => a + b),
    400,
  )
})

test('unlike heads in a layer: no rule can say it, so it is decided step by step', async (t) => {
  const method = methods.perHead(methods.h2o(), [{ tokens: 10 }, { tokens: 20 }])
  t.same(
    method.looks(shape).map(({ at }) => at),
    ['prompt', 'decode'],
  )
  t.same(rows(method, randomCache(21, 2, { at: 'decode', step: 5 })), [10, 20])
  const layers = methods.perLayer(methods.h2o(), [{ tokens: 10 }, 1])
  const rules = layers.decide({ at: 'session', shape })
  t.match(rules, [
    { layer: 0, rule: { tokens: 10 } },
    { layer: 2, rule: { share: 0.5 } },
  ])
  t.equal(rules.length, 7)
})

test('budgets of budgets: the outer one wins where it says something', async (t) => {
  const method = methods.perLayer(methods.perLayer(knorm, [0.1, 0.2, 0.3]), [0.8, undefined])
  t.same(
    [0, 1, 2].map((layer) => rows(method, randomCache(100, 1, { layer }))?.[0]),
    [80, 20, 30],
  )
  const fastv = methods.perLayer(methods.fastv({ layer: 3 }), (layer) => layer / 10)
  const [decision] = fastv.decide(randomLayer(3, 30, span(5, 25), 1))
  t.equal(decision?.action === 'drop' && decision.kept.length, 10 + 6)
})

test('onLayers: [from, to)', async (t) => {
  const method = methods.onLayers([2, 5], methods.h2o({ keep: 0.5 }))
  t.same(layersOf(method), [2, 3, 4])
  t.same(
    method.decide({ at: 'session', shape }).map(({ layer }) => layer),
    [2, 3, 4],
  )
  t.same(methods.onLayers([0, 2], methods.fastv()).looks(shape), [])
  t.equal(methods.onLayers([2, 3], methods.fastv()).looks(shape).length, 1)
  t.throws(() => methods.onLayers([2, 9], methods.h2o()).looks(shape), { name: 'RangeError' })
  const skips = methods.onLayers([0, 6], methods.llmDrop({ layers: [5, 6, 7] }))
  t.same(
    skips.decide({ at: 'session', shape }).map(({ layer }) => layer),
    [5],
  )
  const inner = methods.perLayer(methods.onLayers([2, 5], knorm), [0.1, 0.1, 0.1])
  t.same(layersOf(inner), [2, 3, 4])
  t.same(rows(inner, randomCache(100, 1, { layer: 2 })), [10, 10])
})

test('chain: the next acts on what the one before left', async (t) => {
  const seen = randomCache(200, 3)
  const decisions = methods.chain(methods.random({ keep: 0.5 }), knorm({ keep: 0.2 })).decide(seen) as (Decision & {
    action: 'evict'
  })[]
  t.same(
    decisions.map(({ method }) => method),
    ['random', 'knorm'],
  )
  t.same(
    decisions.map(({ keptPerHead }) => keptPerHead[1]?.length),
    [100, 40],
    'a share is of all tokens',
  )
  const [first, second] = decisions.map(({ keptPerHead }) => new Set(Array.from(keptPerHead[1] ?? [])))
  t.ok(second && first && [...second].every((row) => first.has(row)))
  const norms = seen.keyNorms(1)
  const best = [...(first ?? [])].sort((a, b) => (norms[a] as number) - (norms[b] as number)).slice(0, 40)
  t.same(
    [...(second ?? [])],
    best.sort((a, b) => a - b),
  )
})

test('chain: layers and cache, drops and merges', async (t) => {
  const method = methods.chain(
    methods.fastv({ layer: 2, keep: 0.5 }),
    methods.tome({ layers: [2], keep: 0.3 }),
    methods.snapkv({ keep: 0.5 }),
  )
  t.same(
    method.looks(shape).map(({ at }) => at),
    ['layer', 'layer', 'prompt'],
  )
  const [drop, merge, ...rest] = method.decide(randomLayer(2, 50, span(5, 45), 4))
  t.same(rest, [])
  t.equal(drop?.action === 'drop' && drop.kept.length, 30)
  t.equal(merge?.action === 'merge' && merge.into.length, 30)
  t.equal(merge?.action === 'merge' && new Set(Array.from(merge.into)).size, 22)
  t.same(
    method.decide(randomCache(100, 1)).map(({ method: who }) => who),
    ['snapkv'],
  )
  t.same(
    methods.chain(methods.fastv({ layer: 2 }), methods.fastv({ layer: 4 })).decide(randomLayer(3, 50, span(5, 45), 4)),
    [],
  )
})

test('every: again while decoding', async (t) => {
  const method = methods.every(4, methods.snapkv({ keep: { tokens: 40 } }))
  t.match(method.looks(shape), [{ at: 'prompt' }, { at: 'decode', every: 4 }])
  const schedule = makeSchedule([method], shape)
  const acts = [1, 2, 3, 4, 5, 6, 7, 8].filter((step) => schedule.cacheLayers('decode', step).length > 0)
  t.same(acts, [4, 8])
  t.same(rows(method, randomCache(44, 1, { at: 'decode', step: 4 })), [40, 40])
  t.match(methods.perLayer(method, [0.1]).looks(shape), [{ at: 'prompt' }, { at: 'decode', every: 4 }])
})

test('wrappers are methods like others: frozen, ranked, named', async (t) => {
  const inside = methods.onLayers([0, 4], methods.perHead(methods.snapkv({ window: 2 }), [0.5, 0.25]))
  t.ok(Object.isFrozen(inside) && Object.isFrozen(inside.options))
  t.equal(inside.label, 'onLayers(perHead(snapkv))')
  t.equal(inside.acts, 'cache')
  t.match(inside.decide(randomCache(100, 1))[0], { method: 'snapkv' })
  const ada = methods.adaKv({ of: inside, keep: { tokens: 20 } })
  t.equal(
    rows(ada, randomCache(100, 1))?.reduce((a, b) => a + b),
    40,
  )
  t.ok(methods.chain(knorm, methods.streamingLlm).repack)
})

test('misuse', async (t) => {
  const cases: [() => unknown, RegExp][] = [
    [() => methods.perLayer('snapkv' as never, []), /a method .* for `method` but received "snapkv"/],
    [() => methods.perLayer(methods.pyramidDrop(), []), /takes `keep`.* but received "pyramidDrop"/],
    [() => methods.perHead(methods.fastv(), []), /acts on the cache for `method` but received "fastv"/],
    [() => methods.perLayer(knorm, 0.5 as never), /array or a function .* for `keepOf` but received 0.5/],
    [() => methods.perLayer(knorm, ['half' as never]), /for `keepOf\[0\]` but received "half"/],
    [() => methods.perHead(knorm, [[0.5], ['half' as never]]), /for `keepOf\[1\]\[0\]` but received "half"/],
    [() => methods.onLayers(3 as never, knorm), /\[from, to\] for `layers` but received 3/],
    [() => methods.chain(knorm), /two methods/],
    [() => methods.every('4' as never, knorm), /for `n` but received "4"/],
    [() => methods.every(4, methods.fastv), /acts on the cache/],
    [
      () => methods.perLayer(knorm, () => 'half' as never).decide(randomCache(9, 1)),
      /for `keepOf\(0, 0\)` but received "half"/,
    ],
  ]
  for (const [run, message] of cases) t.throws(run, { name: 'TypeError', message })
  t.throws(() => methods.perLayer(knorm, [1.5]), {
    name: 'RangeError',
    message: /`keepOf\[0\]` but received 1.5/,
  })
  t.throws(() => methods.onLayers([4, 4], knorm), { name: 'RangeError' })
  t.throws(() => methods.every(0, knorm), { name: 'RangeError' })
})

test('no head of a chain sees what was not asked for', async (t) => {
  const seen = cacheSeen({ tokens: 64, keyNorms: [span(0, 64), span(0, 64)] })
  t.same(rows(methods.chain(methods.streamingLlm({ keep: 0.5 }), knorm({ keep: 0.25 })), seen), [16, 16])
})
