// EMS: of the rows that go, those that still matter fold into rows like them. arXiv 2412.08521; no code of the authors is public: what the abstract leaves open is our reading.
import { cacheMethod, type HeadKept } from '../cache-method.js'
import type { CacheSeen, Fold } from '../method.js'
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
  folding: { fold: foldRelevant },
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

/** Each relevant row that goes, into its centre; weights are shares of the scores that a centre then holds. */
function foldRelevant(seen: CacheSeen, { head, kept, rows, scores }: HeadKept, { relevant, similar }: Options): Fold {
  const sources = seen.sources(head)
  const all = scores()
  const stays = new Uint8Array(rows)
  for (const place of kept) stays[place] = 1
  const leavers = relevantRows(all, relevant).filter((place) => stays[place] === 0)
  const centres = kept.filter((place) => sources[place] !== 0)
  const { headSize } = seen.shape
  const keys = units(seen.keys(head), headSize)
  const values = units(seen.values(head), headSize)
  const held = new Map<number, number>()
  const pairs: [number, number][] = []
  for (const place of leavers) {
    const centre = nearest(place, centres, [keys, values], headSize, similar)
    if (centre === undefined) continue
    pairs.push([place, centre])
    held.set(centre, (held.get(centre) ?? (all[centre] as number)) + (all[place] as number))
  }
  for (const centre of held.keys()) pairs.push([centre, centre])
  return {
    from: pairs.map(([place]) => sources[place] as number),
    into: pairs.map(([, centre]) => sources[centre] as number),
    weights: pairs.map(([place, centre]) => (all[place] as number) / (held.get(centre) || 1)),
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

/** The centre most like the row; undefined where none is as much as `least`. Of equals the lower. */
function nearest(
  place: number,
  centres: Int32Array,
  sides: readonly Float32Array[],
  size: number,
  least: number,
): number | undefined {
  let best: number | undefined
  let most = least
  for (const centre of centres) {
    let product = 1
    for (const side of sides) {
      let cosine = 0
      for (let d = 0; d < size; d++) cosine += (side[place * size + d] as number) * (side[centre * size + d] as number)
      product *= Math.max(0, cosine)
      if (product < most) break // the other cosine is 1 at most
    }
    if (product > most || (product === most && best === undefined)) {
      best = centre
      most = product
    }
  }
  return best
}

/** [rows × size], each row of length one; zeros stay. */
function units(rows: Float32Array, size: number): Float32Array {
  const out = rows.slice()
  for (let at = 0; at < out.length; at += size) {
    let squares = 0
    for (let i = at; i < at + size; i++) squares += (out[i] as number) ** 2
    for (let i = at; squares > 0 && i < at + size; i++) out[i] = (out[i] as number) / Math.sqrt(squares)
  }
  return out
}
