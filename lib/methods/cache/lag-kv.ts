// LagKV: rows that stand out against the partition that follows theirs stay. arXiv 2504.04704
import { cacheMethod } from '../cache-method.js'
import type { CacheSeen } from '../method.js'
import { whole } from '../options.js'

/**
 * After the sinks the rows are cut into partitions of `lag`; the last whole one and what is left over stay as a window. In every other partition a row is scored by how unevenly
 * its channels lie within the range that the next partition has there, keys and values alike, and each partition keeps the same share. Where the window leaves no room in the
 * budget, the lag is halved until it does.
 */
export const lagKv = cacheMethod({
  name: 'lagKv',
  title: 'keeps the cache rows that stand out against those that follow',
  paper: '2504.04704',
  options: {
    sinks: whole(4, 'first rows, which stay'),
    lag: whole(128, 'rows of a partition', 2),
  },
  score: (seen, head, { lag, sinks }, budget) =>
    ranks(seen, head, sinks, lagOf(seen.sources(head).length, budget, sinks, lag)),
  protect: ({ lag, sinks }, budget, rows) => ({
    sinks,
    recent: windowOf(rows - sinks, lagOf(rows, budget, sinks, lag)),
  }),
})

/** The last whole partition and the remainder; all rows where there are not two partitions. */
function windowOf(rows: number, lag: number): number {
  return Math.max(0, rows < 2 * lag ? rows : lag + (rows % lag))
}

function lagOf(rows: number, budget: number, sinks: number, most: number): number {
  let lag = most
  while (lag >= 4 && sinks + windowOf(rows - sinks, lag) >= budget) lag >>= 1
  return lag
}

/** [rows]: within its partition the share of rows that a row beats, so that of all partitions equally many stay. */
function ranks(seen: CacheSeen, head: number, sinks: number, lag: number): Float64Array {
  const size = seen.shape.headSize
  const sides = [seen.keys(head), seen.values(head)]
  const rows = seen.sources(head).length
  const scores = new Float64Array(rows)
  for (let at = sinks; at + 2 * lag <= rows; at += lag) {
    const sum = new Float64Array(lag)
    for (const side of sides) {
      const part = side.subarray(at * size, (at + lag) * size)
      const next = side.subarray((at + lag) * size, (at + 2 * lag) * size)
      for (const [j, share] of softmax(unevenness(part, next, size)).entries()) sum[j] = (sum[j] as number) + share
    }
    const order = Array.from(sum.keys()).sort((a, b) => (sum[a] as number) - (sum[b] as number) || b - a)
    for (const [rank, j] of order.entries()) scores[at + j] = rank / lag
  }
  return scores
}

/** [rows]: standard deviation over the channels of each row of `part`, each channel scaled by its range in `next`; a channel without a range counts as 0. */
export function unevenness(part: Float32Array, next: Float32Array, size: number): Float64Array {
  const { low, scale } = channels(next, size)
  const deviations = new Float64Array(part.length / size)
  const scaled = new Float64Array(size)
  for (let j = 0; j < deviations.length; j++) {
    let mean = 0
    for (let d = 0; d < size; d++) {
      scaled[d] = ((part[j * size + d] as number) - (low[d] as number)) * (scale[d] as number)
      mean += (scaled[d] as number) / size
    }
    let squares = 0
    for (let d = 0; d < size; d++) squares += ((scaled[d] as number) - mean) ** 2
    deviations[j] = Math.sqrt(squares / Math.max(1, size - 1))
  }
  return deviations
}

/** [size] each: the least value of a channel and 1 / its range, 0 where it has none. */
function channels(rows: Float32Array, size: number): { low: Float64Array; scale: Float64Array } {
  const low = Float64Array.from(rows.subarray(0, size))
  const high = low.slice()
  for (let i = 0, d = 0; i < rows.length; i++, d = d + 1 === size ? 0 : d + 1) {
    const value = rows[i] as number
    if (value < (low[d] as number)) low[d] = value
    if (value > (high[d] as number)) high[d] = value
  }
  return { low, scale: high.map((most, d) => (most > (low[d] as number) ? 1 / (most - (low[d] as number)) : 0)) }
}

function softmax(x: Float64Array): Float64Array {
  const most = x.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const powers = x.map((value) => Math.exp(value - most))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / sum)
}
