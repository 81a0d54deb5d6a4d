// Patches that fold by halves, round after round, until so many are gone; each row becomes the plain mean of what it is made of.
import type { Folder } from './fold-patches.js'
import type { VisionSeen } from './method.js'
import { topK } from './select.js'
import { type CropRows, cosinesOf, largest } from './similar.js'

/**
 * In each round the rows are split in turn into A and B; those of A most like a row of B fold into it, at most half of all. weights: of the patches in the means that come of it, 1 each
 * at first.
 */
export function foldHalves(seen: VisionSeen, weights: Float64Array): Folder {
  return (crop, remove, into) => {
    let rows: Rows = {
      patches: Array.from({ length: crop.to - crop.from }, (_, i) => [crop.from + i]),
      products: productsOf(seen, crop),
    }
    for (let left = remove; left > 0; ) {
      const count = Math.min(left, rows.patches.length >> 1)
      rows = round(rows, count, weights)
      left -= count
    }
    for (const [holder, ...others] of rows.patches)
      for (const place of others) into[place] = seen.sources[holder as number] as number
  }
}

/** patches: of each row, the one that holds it first; products: [rows × rows] of the means that rows are. */
interface Rows {
  readonly patches: readonly (readonly number[])[]
  readonly products: Float32Array
}

function productsOf(seen: VisionSeen, crop: CropRows): Float32Array {
  const hidden = seen.hidden()
  const [n, size] = [crop.to - crop.from, hidden.length / seen.sources.length]
  const lengths = Float64Array.from({ length: n }, (_, i) => {
    const row = hidden.subarray((crop.from + i) * size, (crop.from + i + 1) * size)
    return Math.sqrt(row.reduce((sum, value) => sum + value * value, 0))
  })
  return cosinesOf(seen, crop).map(
    (cosine, at) => cosine * (lengths[Math.floor(at / n)] as number) * (lengths[at % n] as number),
  )
}

/** `count` rows less. weights: of patches, in the means so far. */
function round({ patches, products }: Rows, count: number, weights: Float64Array): Rows {
  const n = patches.length
  const { partner, similarity } = matches(products, n)
  const groups = new Map(patches.flatMap((_, i) => (i % 2 === 1 ? [[i, [i]] as [number, number[]]] : [])))
  const folding = new Set(topK(similarity, count))
  for (const a of folding) groups.get(2 * (partner[a] as number) + 1)?.push(2 * a)
  for (let a = 0; 2 * a < n; a++) if (!folding.has(a)) groups.set(2 * a, [2 * a])
  const members = [...groups].sort(([a], [b]) => a - b).map(([, group]) => group)
  for (const group of members)
    for (const patch of group.flatMap((row) => patches[row] as number[]))
      weights[patch] = (weights[patch] as number) / group.length
  return {
    patches: members.map((group) => group.flatMap((row) => patches[row] as number[])),
    products: means(products, n, members),
  }
}

/** Of each even row the odd one most like it. */
function matches(products: Float32Array, n: number): { partner: Int32Array; similarity: Float32Array } {
  const [evens, odds] = [(n + 1) >> 1, n >> 1]
  const alike = Float32Array.from({ length: evens * odds }, (_, at) => {
    const [a, b] = [2 * Math.floor(at / odds), 2 * (at % odds) + 1]
    return (
      (products[a * n + b] as number) /
      (Math.sqrt((products[a * n + a] as number) * (products[b * n + b] as number)) || 1)
    )
  })
  return largest(alike, odds)
}

/** Products of the means of groups of rows, of those of n rows. */
function means(products: Float32Array, n: number, groups: readonly number[][]): Float32Array {
  const m = groups.length
  const groupOf = new Int32Array(n)
  for (const [g, group] of groups.entries()) for (const row of group) groupOf[row] = g
  const sums = new Float64Array(m * m)
  for (let i = 0; i < n; i++) {
    const line = (groupOf[i] as number) * m
    for (let j = 0; j < n; j++) sums[line + (groupOf[j] as number)]! += products[i * n + j] as number
  }
  const size = (g: number) => groups[g]?.length ?? 1
  return Float32Array.from(sums, (sum, at) => sum / size(Math.floor(at / m)) / size(at % m))
}
