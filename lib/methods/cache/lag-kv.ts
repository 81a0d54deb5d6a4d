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
  const low = new Float64Array(size).fill(Number.POSITIVE_INFINITY)
  const high = new Float64Array(size).fill(Number.NEGATIVE_INFINITY)
  for (const [i, value] of next.entries()) {
    low[i % size] = Math.min(low[i % size] as number, value)
    high[i % size] = Math.max(high[i % size] as number, value)
  }
  const scaled = (value: number, d: number) => {
    const range = (high[d] as number) - (low[d] as number)
    return range > 0 ? (value - (low[d] as number)) / range : 0
  }
  return Float64Array.from({ length: part.length / size }, (_, j) =>
    deviation(part.subarray(j * size, (j + 1) * size).map(scaled)),
  )
}

function deviation(x: Float32Array): number {
  let mean = 0
  for (const value of x) mean += value / x.length
  let squares = 0
  for (const value of x) squares += (value - mean) ** 2
  return Math.sqrt(squares / Math.max(1, x.length - 1))
}

function softmax(x: Float64Array): Float64Array {
  const most = x.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const powers = x.map((value) => Math.exp(value - most))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / sum)
}
