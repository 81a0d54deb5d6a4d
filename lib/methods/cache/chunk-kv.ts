// ChunkKV: neighbouring rows stay or go together, the same in every head. arXiv 2502.00299
import { cacheMethod } from '../cache-method.js'
import type { CacheSeen, Method } from '../method.js'
import { whole } from '../options.js'
import { sumOverHeads } from '../over-heads.js'
import { ranked, rankingOf } from '../ranked.js'

/** ChunkKV over a method that gives the scores where none is named. */
export function chunkKvOver(preset: Method) {
  return cacheMethod({
    name: 'chunkKv',
    title: 'keeps whole chunks of neighbouring cache rows by their mean score',
    paper: '2502.00299',
    options: { of: ranked(preset), chunk: whole(20, 'rows of a chunk; the last one may be shorter', 1) },
    needs: ({ of }) => [...rankingOf(of).needs],
    score: (seen, head, { chunk, of }, budget) => chunkScores(seen, head, { of, chunk, budget }),
    protect: ({ of }, budget, rows) => rankingOf(of).protect(rows, budget),
  })
}

interface Chunks {
  readonly of: Method
  readonly chunk: number
  readonly budget: number
}

/**
 * [rows]: minus the rank of the row's chunk by mean score, so that the best chunks are taken whole; of the last one that begins to fit the first rows are. Rows that the
 * method inside protects are in no chunk.
 */
function chunkScores(seen: CacheSeen, head: number, { budget, chunk, of }: Chunks): Float64Array {
  const { protect, score } = rankingOf(of)
  const sums = sumOverHeads(seen, head, (other) => score(seen, other, budget))
  const safe = protect(sums.length, budget)
  const begin = Math.min(safe.sinks, sums.length)
  const end = Math.max(begin, sums.length - safe.recent)
  const means: { at: number; mean: number }[] = []
  for (let at = begin; at < end; at += chunk) {
    const part = sums.subarray(at, Math.min(end, at + chunk))
    means.push({ at, mean: part.reduce((sum, value) => sum + value, 0) / part.length })
  }
  means.sort((a, b) => b.mean - a.mean || a.at - b.at)
  const scores = new Float64Array(sums.length)
  for (const [rank, { at }] of means.entries()) scores.fill(0 - rank, at, Math.min(end, at + chunk))
  return scores
}
