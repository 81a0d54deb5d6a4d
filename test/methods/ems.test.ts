// EMS. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { foldOfMatch } from '../../lib/methods/matches.js'
import type { CacheSeen, Fold, Match, Partners } from '../../lib/methods/method.js'
import { cacheSeen, keptRows, randomCache, single } from './seen.js'

// Row 0 is the first token, into which nothing folds; then c0, c1 and t of the card, and the window.
const toy = cacheSeen({
  shape: { ...single, headSize: 2 },
  tokens: 5,
  attention: [[0.9, 0.6, 0.3, 0.2, 0.9]],
  columnSums: [[0, 0, 0, 0, 0]],
  keys: [[0.8, 0.6, 1, 0, 0, 1, 0.8, 0.6, -1, -1]],
  values: [[1, 0, 1, 0, 0, 1, 1, 0, -1, -1]],
})

function foldOf(seen: CacheSeen, options: object): Fold | undefined {
  const [decision] = methods.ems({ window: 1, relevant: 1, ...options }).decide(seen)
  const match = decision?.action === 'evict' ? decision.matches?.[0] : undefined
  return match && foldOfMatch(match, partners(match, seen))
}

/** What native finds, pair by pair. */
function partners({ from, into }: Match, seen: CacheSeen): Partners {
  const sides = [seen.keys(0), seen.values(0)]
  const size = seen.shape.headSize
  const sources = seen.sources(0)
  const cosine = (side: Float32Array, a: number, b: number) => {
    const [x, y] = [a, b].map((row) => side.subarray(sources.indexOf(row) * size).subarray(0, size))
    const dot = (one: ArrayLike<number> = [], two: ArrayLike<number> = []) =>
      Array.from(one).reduce((sum, value, d) => sum + value * (two[d] as number), 0)
    return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y))
  }
  const found = Array.from(from, (row) => {
    const alike = Array.from(into, (other) =>
      sides.reduce((product, side) => product * Math.max(0, cosine(side, row, other)), 1),
    )
    const most = Math.max(...alike)
    return { most, at: alike.indexOf(most) }
  })
  return { partner: Int32Array.from(found, ({ at }) => at), similarity: Float32Array.from(found, ({ most }) => most) }
}

test('ems: a row folds into the centre like it, or goes', async (t) => {
  const keep = { tokens: 4 }
  t.same(keptRows(methods.ems({ keep, window: 1 }), toy), [[0, 1, 2, 4]])
  const fold = foldOf(toy, { keep, similar: 0.6 })
  t.same(
    [fold?.from, fold?.into],
    [
      [3, 1],
      [1, 1],
    ],
    'the similarities are .8 and 0; the first token is left alone',
  )
  t.ok(Math.abs((fold?.weights[0] ?? 0) - 0.25) < 1e-6, '.2 of .8')
  t.ok(Math.abs((fold?.weights[1] ?? 0) - 0.75) < 1e-6)
  t.same(foldOf(toy, { keep, similar: 0.9 })?.from, [], 'no centre is like it')
  t.same(foldOf(toy, { keep, relevant: 0.5 })?.from, [], 'it does not matter')
})

test('ems: nothing is similar enough, everything is', async (t) => {
  const seen = randomCache(120, 5)
  const options = { keep: 0.3, window: 4, relevant: 1 }
  t.same(foldOf(seen, { ...options, similar: 1.01 })?.from, [])
  const all = foldOf(seen, { ...options, similar: -1 })
  const folded = Array.from(all?.from ?? []).filter((row, i) => row !== all?.into[i])
  t.same(folded.length, 120 - 36, 'every row that goes folds')
  const held = new Map<number, number>()
  for (const [i, into] of Array.from(all?.into ?? []).entries())
    held.set(into, (held.get(into) ?? 0) + (all?.weights[i] ?? 0))
  t.ok(
    [...held.values()].every((sum) => Math.abs(sum - 1) < 1e-9),
    'weights of a centre add up to one',
  )
})

test('ems: scores of both kinds have one mean, and early rows no advantage', async (t) => {
  const seen = cacheSeen({
    shape: { ...single, headSize: 1 },
    tokens: 4,
    attention: [[0.1, 0.1, 0.5, 0.3]],
    columnSums: [[4, 0.3, 0.2, 0.1]],
    keys: [[1, 1, 1, 1]],
    values: [[1, 1, 1, 1]],
  })
  const [decision] = methods.ems({ window: 1, keep: { tokens: 3 } }).decide(seen)
  const scores =
    decision?.action === 'evict' ? Array.from(decision.scores?.[0] ?? [], (score) => Number(score.toFixed(4))) : []
  t.same(scores, [0.7692, 0.1, 0.5, 0.3], 'sums by queries 1 .1 .1 .1, of mean .325, times .25 / .325')
})
