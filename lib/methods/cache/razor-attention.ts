// RazorAttention: heads that fetch from afar keep everything, all others sinks, the newest rows, and one row that stands for those between. arXiv 2407.15891
import { typeError } from '../../errors.js'
import { cacheMethod, type HeadKept } from '../cache-method.js'
import type { CacheSeen, Fold } from '../method.js'
import { headList, type Option, whole } from '../options.js'

const compensate: Option<boolean> = {
  default: true,
  about: 'whether the rows between leave their mean',
  parse(value, name) {
    if (typeof value !== 'boolean') throw typeError('true or false', name, value)
    return value
  },
}

/**
 * `keep` is the budget of the heads that are not in `heads`. Their rows between sinks and newest fold into the first of them, keys as cached and values: the mean, which counts in
 * attention as so many tokens. Which heads fetch depends on the model: `retrievalHeads(model)` finds them.
 */
export const razorAttention = cacheMethod({
  name: 'razorAttention',
  title: 'keeps all rows of the heads that fetch from afar, and a mean of the middle in the others',
  paper: '2407.15891',
  options: {
    heads: headList('[layer, KV head] pairs that keep every row, as retrievalHeads(model) finds them'),
    sinks: whole(4, 'first rows, which stay'),
    compensate,
  },
  score: (seen, head) => Float64Array.from(seen.sources(head), (_, place) => 0 - place),
  protect: ({ compensate, sinks }, budget) => ({ sinks, recent: Math.max(1, budget - sinks - (compensate ? 1 : 0)) }),
  allocate: (rows, { heads }, { layer }) =>
    rows.map((head, h) => (heads.some(([l, k]) => l === layer && k === h) ? head.rows : head.budget)),
  folding: { fold: foldMiddle, keys: true, sizes: true },
})

/** Everything that goes into the row after the sinks. */
function foldMiddle(
  seen: CacheSeen,
  { head, kept, rows }: HeadKept,
  { compensate, sinks }: { compensate: boolean; sinks: number },
): Fold {
  const sources = seen.sources(head)
  const carrier = kept[sinks]
  if (!compensate || carrier !== sinks || kept.length === rows) return { from: [], into: [], weights: [] }
  const stays = new Set(kept)
  const from = Array.from(sources).filter((_, place) => !stays.has(place))
  return { from, into: from.map(() => sources[sinks] as number), weights: from.map(() => 1) }
}
