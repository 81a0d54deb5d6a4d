// EMS: of the rows that go, those that still matter fold into rows like them. arXiv 2412.08521; no code of the authors is public: what the abstract leaves open is our reading.
import { cacheMethod, type HeadKept } from '../cache-method.js'
import type { CacheSeen, Match } from '../method.js'
import { real, whole } from '../options.js'

interface Options {
  readonly window: number
  readonly relevant: number
  readonly similar: number
}

/**
 * A row's score is the larger of what all queries gave it so far, by the number of those that could see it, and of what the last `window` ones gave it, both with the same mean.
 * The best rows and the window stay (centres). Of the others the smallest set that with them holds `relevant` of all scores is looked at: each folds its value into the centre
 * whose key and value are most like its own (product of the cosines, 0 where one is negative), weighted by scores, or goes, where no centre is `similar` enough. Nothing folds
 * into the first token.
 */
export const ems = cacheMethod({
  name: 'ems',
  title: 'folds cache rows that matter into the rows most like them, and drops the rest',
  paper: '2412.08521',
  options: {
    window: whole(32, 'newest rows, whose queries look and which always stay', 1),
    relevant: real(0.95, 'share of the scores that is kept or folded', 0, 1),
    similar: real(0.6, 'least similarity to fold; less: the row goes', -1, 2),
  },
  needs: ({ window }) => [{ what: 'attention', rows: window }, { what: 'columnSums' }],
  score: importance,
  protect: ({ window }) => ({ sinks: 0, recent: window }),
  folding: { match: matchRelevant },
})

function importance(seen: CacheSeen, head: number): Float64Array {
  const sources = seen.sources(head)
  const near = seen.attention(head)
  const far = Float64Array.from(
    seen.columnSums(head),
    (sum, j) => sum / Math.max(1, seen.tokens - (sources[j] as number)),
  )
  const total = (values: ArrayLike<number> & Iterable<number>) => [...values].reduce((sum, value) => sum + value, 0)
  const scale = total(near) / (total(far) || 1)
  return far.map((value, j) => Math.max(value * scale, near[j] as number))
}

/** Each relevant row that goes looks for a centre; mass is the score. */
function matchRelevant(seen: CacheSeen, { head, kept, rows, scores }: HeadKept, { relevant, similar }: Options): Match {
  const sources = seen.sources(head)
  const all = scores()
  const stays = new Uint8Array(rows)
  for (const place of kept) stays[place] = 1
  const leavers = relevantRows(all, relevant).filter((place) => stays[place] === 0)
  const centres = kept.filter((place) => sources[place] !== 0)
  const named = (places: Iterable<number>) => Int32Array.from(places, (place) => sources[place] as number)
  const mass = (places: Iterable<number>) => Float64Array.from(places, (place) => all[place] as number)
  return {
    from: named(leavers),
    into: named(centres),
    mass: { from: mass(leavers), into: mass(centres) },
    least: similar,
  }
}

/** Places of the fewest rows whose scores make up the share, ascending. */
function relevantRows(scores: ArrayLike<number>, share: number): number[] {
  const order = Array.from(scores, (_, place) => place)
  order.sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
  const total = order.reduce((sum, place) => sum + (scores[place] as number), 0)
  let sum = 0
  let count = 0
  while (count < order.length && sum < share * total) sum += scores[order[count++] as number] as number
  return order.slice(0, count).sort((a, b) => a - b)
}
