// evenShare: each head keeps what it looks at, and so as many rows as it needs. The bound that Ada-KV (arXiv 2407.11550) makes small within a layer, over all heads of all layers at once.
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import type { CacheSeen } from '../method.js'
import { headList, real, whole } from '../options.js'

/**
 * A row's weight is the attention that the queries which saw it gave it, on average, and the call's last ones, times the length of its value. After a prompt a head drops the rows
 * whose weight is less than `under` times the mean over all tokens so far. So no head loses more than that share of its attention; one that looks at few rows keeps few, one that looks at all
 * keeps them. Of all ways to keep as many rows this one loses the least attention in sum. It takes no budget: how many rows stay is the text's and the model's.
 * `heads` keep everything: what heads that fetch from afar will look at next, their attention so far does not tell (`retrievalHeads(model)` finds them).
 */
export const evenShare = defineMethod({
  name: 'evenShare',
  title: 'drops the cache rows that get far less than an even share of what their head looks at',
  paper: '2407.11550',
  acts: 'cache',
  options: {
    under: real(0.2, 'times the mean weight: a row with less goes; 0 keeps all', 0, 16),
    window: whole(64, 'last rows of the call, whose queries count once more', 1),
    sinks: whole(4, 'first rows, which stay'),
    recent: real(0.25, 'share of the tokens so far whose rows stay as the newest, rounded up', 0, 1),
    heads: headList('[layer, KV head] pairs that keep every row, as retrievalHeads(model) finds them'),
  },
  looks: (shape, { heads, under, window }) =>
    under === 0
      ? []
      : {
          at: 'prompt',
          layers: allLayers(shape),
          needs: [
            { what: 'columnSums', except: heads },
            { what: 'attention', rows: window },
          ],
        },
  decide(seen, { heads: whole, recent, sinks, under }) {
    if (seen.at !== 'prompt') return null
    const heads = Array.from({ length: seen.shape.kvHeads }, (_, head) => head)
    const keptPerHead = heads.map((head) => {
      const sources = seen.sources(head)
      if (whole.some(([layer, of]) => layer === seen.layer && of === head)) return Array.from(sources)
      const weights = weightsOf(seen, head)
      const least = (under * weights.reduce((sum, weight) => sum + weight, 0)) / reachOf(seen)
      const end = sources.length - Math.max(1, Math.ceil(recent * reachOf(seen) - 1e-9))
      return sources.filter(
        (source, row) => row < sinks || row >= end || (weights[row] as number) >= least || seen.safe?.has(source),
      )
    })
    return { action: 'evict', layer: seen.layer, keptPerHead }
  },
})

/** Tokens that a query sees, and queries that see a row, at most. Rows that went count, so that what stays is not thinned again with every call. */
function reachOf({ layer, shape, tokens }: CacheSeen): number {
  return Math.min(shape.windows[layer] || tokens, tokens)
}

/** [rows] */
export function weightsOf(seen: CacheSeen, head: number): Float64Array {
  const { headSize } = seen.shape
  const reach = reachOf(seen)
  const sums = seen.columnSums(head)
  const last = seen.attention(head)
  const values = seen.values(head)
  const looked = last.reduce((sum, weight) => sum + weight, 0) || 1 // each query gives 1
  return Float64Array.from(seen.sources(head), (source, row) => {
    let squares = 0
    for (let i = row * headSize; i < (row + 1) * headSize; i++) squares += (values[i] as number) ** 2
    const mean = (sums[row] as number) / Math.min(reach, seen.tokens - source)
    return (mean + (last[row] as number) / looked) * Math.sqrt(squares)
  })
}
