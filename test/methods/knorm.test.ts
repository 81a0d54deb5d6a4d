// KNorm. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { makeSchedule } from '../../lib/methods/schedule.js'
import { cacheSeen, keptRows, randomCache, shape, single } from './seen.js'

const keys = [
  [3, 0],
  [2, 0.2],
  [1, -0.1],
  [0, 1],
  [-1, 0.5],
]
const norms = keys.map((key) => Math.hypot(...key))

test('knorm: the shortest keys stay, the newest too where it is one of them', async (t) => {
  t.same(
    norms.map((norm) => norm.toFixed(3)),
    ['3.000', '2.010', '1.005', '1.000', '1.118'],
  )
  const seen = cacheSeen({ shape: single, tokens: 5, keyNorms: [norms] })
  t.same(keptRows(methods.knorm({ keep: 0.4 }), seen), [[2, 3]])
  t.same(keptRows(methods.knorm({ keep: { tokens: 3 } }), seen), [[2, 3, 4]])
  const equal = cacheSeen({ shape: single, tokens: 5, keyNorms: [[2, 1, 1, 1, 2]] })
  t.same(keptRows(methods.knorm({ keep: 0.4 }), equal), [[1, 2]], 'of equals the lower')
})

test('knorm: rounded up in every head, and nothing below pruneAfter', async (t) => {
  for (const rows of keptRows(methods.knorm({ keep: 0.3 }), randomCache(101, 3))) t.equal(rows.length, 31)
  t.same(methods.knorm({ keep: 0.3, pruneAfter: 102 }).decide(randomCache(101, 3)), [])
  t.equal(methods.knorm({ keep: 0.3, pruneAfter: 101 }).decide(randomCache(101, 3)).length, 1)
})

test('knorm: asks for norms as they come', async (t) => {
  const schedule = makeSchedule([methods.onLayers([2, 8], methods.knorm())], shape)
  t.ok(schedule.asksNorms)
  t.same(
    schedule.observations('prompt', 0),
    [2, 3, 4, 5, 6, 7].map((layer) => ({ layer, keyNorms: true })),
  )
  t.notOk(makeSchedule([methods.snapkv()], shape).asksNorms)
})
