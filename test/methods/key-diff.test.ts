// KeyDiff. Numbers of the card, worked by hand.
import { test } from 'tap'
import { unlikeness } from '../../lib/methods/cache/key-diff.js'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, floats, generator, keptRows, single } from './seen.js'

const keys = [3, 0, 2, 0.2, 1, -0.1, 0, 1, -1, 0.5]
const small = { ...single, headSize: 2 }

test('keyDiff: five keys in the plane', async (t) => {
  const scores = Array.from(unlikeness(Float32Array.from(keys), 2), (score) => Math.round(-score * 1e4) / 1e4)
  t.same(scores, [0.8229, 0.8753, 0.7622, 0.5682, -0.4819], 'the anchor is (.4191, .2894), of unit keys')
  const seen = cacheSeen({ shape: small, tokens: 5, keys: [keys] })
  t.same(keptRows(methods.keyDiff({ keep: { tokens: 2 }, sinks: 0 }), seen), [[3, 4]])
  t.same(keptRows(methods.keyDiff({ keep: { tokens: 2 }, sinks: 1 }), seen), [[0, 4]], 'sinks stay')
  t.same(keptRows(methods.keyDiff({ keep: { tokens: 3 }, sinks: 0, recent: 2 }), seen), [[2, 3, 4]])
  t.same(keptRows(methods.keyDiff({ keep: { tokens: 5 }, sinks: 0 }), seen), [[0, 1, 2, 3, 4]])
})

test('keyDiff: how long a key is does not matter, and one of zeros is like nothing', async (t) => {
  const next = generator(4)
  const one = floats(40, () => next() - 0.5)
  const scores = unlikeness(one, 4)
  const other = unlikeness(
    one.map((value, i) => value * (1 + (i >> 2))),
    4,
  )
  for (const [j, score] of scores.entries()) t.ok(Math.abs(score - (other[j] as number)) < 1e-6)
  t.same(unlikeness(new Float32Array(4), 2), [0, 0])
})

test('keyDiff in blocks: after each block the cache is back at its budget', async (t) => {
  const next = generator(9)
  const all = floats(2 * 60, () => next() - 0.5)
  let rows: number[] = []
  for (let from = 0; from < 60; from += 10) {
    rows.push(...Array.from({ length: 10 }, (_, i) => from + i))
    const held = rows.flatMap((row) => [all[2 * row] as number, all[2 * row + 1] as number])
    const seen = cacheSeen({ shape: small, tokens: from + 10, sources: [rows], keys: [held] })
    rows = keptRows(methods.keyDiff({ keep: { tokens: 12 }, sinks: 0 }), seen)[0] ?? []
    t.equal(rows.length, Math.min(12, from + 10))
  }
})
