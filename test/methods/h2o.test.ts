// H2O. Numbers of the card, worked by hand.
import { test } from 'tap'
import { type Method, methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, shape, single } from './seen.js'

test('h2o: one heavy hitter and two recent rows', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 5, columnSums: [[2.083, 1.916, 0.352, 0.501, 0.149]] })
  t.same(
    keptRows(methods.h2o({ keep: { tokens: 3 }, recent: 0.5 }), seen),
    [[0, 3, 4]],
    'half of three, rounded up, is two',
  )
  t.same(keptRows(methods.h2o({ keep: { tokens: 3 }, recent: 0 }), seen), [[0, 1, 3]])
  t.same(keptRows(methods.h2o({ keep: { tokens: 3 }, recent: 1 }), seen), [[2, 3, 4]])
  t.same(keptRows(methods.h2o({ keep: { tokens: 1 } }), seen), [[4]], 'of one row it is the newest')
})

test('h2o while decoding is a rule of native', async (t) => {
  const rules = (method: Method) =>
    method.looks(shape).some(({ at }) => at === 'session') ? method.decide({ at: 'session', shape }) : []
  t.same(rules(methods.h2o({ keep: { tokens: 64 } }))[7], {
    action: 'rule',
    layer: 7,
    rule: { kind: 'mass', recent: 0.5, tokens: 64, share: 0 },
  })
  t.same(rules(methods.h2o({ keep: 0.25 }))[0], {
    action: 'rule',
    layer: 0,
    rule: { kind: 'mass', recent: 0.5, tokens: 0, share: 0.25 },
  })
  t.equal(rules(methods.h2o({ keep: 0.25 })).length, 8)
  t.same(rules(methods.h2o({ every: 0 })), [])
  t.same(methods.h2o({ keep: 1 }).looks(shape), [])
  const looks = methods.h2o({ every: 4 }).looks(shape)
  t.same(
    looks.map(({ at }) => at),
    ['prompt', 'decode'],
    'every other step is decided step by step',
  )
  t.match(looks[1], { every: 4, needs: [{ what: 'columnSums' }] })
})
