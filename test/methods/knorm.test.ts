// L2 norm of keys. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, single } from './seen.js'

test('knorm: the smallest norms stay', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 5, keyNorms: [[3, 2.01, 1.005, 1, 1.118]] })
  t.same(keptRows(methods.knorm({ keep: 0.4 }), seen), [[2, 3]])
  t.same(keptRows(methods.knorm({ keep: { tokens: 3 } }), seen), [[2, 3, 4]])
})
