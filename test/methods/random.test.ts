// Random rows.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows } from './seen.js'

test('random: seeded, fair, nested', async (t) => {
  const seen = cacheSeen({ tokens: 200 })
  const [a] = keptRows(methods.random({ keep: 0.5 }), seen)
  const [b] = keptRows(methods.random({ keep: 0.5 }), seen)
  const [other] = keptRows(methods.random({ keep: 0.5, seed: 2 }), seen)
  const [fewer] = keptRows(methods.random({ keep: 0.3 }), seen)
  t.same(a, b)
  t.not(JSON.stringify(a), JSON.stringify(other))
  t.same(a?.slice(0, 4), [0, 1, 2, 3])
  t.same(
    a?.slice(-32),
    Array.from({ length: 32 }, (_, i) => 168 + i),
  )
  t.ok(
    fewer?.every((row) => a?.includes(row)),
    'a smaller budget keeps a part of what a larger one does',
  )
  const hits = new Float64Array(200)
  for (let seed = 0; seed < 400; seed++)
    for (const row of keptRows(methods.random({ keep: 0.5, seed }), seen).flat()) hits[row] = (hits[row] as number) + 1
  const free = hits.slice(4, 168).map((count) => count / 800)
  t.ok(
    free.every((share) => Math.abs(share - 64 / 164) < 0.09),
    'every free row has the same chance',
  )
})
