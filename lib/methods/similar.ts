// How alike patches are, crop by crop, and how they find a partner.
import { asOne, cropStarts } from './gather.js'
import type { VisionSeen } from './method.js'

/** The rows of one crop: [from, to) of what is seen. */
export interface CropRows {
  readonly crop: number
  readonly from: number
  readonly to: number
}

/** The crops that have rows left. */
export function cropRows({ crops, sources }: Pick<VisionSeen, 'crops' | 'sources'>): CropRows[] {
  const starts = cropStarts(sources, crops)
  return crops
    .map((_, crop) => ({ crop, from: starts[crop] as number, to: starts[crop + 1] as number }))
    .filter(({ from, to }) => to > from)
}

/** The same where crops that are joined are one. */
export function joinedRows({ crops, joined, sources }: VisionSeen): CropRows[] {
  return cropRows({ crops: asOne(crops, joined), sources })
}

/** Rows [from, to) of [rows × size] values, each of length one; a row of zeros stays one. */
export function unitRows(values: Float32Array, size: number, from = 0, to = values.length / size): Float32Array {
  const units = values.slice(from * size, to * size)
  for (let at = 0; at < units.length; at += size) {
    let squares = 0
    for (let i = at; i < at + size; i++) squares += (units[i] as number) ** 2
    const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0
    for (let i = at; i < at + size; i++) units[i] = (units[i] as number) * scale
  }
  return units
}

/** [n × m] products of n rows with m others. Two rows at once with two others, which halves the reads. */
export function products(a: Float32Array, b: Float32Array, size: number): Float32Array {
  const [n, m] = [a.length / size, b.length / size]
  const out = new Float32Array(n * m)
  for (let i = 0; i < n; i += 2) {
    // Of a matrix with itself the half above the diagonal says it all.
    for (let j = a === b ? i : 0; j < m; j += 2) {
      const [i2, j2] = [Math.min(i + 1, n - 1), Math.min(j + 1, m - 1)]
      const four = fourProducts(a, b, size, [i * size, i2 * size, j * size, j2 * size])
      out[i * m + j] = four[0]
      out[i * m + j2] = four[1]
      out[i2 * m + j] = four[2]
      out[i2 * m + j2] = four[3]
    }
  }
  if (a === b) for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) out[i * n + j] = out[j * n + i] as number
  return out
}

type Four = readonly [number, number, number, number]

function fourProducts(a: Float32Array, b: Float32Array, size: number, [i, i2, j, j2]: Four): Four {
  let ac = 0
  let ad = 0
  let bc = 0
  let bd = 0
  for (let k = 0; k < size; k++) {
    const x = a[i + k] as number
    const y = a[i2 + k] as number
    const z = b[j + k] as number
    const w = b[j2 + k] as number
    ac += x * z
    ad += x * w
    bc += y * z
    bd += y * w
  }
  return [ac, ad, bc, bd]
}

/** [rows × rows] cosines of the rows of one crop. */
export function cosines(values: Float32Array, size: number, { from, to }: CropRows): Float32Array {
  const units = unitRows(values, size, from, to)
  return products(units, units, size)
}

/** [rows × rows] cosines of the rows of one crop, where they were asked for: of hidden rows, or of the keys of the block that has just attended. */
export function cosinesOf(seen: VisionSeen, rows: CropRows, what: 'cosines' | 'keyCosines' = 'cosines'): Float32Array {
  const all = seen.seen(what, seen.layer)
  let at = 0
  for (const { from, to } of joinedRows(seen)) {
    const n = to - from
    if (rows.from >= from && rows.to <= to)
      return squareOf(all.subarray(at, at + n * n), n, rows.from - from, rows.to - from)
    at += n * n
  }
  return all.subarray(0, 0)
}

/** Lines and columns [from, to) of [n × n]. */
function squareOf(all: Float32Array, n: number, from: number, to: number): Float32Array {
  if (to - from === n) return all
  const out = new Float32Array((to - from) ** 2)
  for (let i = from; i < to; i++) out.set(all.subarray(i * n + from, i * n + to), (i - from) * (to - from))
  return out
}

/** Where the rows of the tower are compared: keys of a block, or hidden rows as they stand. */
export function lines(
  seen: VisionSeen,
  metric: 'keys' | 'hidden',
  block: number,
): { values: Float32Array; size: number } {
  const { headSize } = seen.vision
  if (metric === 'keys') return { values: seen.seen('keys', block), size: headSize }
  const values = seen.hidden()
  return { values, size: seen.sources.length > 0 ? values.length / seen.sources.length : 1 }
}

/** For each line of [n × m] the place of its largest value, of equals the first, and that value. */
export function largest(values: Float32Array, m: number): { partner: Int32Array; similarity: Float32Array } {
  const n = m > 0 ? values.length / m : 0
  const partner = new Int32Array(n)
  const similarity = new Float32Array(n)
  for (let i = 0; i < n; i++) {
    let best = Number.NEGATIVE_INFINITY
    for (let j = 0; j < m; j++) {
      const value = values[i * m + j] as number
      if (value <= best) continue
      best = value
      partner[i] = j
    }
    similarity[i] = best
  }
  return { partner, similarity }
}

/** Lines `places` of [rows × size] values. */
export function pick(values: Float32Array, size: number, places: readonly number[]): Float32Array {
  const out = new Float32Array(places.length * size)
  for (const [i, place] of places.entries()) out.set(values.subarray(place * size, (place + 1) * size), i * size)
  return out
}
