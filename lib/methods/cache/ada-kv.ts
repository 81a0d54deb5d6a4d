// Ada-KV: a layer's budget goes to the heads whose rows score highest, ragged from head to head. arXiv 2407.11550
import { apportion } from '../../budget.js'
import { cacheMethod, type HeadRows } from '../cache-method.js'
import type { Method } from '../method.js'
import { real } from '../options.js'
import { ranked, rankingOf } from '../ranked.js'
import { type Protected, topK } from '../select.js'

/** Ada-KV over a method that gives the scores where none is named; the list says which. */
export function adaKvOver(preset: Method) {
  return cacheMethod({
    name: 'adaKv',
    title: "spreads a layer's budget over its heads by where the best rows are",
    paper: '2407.11550',
    options: { of: ranked(preset), floor: real(0.2, 'share of an even budget that every head gets', 0, 1) },
    needs: ({ of }) => [...rankingOf(of).needs],
    score: (seen, head, { of }, budget) => rankingOf(of).score(seen, head, budget),
    protect: ({ of }, budget, rows) => rankingOf(of).protect(rows, budget),
    allocate: (heads, { floor }) => spread(heads, floor),
  })
}

/**
 * Protected rows stay outside the count. Of the heads' other rows, taken together, the best decide how many each head gets: (1 - floor) of its hits and the floor's share of
 * an even budget; what rounding leaves goes to the largest fractional parts, so that the layer holds exactly what the budgets add up to.
 */
export function spread(heads: readonly HeadRows[], floor: number): number[] {
  const even = heads.map(({ budget, rows, safe }) => Math.max(0, budget - guarded(rows, safe)))
  const rest = heads.map(({ budget, rows, safe }, h) =>
    even[h] === 0 && budget < rows ? 0 : rows - guarded(rows, safe),
  )
  const total = even.reduce((sum, rows) => sum + rows, 0)
  const hits = countHits(heads, rest, total)
  const ideals = hits.map((hit, h) => hit * (1 - floor) + Math.floor(floor * (even[h] as number) + 1e-9))
  const granted = apportion(ideals, total, rest)
  return heads.map(({ budget }, h) => budget - (even[h] as number) + (granted[h] as number))
}

function guarded(rows: number, { sinks, recent }: Protected): number {
  return Math.min(rows, sinks + recent)
}

/** How many of the `total` best unprotected rows of all heads lie in each. */
function countHits(heads: readonly HeadRows[], rest: readonly number[], total: number): number[] {
  const scores = new Float64Array(rest.reduce((sum, rows) => sum + rows, 0))
  const ends: number[] = []
  let filled = 0
  for (const [h, head] of heads.entries()) {
    const sinks = Math.min(head.safe.sinks, head.rows)
    for (let j = 0, all = head.scores(); j < (rest[h] as number); j++) scores[filled++] = all[sinks + j] as number
    ends.push(filled)
  }
  const best = topK(scores, total)
  const below = ends.map((end) => best.filter((place) => place < end).length)
  return below.map((count, h) => count - (below[h - 1] ?? 0))
}
