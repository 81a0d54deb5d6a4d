// Choosing rows: the k best of a range, 1-D pooling, and what stays of a head's rows under a budget. Places are ascending, of equal scores the lower place stays.

export type Scores = Float32Array | Float64Array

/** What a cache method never gives up: the first `sinks` and the newest `recent` rows of a head. */
export interface Protected {
  readonly sinks: number
  readonly recent: number
}

let scratch = new Float64Array(0)
let copied = new Float32Array(0)
const histogram = new Int32Array(2048)

/** Places of the `k` largest of values[from, to), ascending. NaN counts as the least. Linear in the number of values. */
export function topK(values: ArrayLike<number>, k: number, from = 0, to = values.length): Int32Array {
  const n = Math.max(0, to - from)
  if (k >= n) return range(from, to)
  if (k <= 0) return new Int32Array(0)
  const bits = values instanceof Float32Array ? plainBits(values.subarray(from, to)) : undefined
  if (bits) return placesFrom(bits, kthLargestBits(bits, k), k, from)
  if (scratch.length < n) scratch = new Float64Array(2 * n)
  for (let i = 0; i < n; i++) scratch[i] = ordered(values[from + i] as number)
  const all = scratch.slice(0, n)
  return placesFrom(all, kthLargest(scratch, n, k), k, from)
}

/** `first` + the places of the k largest of `values`, of which `threshold` is the k-th. */
function placesFrom(values: Float64Array | Int32Array, threshold: number, k: number, first: number): Int32Array {
  let above = 0
  for (let i = 0; i < values.length; i++) if ((values[i] as number) > threshold) above++
  const places = new Int32Array(k)
  let equal = k - above
  for (let i = 0, filled = 0; filled < k; i++) {
    const value = values[i] as number
    if (value > threshold || (value === threshold && equal-- > 0)) places[filled++] = first + i
  }
  return places
}

/** The bits of floats, which are in the order of the numbers where none is negative or NaN; undefined where one is. */
function plainBits(values: Float32Array): Int32Array | undefined {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < bits.length; i++) if ((bits[i] as number) >>> 0 > 0x7f800000) return undefined
  return bits
}

// 11, 11 and 10 bits at a time from the top: how many numbers share those found so far and go on with each value.
function kthLargestBits(bits: Int32Array, k: number): number {
  let found = 0
  let known = 0
  let left = k
  for (const [shift, values] of [
    [21, 2048],
    [10, 2048],
    [0, 1024],
  ] as const) {
    histogram.fill(0)
    for (let i = 0; i < bits.length; i++) {
      const value = bits[i] as number
      if ((value & known) !== found) continue
      const part = (value >>> shift) & (values - 1)
      histogram[part] = (histogram[part] as number) + 1
    }
    let part = values - 1
    for (; (histogram[part] as number) < left; part--) left -= histogram[part] as number
    found |= part << shift
    known |= (values - 1) << shift
  }
  return found
}

function ordered(value: number): number {
  return Number.isNaN(value) ? Number.NEGATIVE_INFINITY : value
}

// Hoare's selection with a median of three: partitions x[0, n) until x[k - 1] is the k-th largest. Runs of equal values split evenly.
function kthLargest(x: Float64Array, n: number, k: number): number {
  const wanted = k - 1
  let low = 0
  let high = n - 1
  while (low < high) {
    const pivot = medianOfThree(x[low] as number, x[(low + high) >> 1] as number, x[high] as number)
    let i = low
    let j = high
    while (i <= j) {
      while ((x[i] as number) > pivot) i++
      while ((x[j] as number) < pivot) j--
      if (i > j) break
      const kept = x[i] as number
      x[i++] = x[j] as number
      x[j--] = kept
    }
    if (wanted <= j) high = j
    else if (wanted >= i) low = i
    else break
  }
  return x[wanted] as number
}

function medianOfThree(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}

export function range(from: number, to: number): Int32Array {
  const places = new Int32Array(Math.max(0, to - from))
  for (let i = 0; i < places.length; i++) places[i] = from + i
  return places
}

/** 1-D pooling, stride 1, over values[0, n): the average counts the padding's zeros, the maximum ignores them. `kernel` is odd. */
export function pool(values: ArrayLike<number>, n: number, kernel: number, kind: 'max' | 'avg'): Scores {
  const half = kernel >> 1
  const floats = values instanceof Float32Array ? values.subarray(0, n) : undefined
  if (kind === 'max' && floats && plainBits(floats)) return maximumOfPlain(floats, kernel)
  const pooled = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    const end = Math.min(n - 1, i + half)
    let most = Number.NEGATIVE_INFINITY
    let sum = 0
    for (let j = Math.max(0, i - half); j <= end; j++) {
      const value = values[j] as number
      sum += value
      if (value > most) most = value
    }
    pooled[i] = kind === 'max' ? most : sum / kernel
  }
  return pooled
}

/** The maximum of numbers that are not negative: spans of 1, 2, 4, … places, then two that overlap. Padding of 0 changes none. */
function maximumOfPlain(values: Float32Array, kernel: number): Float32Array {
  const half = kernel >> 1
  const n = values.length + 2 * half
  if (copied.length < n) copied = new Float32Array(2 * n)
  copied.fill(0, 0, half)
  copied.set(values, half)
  copied.fill(0, n - half, n)
  const bits = new Int32Array(copied.buffer)
  let span = 1
  for (; 2 * span <= kernel; span *= 2) spread(bits, n - span, span)
  if (span < kernel) spread(bits, n - kernel + span, kernel - span)
  return copied.slice(0, values.length)
}

// Without a branch: which of two scores is the larger cannot be foretold.
function spread(bits: Int32Array, n: number, by: number): void {
  for (let i = 0; i < n; i++) {
    const value = bits[i] as number
    const more = (bits[i + by] as number) - value
    bits[i] = value + (more & ~(more >> 31))
  }
}

/**
 * Places that stay of a head's `rows` rows, exactly min(rows, budget) of them: the protected ones and the best of the others. Where the budget is smaller than what is
 * protected, the newest row stays first, then the sinks, then the newer ones; `scores` is not asked then.
 */
export function selectRows(rows: number, budget: number, safe: Protected, scores: () => ArrayLike<number>): Int32Array {
  if (budget >= rows) return range(0, rows)
  let sinks = Math.min(safe.sinks, rows - Math.min(safe.recent, 1))
  let recent = Math.min(safe.recent, rows - sinks)
  const free = budget - sinks - recent
  if (free <= 0) {
    sinks = Math.min(sinks, budget - Math.min(recent, 1))
    recent = budget - sinks
  }
  const places = new Int32Array(budget)
  places.set(range(0, sinks), 0)
  if (free > 0) places.set(topK(scores(), free, sinks, rows - recent), sinks)
  places.set(range(rows - recent, rows), budget - recent)
  return places
}
