// Cache methods against the numbers of their cards, worked by hand.
import { test } from 'tap'
import { type CacheSeen, type Method, methods, type Shape } from '../../lib/methods/index.js'
import { cacheSeen, shape } from './seen.js'

const single: Shape = { ...shape, heads: 1, kvHeads: 1 }

/** Rows that stay in each head; all of them where nothing is decided. */
function kept(method: Method, seen: CacheSeen): number[][] {
  const [decision] = method.decide(seen)
  if (decision?.action === 'evict') return decision.keptPerHead.map((rows) => Array.from(rows))
  return Array.from({ length: seen.shape.kvHeads }, (_, head) => [...seen.sources(head)])
}

test('snapkv: window 2 of 8 rows', async (t) => {
  // Sums of (.10 .05 .30 .05 .10 .20) and (.05 .05 .25 .05 .05 .15), then the window's own two.
  const seen = cacheSeen({ shape: single, tokens: 8, attention: [[0.15, 0.1, 0.55, 0.1, 0.15, 0.35, 9, 9]] })
  const of = (options: object) => kept(methods.snapkv({ window: 2, keep: { tokens: 4 }, ...options }), seen)
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
  const [a = [], b = []] = kept(methods.snapkv({ keep: { tokens: 128 } }), cacheSeen({ tokens: 600, attention }))
  t.same([a.length, b.length], [128, 128])
  t.same(
    a.slice(-32),
    Array.from({ length: 32 }, (_, i) => 568 + i),
  )
})

test('h2o: one heavy hitter and two recent rows', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 5, columnSums: [[2.083, 1.916, 0.352, 0.501, 0.149]] })
  t.same(
    kept(methods.h2o({ keep: { tokens: 3 }, recent: 0.5 }), seen),
    [[0, 3, 4]],
    'half of three, rounded up, is two',
  )
  t.same(kept(methods.h2o({ keep: { tokens: 3 }, recent: 0 }), seen), [[0, 1, 3]])
  t.same(kept(methods.h2o({ keep: { tokens: 3 }, recent: 1 }), seen), [[2, 3, 4]])
  t.same(kept(methods.h2o({ keep: { tokens: 1 } }), seen), [[4]], 'of one row it is the newest')
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

test('streamingLlm: two sinks and three recent rows', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 7 })
  const method = methods.streamingLlm({ sinks: 2, keep: { tokens: 5 } })
  t.same(kept(method, seen), [[0, 1, 4, 5, 6]])
  t.ok(method.repack)
  t.notOk(methods.streamingLlm({ positions: 'keep' }).repack)
  t.same(kept(methods.streamingLlm({ sinks: 0, keep: { tokens: 5 } }), seen), [[2, 3, 4, 5, 6]])
  t.same(kept(methods.streamingLlm({ sinks: 4, keep: { tokens: 2 } }), seen), [[0, 6]])
  t.same(kept(methods.streamingLlm({ sinks: 2, keep: { tokens: 7 } }), seen), [[0, 1, 2, 3, 4, 5, 6]])
  const bytes = { bytes: 8 * 2 * 16 * 40 }
  t.same(methods.streamingLlm({ keep: bytes }).decide({ at: 'session', shape })[0], {
    action: 'rule',
    layer: 0,
    rule: { kind: 'window', sinks: 4, tokens: 40, share: 0 },
  })
})

test('knorm: the smallest norms stay', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 5, keyNorms: [[3, 2.01, 1.005, 1, 1.118]] })
  t.same(kept(methods.knorm({ keep: 0.4 }), seen), [[2, 3]])
  t.same(kept(methods.knorm({ keep: { tokens: 3 } }), seen), [[2, 3, 4]])
})

const ragged = [
  [0.9, 0.02, 0.01, 0.01, 0.01, 0.01],
  [0.2, 0.19, 0.18, 0.17, 0.16, 0.15],
]

test('adaKv: one peaked and one even head', async (t) => {
  // Six rows before a window of two; five rows a head are three and the window.
  const attention = ragged.map((head) => [...head, 9, 9])
  const of = methods.snapkv({ window: 2, kernel: 1 })
  const counts = (floor: number) =>
    kept(methods.adaKv({ of, floor, keep: { tokens: 5 } }), cacheSeen({ tokens: 8, attention })).map(
      (rows) => rows.length - 2,
    )
  t.same(counts(0), [1, 5], 'the six best rows of both heads')
  t.same(counts(0.2), [1, 5], 'the card has (1, 4); the row that rounding leaves goes to the larger fraction, then on')
  t.same(counts(0.5), [2, 4])
  t.same(counts(1), [3, 3], 'the base method')
  const [first, second] = kept(
    methods.adaKv({ of, floor: 0.5, keep: { tokens: 5 } }),
    cacheSeen({ tokens: 8, attention }),
  )
  t.same(first, [0, 1, 6, 7])
  t.same(second, [0, 1, 2, 3, 6, 7])
})

test('adaKv: a second prompt on a ragged cache has the whole budget of the layer', async (t) => {
  const sources = [
    [0, 5, 6, 7, 8],
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
  ]
  const attention = sources.map((rows) => rows.map((row) => 1 / (row + 1)))
  const method = methods.adaKv({ of: methods.snapkv({ window: 2, kernel: 1 }), keep: { tokens: 6 } })
  const rows = kept(method, cacheSeen({ tokens: 9, sources, attention })).map((head) => head.length)
  t.equal((rows[0] as number) + (rows[1] as number), 12)
  t.same(
    kept(
      methods.adaKv({ of: methods.snapkv({ window: 2 }), keep: { tokens: 7 } }),
      cacheSeen({ tokens: 9, sources, attention }),
    ),
    sources,
    '14 rows for 14',
  )
})

test('adaKv takes any method that scores, and no other', async (t) => {
  const seen = cacheSeen({ tokens: 8, columnSums: ragged.map((head) => [...head, 9, 9]) })
  const rows = kept(methods.adaKv({ of: methods.h2o({ recent: 0 }), keep: { tokens: 4 } }), seen)
  t.equal(rows.flat().length, 8)
  t.throws(() => methods.adaKv({ of: methods.fastv() }), {
    name: 'TypeError',
    message: /a method that scores cache rows for `of` but received "fastv"/,
  })
  t.throws(() => methods.adaKv({ of: 'snapkv' as never }), { name: 'TypeError', message: /received "snapkv"/ })
})

test('random: seeded, fair, nested', async (t) => {
  const seen = cacheSeen({ tokens: 200 })
  const [a] = kept(methods.random({ keep: 0.5 }), seen)
  const [b] = kept(methods.random({ keep: 0.5 }), seen)
  const [other] = kept(methods.random({ keep: 0.5, seed: 2 }), seen)
  const [fewer] = kept(methods.random({ keep: 0.3 }), seen)
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
    for (const row of kept(methods.random({ keep: 0.5, seed }), seen).flat()) hits[row] = (hits[row] as number) + 1
  const free = hits.slice(4, 168).map((count) => count / 800)
  t.ok(
    free.every((share) => Math.abs(share - 64 / 164) < 0.09),
    'every free row has the same chance',
  )
})

test('a sliding layer: the share is of the rows that it may hold', async (t) => {
  const sliding: Shape = { ...single, windows: [0, 20, 0, 0, 0, 0, 0, 0] }
  const rows = Array.from({ length: 20 }, (_, i) => 80 + i)
  const seen = cacheSeen({ shape: sliding, layer: 1, tokens: 100, sources: [rows] })
  t.equal(kept(methods.streamingLlm({ keep: 0.25 }), seen)[0]?.length, 5)
})
