// Choosing rows: the k best of a range, 1-D pooling, and what stays of a head's rows under a budget. Places are ascending, of equal scores the lower place stays.

export type Scores = Float32Array | Float64Array

/** What a cache method never gives up: the first `sinks` and the newest `recent` rows of a head. */
export interface Protected {
  readonly sinks: number
  readonly recent: number
}

let scratch = new Float64Array(0)

/** Places of the `k` largest of values[from, to), ascending. NaN counts as the least. Linear in the number of values. */
export function topK(values: ArrayLike<number>, k: number, from = 0, to = values.length): Int32Array {
  const n = Math.max(0, to - from)
  if (k >= n) return range(from, to)
  if (k <= 0) return new Int32Array(0)
  if (scratch.length < n) scratch = new Float64Array(2 * n)
  for (let i = 0; i < n; i++) scratch[i] = ordered(values[from + i] as number)
  const threshold = kthLargest(scratch, n, k)
  let above = 0
  for (let i = from; i < to; i++) if (ordered(values[i] as number) > threshold) above++
  const places = new Int32Array(k)
  let equal = k - above
  for (let i = from, filled = 0; filled < k; i++) {
    const value = ordered(values[i] as number)
    if (value > threshold || (value === threshold && equal-- > 0)) places[filled++] = i
  }
  return places
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
export function pool(values: ArrayLike<number>, n: number, kernel: number, kind: 'max' | 'avg'): Float64Array {
  const half = kernel >> 1
  // `half` places of padding on both sides, so that no step of the loops is a special case.
  const padded = new Float64Array(n + 2 * half).fill(kind === 'max' ? Number.NEGATIVE_INFINITY : 0)
  for (let i = 0; i < n; i++) padded[half + i] = kind === 'max' ? ordered(values[i] as number) : (values[i] as number)
  if (kind === 'max') return slidingMaximum(padded, kernel).subarray(0, n)
  const pooled = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    let sum = 0
    for (let j = i; j < i + kernel; j++) sum += padded[j] as number
    pooled[i] = sum / kernel
  }
  return pooled
}

/** x[i] becomes the maximum of x[i, i + kernel): spans of 1, 2, 4, … places, then two that overlap. In place. */
function slidingMaximum(x: Float64Array, kernel: number): Float64Array {
  let span = 1
  for (; 2 * span <= kernel; span *= 2) spread(x, span)
  if (span < kernel) spread(x, kernel - span)
  return x
}

function spread(x: Float64Array, by: number): void {
  for (let i = 0; i + by < x.length; i++) {
    const next = x[i + by] as number
    if (next > (x[i] as number)) x[i] = next
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
