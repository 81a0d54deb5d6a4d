// CaM: a row that leaves while text is generated spreads its value over the rows after it, the more of it the more it was looked at. Zhang et al., ICML 2024
import { cacheMethod, type HeadKept } from '../cache-method.js'
import { lots } from '../lots.js'
import type { CacheNeed, CacheSeen, Fold, Method } from '../method.js'
import { whole, word } from '../options.js'
import { ranked, rankingOf } from '../ranked.js'
import { topK } from '../select.js'

interface Options {
  readonly window: number
  readonly draw: 'expected' | 'chance'
  readonly seed: number
  readonly every: number
}

/**
 * CaM over a method that chooses who leaves. A row folds into the `window` kept rows after it with probability p, its attention by the mean of theirs, 1 at most; each of them
 * then holds an equal part of its value more. Instead of drawing lots, the default adds p of the value, which is what drawing comes to on average. Attention is that of
 * the newest row. Of the rows that leave at once so many fold as steps have passed. Prompts are compressed without folding, as the paper
 * compresses none: where hundreds of rows leave at once, those after them would hold hundreds of
 * values. Nothing takes back what was added: values grow while text goes on, and on running text plain eviction may lose less (docs/quality.md).
 */
export function camOver(preset: Method) {
  return cacheMethod({
    name: 'cam',
    title: 'spreads the values of cache rows that leave while text is generated over the rows after them',
    paper: 'ICML 2024',
    options: {
      of: ranked(preset),
      window: whole(32, 'kept rows after a row that leaves, over which its value is spread', 1),
      draw: word(
        'expected',
        ['expected', 'chance'],
        'a share of the value by its probability, or all of it or nothing',
      ),
      seed: whole(1, 'another seed, other draws', 0, 0xffffffff),
      every: whole(16, 'decode steps between evictions; 0: once, after the prompt'),
    },
    needs: ({ of }) => withAttention(rankingOf(of).needs),
    score: (seen, head, { of }, budget) => rankingOf(of).score(seen, head, budget),
    protect: ({ of }, budget, rows) => rankingOf(of).protect(rows, budget),
    folding: { fold: spreadLeavers },
  })
}

/** At a decode step the newest rows of the call are one, however many were asked for. */
function withAttention(needs: readonly CacheNeed[]): CacheNeed[] {
  return needs.some(({ what }) => what === 'attention') ? [...needs] : [...needs, { what: 'attention', rows: 1 }]
}

function spreadLeavers(seen: CacheSeen, { head, kept, rows }: HeadKept, options: Options): Fold {
  const fold = { from: [] as number[], into: [] as number[], weights: [] as number[] }
  if (seen.at !== 'decode') return fold
  const sources = seen.sources(head)
  const attention = seen.attention(head)
  const luck = options.draw === 'chance' ? lots(options.seed, seen.layer, head, sources) : undefined
  for (const leaver of leavers(kept, rows, attention, options.every)) {
    const next = kept.findIndex((place) => place > leaver)
    const window = next < 0 ? [] : Array.from(kept.subarray(next, next + options.window))
    const p = probability(
      attention[leaver] as number,
      window.map((place) => attention[place] as number),
    )
    const share = luck ? Number((luck[leaver] as number) < p) : p
    if (share === 0) continue
    for (const place of window) {
      fold.from.push(sources[leaver] as number)
      fold.into.push(sources[place] as number)
      fold.weights.push(share / window.length)
    }
  }
  return fold
}

/** Places of rows that leave: of more than `most` those with the most attention. */
function leavers(kept: Int32Array, rows: number, attention: Float32Array, most: number): number[] {
  const gone: number[] = []
  for (let place = 0, at = 0; place < rows; place++) {
    if (kept[at] === place) at++
    else gone.push(place)
  }
  return Array.from(
    topK(
      Float32Array.from(gone, (place) => attention[place] as number),
      most,
    ),
    (i) => gone[i] as number,
  )
}

/** Attention by the mean of the window's, within [0, 1]: 0 where both are 0, 1 where only the window's is. */
function probability(own: number, window: readonly number[]): number {
  const ratio = own / (window.reduce((sum, value) => sum + value, 0) / window.length)
  return Number.isNaN(ratio) ? 0 : Math.min(1, Math.max(0, ratio))
}
