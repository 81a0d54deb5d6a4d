// One score a token for a whole layer: what its KV heads give, added up by source.
import type { CacheSeen } from './method.js'

/** [rows of `head`]: the sum over the KV heads of what `read` gives that row's token; a head that holds it no more gives nothing, nor does one whose line is shorter. */
export function sumOverHeads(seen: CacheSeen, head: number, read: (head: number) => ArrayLike<number>): Float64Array {
  const own = seen.sources(head)
  const sums = new Float64Array(own.length)
  for (let other = 0; other < seen.shape.kvHeads; other++) {
    const sources = seen.sources(other)
    const values = read(other)
    for (let i = 0, j = 0; i < own.length; i++) {
      while (j < sources.length && (sources[j] as number) < (own[i] as number)) j++
      if (sources[j] === own[i]) sums[i] = (sums[i] as number) + (values[j] ?? 0)
    }
  }
  return sums
}
