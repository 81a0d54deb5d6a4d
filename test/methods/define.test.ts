import { test } from 'tap'
import { asMethod, defineMethod, makeSchedule, methods, packMethod, restoreMethod } from '../../lib/methods/index.js'
import { randomCache, randomLayer, shape, span } from './seen.js'

const newest = defineMethod({
  name: 'newest',
  acts: 'cache',
  options: { keep: 0.5, offset: 0, pool: 'max', loud: false, layers: [1, 2] },
  looks: (_, { layers }) => ({ at: 'prompt', layers }),
  decide(seen, { offset }, grant) {
    if (seen.at !== 'prompt') return null
    const keptPerHead = [0, 1].map((head) => seen.sources(head).slice(-grant.rows(seen, head) - offset))
    return { action: 'evict', layer: seen.layer, keptPerHead }
  },
})

test('a method of your own has the power of the built-in ones', async (t) => {
  const method = newest({ keep: { tokens: 7 }, offset: 1 })
  t.same(method.options, { keep: { tokens: 7 }, offset: 1, pool: 'max', loud: false, layers: [1, 2] })
  t.ok(Object.isFrozen(method) && Object.isFrozen(method.options))
  const schedule = makeSchedule([method], shape)
  t.same(schedule.cacheLayers('prompt', 0), [1, 2])
  t.match(schedule.decide(randomCache(20, 1, { layer: 1 })), [
    { entry: { method: 'newest', action: 'evict', before: 40, after: 16 } },
  ])
  const wrapped = methods.perHead(method, [0.5, 0.2])
  t.match(makeSchedule([wrapped], shape).decide(randomCache(20, 1, { layer: 2 })), [
    { entry: { method: 'newest', after: 11 + 5 } },
  ])
  t.throws(() => makeSchedule([method, methods.h2o()], shape), {
    code: 'ERR_METHOD_CONFLICT',
    message: /the cache of layer 1, but received newest and h2o/,
  })
})

test('looks may be short: all layers, no needs', async (t) => {
  const eyes = defineMethod({
    name: 'eyes',
    acts: 'probe',
    looks: [{ at: 'prompt' }, { at: 'decode' }, { at: 'layer', layer: 3 }],
    decide: () => null,
  })
  t.same(eyes().looks(shape), [
    { at: 'prompt', layers: [0, 1, 2, 3, 4, 5, 6, 7], needs: [] },
    { at: 'decode', every: 1, layers: [0, 1, 2, 3, 4, 5, 6, 7], needs: [] },
    { at: 'layer', layer: 3, needs: [] },
  ])
  const schedule = makeSchedule([eyes(), methods.snapkv(), methods.fastv({ layer: 3 })], shape)
  t.same(schedule.decide(randomLayer(3, 20, span(2, 18), 1)).length, 1, 'who only looks claims nothing')
})

test('a factory stands for its defaults', async (t) => {
  t.same(asMethod(methods.snapkv).options, methods.snapkv().options)
  t.equal(asMethod(newest).name, 'newest')
  t.equal(newest.name, 'newest')
  t.match(newest.info, { name: 'newest', acts: 'cache', options: { keep: { default: 0.5 }, offset: { default: 0 } } })
  for (const value of ['snapkv', 42, null, {}, { name: 'snapkv', decide() {} }, () => ({})]) {
    t.throws(() => asMethod(value), {
      name: 'TypeError',
      message: /^Expected a method such as methods.snapkv\(\) for `methods` but received/,
    })
  }
})

test('options are checked against their defaults', async (t) => {
  const cases: [object, RegExp][] = [
    [{ offset: '1' }, /a number for `offset` but received "1"/],
    [{ pool: 3 }, /a string for `pool` but received 3/],
    [{ loud: 1 }, /a boolean for `loud` but received 1/],
    [{ layers: 2 }, /an array for `layers` but received 2/],
    [{ layer: 2 }, /one of keep, offset, pool, loud, layers for `options of newest` but received "layer"/],
    [{ keep: 'half' }, /for `keep` but received "half"/],
    [[], /an object for `options of newest` but received an array of 0/],
  ]
  for (const [options, message] of cases) t.throws(() => newest(options as never), { name: 'TypeError', message })
  t.throws(() => newest({ offset: Number.NaN }), { name: 'RangeError' })
  t.throws(() => newest('x' as never), { name: 'TypeError' })
  t.same(newest({ offset: undefined }).options.offset, 0)
})

test('a definition that is none', async (t) => {
  const decide = () => null
  t.throws(() => defineMethod({ name: '', acts: 'cache', looks: [], decide }), { name: 'TypeError', message: /a name/ })
  t.throws(() => defineMethod({ name: 'x', acts: 'cache', looks: [], decide: 3 as never }), {
    name: 'TypeError',
    message: /a function for `decide of x`/,
  })
  t.throws(() => defineMethod({ name: 'x', acts: 'cache', looks: undefined as never, decide }), {
    name: 'TypeError',
    message: /looks of x/,
  })
  const look = (looks: unknown) =>
    defineMethod({ name: 'x', acts: 'cache', looks: looks as never, decide })().looks(shape)
  t.throws(() => look({ at: 'noon' }), { name: 'TypeError', message: /`looks of x` but received "noon"/ })
  t.throws(() => look({ at: 'decode', every: 0 }), { name: 'RangeError', message: /every of x/ })
  t.throws(() => look({ at: 'layer', layer: 0 }), {
    name: 'RangeError',
    message: /a layer from 1 to 7 for `x` but received 0/,
  })
  t.throws(() => look({ at: 'prompt', layers: [8] }), { name: 'RangeError', message: /received 8/ })
})

test('misuse of the built-in ones is a sentence', async (t) => {
  t.throws(() => methods.snapkv({ keep: 1.5 }), { name: 'RangeError', message: /for `keep` but received 1.5/ })
  t.throws(() => methods.snapkv({ keep: 'half' as never }), {
    name: 'TypeError',
    message: /for `keep` but received "half"/,
  })
  t.throws(() => methods.snapkv({ kep: 0.5 } as never), {
    name: 'TypeError',
    message: /one of keep, window, kernel, pool for `options of snapkv` but received "kep"/,
  })
  t.throws(() => methods.snapkv({ window: 0 }), {
    name: 'RangeError',
    message: /a whole number from 1 for `window` but received 0/,
  })
  t.throws(() => methods.snapkv({ window: '3' as never }), {
    name: 'TypeError',
    message: /for `window` but received "3"/,
  })
  t.throws(() => methods.h2o({ recent: 2 }), {
    name: 'RangeError',
    message: /a number from 0 to 1 for `recent` but received 2/,
  })
  t.throws(() => methods.h2o({ recent: null as never }), {
    name: 'TypeError',
    message: /for `recent` but received null/,
  })
  t.throws(() => methods.random({ seed: -1 }), { name: 'RangeError', message: /from 0 to 4294967295/ })
  t.throws(() => methods.snapkv({ pool: 'min' as never }), {
    name: 'TypeError',
    message: /one of max, avg for `pool` but received "min"/,
  })
})

test('methods are data: packed, through JSON, and made again', async (t) => {
  const all = [
    methods.snapkv({ keep: { bytes: '64MiB' }, window: 8 }),
    methods.pyramidDrop(),
    methods.adaKv({ of: methods.h2o({ recent: 0.25 }), floor: 0 }),
    methods.perLayer(methods.snapkv(), (layer) => (layer > 2 ? 0.1 : undefined)),
    methods.perHead(methods.random, [0.5, { tokens: 3 }]),
    methods.onLayers([2, 4], methods.streamingLlm()),
    methods.chain(methods.fastv(), methods.every(4, methods.random)),
  ]
  for (const method of all) {
    const again = restoreMethod(JSON.parse(JSON.stringify(packMethod(method, shape))))
    t.equal(again.label, method.label)
    t.same(again.looks(shape), method.looks(shape))
    const seen = randomCache(100, 3, { layer: 3 })
    t.same(again.decide(seen), method.decide(seen), method.label)
  }
  t.throws(() => restoreMethod(packMethod(newest(), shape)), {
    code: 'ERR_UNSUPPORTED',
    message: /'newest' of the saved session is not built in/,
  })
})
