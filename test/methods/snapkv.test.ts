// SnapKV. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, shape, single } from './seen.js'

test('snapkv: window 2 of 8 rows', async (t) => {
  // Sums of (.10 .05 .30 .05 .10 .20) and (.05 .05 .25 .05 .05 .15), then the window's own two.
  const seen = cacheSeen({ shape: single, tokens: 8, attention: [[0.15, 0.1, 0.55, 0.1, 0.15, 0.35, 9, 9]] })
  const of = (options: object) => keptRows(methods.snapkv({ window: 2, keep: { tokens: 4 }, ...options }), seen)
  t.same(of({ kernel: 3, pool: 'avg' }), [[1, 3, 6, 7]], 'pooled')
  t.same(of({ kernel: 1 }), [[2, 5, 6, 7]], 'not pooled')
  t.same(of({ kernel: 3, pool: 'max' }), [[1, 2, 6, 7]], 'the plateau 1, 2, 3: the lower rows')
  t.same(of({ keep: { tokens: 8 } }), [[0, 1, 2, 3, 4, 5, 6, 7]])
  t.same(methods.snapkv({ window: 5 }).looks(shape)[0], {
    at: 'prompt',
    layers: [0, 1, 2, 3, 4, 5, 6, 7],
    needs: [{ what: 'attention', rows: 5 }],
  })
  t.throws(() => methods.snapkv({ kernel: 4 }), {
    name: 'RangeError',
    message: /odd number for `kernel` but received 4/,
  })
})

test('snapkv keeps the capacity in every head', async (t) => {
  const attention = [
    Array.from({ length: 600 }, (_, i) => i % 7),
    Array.from({ length: 600 }, (_, i) => (i * 13) % 101),
  ]
  const [a = [], b = []] = keptRows(methods.snapkv({ keep: { tokens: 128 } }), cacheSeen({ tokens: 600, attention }))
  t.same([a.length, b.length], [128, 128])
  t.same(
    a.slice(-32),
    Array.from({ length: 32 }, (_, i) => 568 + i),
  )
})
