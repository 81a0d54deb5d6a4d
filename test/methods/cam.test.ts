// CaM. Numbers of the card, worked by hand; what the engine makes of folds is in test/fold.test.ts.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import type { CacheSeen, Fold } from '../../lib/methods/method.js'
import { cacheSeen, keptRows, randomCache, shape, single } from './seen.js'

// Row 1 leaves, with .06 of the attention; .10, .06 and .08 of the card are those after it.
const tokens = 5
const toy = (attention = [0.5, 0.06, 0.1, 0.06, 0.08], at: 'prompt' | 'decode' = 'decode') =>
  cacheSeen({ at, shape: single, step: 1, tokens, attention: [attention] })

function foldOf(seen: CacheSeen, options: object): Fold | undefined {
  const of = methods.recent({ sinks: 1 })
  const [decision] = methods.cam({ of, keep: { tokens: 4 }, window: 3, ...options }).decide(seen)
  return decision?.action === 'evict' ? decision.folds?.[0] : undefined
}

/** What the rows of the card hold after a fold of their values. */
function after(fold: Fold = { from: [], into: [], weights: [] }): number[][] {
  const values = new Map([
    [1, [3, 6]],
    [2, [1, 0]],
    [3, [0, 1]],
    [4, [2, 2]],
  ])
  return [2, 3, 4].map((row) =>
    [0, 1].map((d) => {
      const added = Array.from(fold.from, (from, i) =>
        fold.into[i] === row ? (fold.weights[i] as number) * (values.get(from)?.[d] ?? 0) : 0,
      )
      return Number(added.reduce((sum, value) => sum + value, values.get(row)?.[d] ?? 0).toFixed(5))
    }),
  )
}

test('cam: the value of a row that leaves, spread over the three after it', async (t) => {
  t.same(keptRows(methods.cam({ of: methods.recent({ sinks: 1 }), keep: { tokens: 4 } }), toy()), [[0, 2, 3, 4]])
  t.same(after(foldOf(toy(), {})), [
    [1.75, 1.5],
    [0.75, 2.5],
    [2.75, 3.5],
  ])
  t.same(foldOf(toy(), {})?.from, [1, 1, 1])
  const drawn = [...Array(400).keys()].map((seed) => foldOf(toy(), { draw: 'chance', seed }))
  const whole = drawn.filter((fold) => fold?.from.length === 3)
  t.same(after(whole[0]), [
    [2, 2],
    [1, 3],
    [3, 4],
  ])
  t.equal(whole.length + drawn.filter((fold) => fold?.from.length === 0).length, 400, 'all of it or nothing')
  t.ok(whole.length > 260 && whole.length < 340, `${whole.length} of 400 with a probability of .75`)
  t.same(foldOf(toy(), { draw: 'chance', seed: 7 }), foldOf(toy(), { draw: 'chance', seed: 7 }))
})

test('cam: the probability is within 0 and 1, the window within the rows', async (t) => {
  const none = { from: [], into: [], weights: [] }
  t.same(foldOf(toy([0.5, 0, 0.1, 0.1, 0.1]), {}), none, 'nobody looked: plain eviction')
  t.same(foldOf(toy([0.5, 0, 0, 0, 0]), {}), none, 'nor at any other')
  t.same(foldOf(toy([0.5, 0.2, 0, 0, 0]), {})?.weights, [1 / 3, 1 / 3, 1 / 3], 'only this one was looked at')
  t.same(foldOf(toy([0.5, 0.9, 0.1, 0.1, 0.1]), { window: 2 })?.weights, [1 / 2, 1 / 2], 'more than those after it')
  t.same(foldOf(toy([0.5, 0.9, 0.1, 0.1, 0.1]), { window: 9 })?.weights, [1 / 3, 1 / 3, 1 / 3], 'only three follow')
  t.same(foldOf(toy(undefined, 'prompt'), {}), none, 'prompts do not fold')
})

test('cam: of the rows that leave at once so many fold as steps have passed, those with the most attention', async (t) => {
  const seen = randomCache(40, 3, { at: 'decode', step: 8, shape: single })
  const options = { keep: { tokens: 30 }, window: 2, of: methods.recent({ sinks: 2 }) }
  const fold = foldOf(seen, { ...options, every: 8 })
  const attention = seen.attention(0)
  const gone = [...Array(10).keys()].map((i) => i + 2)
  const best = gone.sort((a, b) => (attention[b] as number) - (attention[a] as number)).slice(0, 8)
  t.same(
    [...new Set(Array.from(fold?.from ?? []))],
    best.sort((a, b) => a - b),
  )
  t.same([...new Set(Array.from(fold?.into ?? []))], [12, 13], 'the window begins at the next row that stays')
  t.same(methods.cam({ of: methods.snapkv() }).looks(shape)[1]?.at, 'decode')
  const [decision] = methods.cam({ of: methods.h2o(), keep: 0.5 }).decide(seen)
  t.same(decision?.action === 'evict' && decision.folds?.length, 1)
})
