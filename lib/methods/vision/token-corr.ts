// Token-level correlation: how many patches a crop needs is how few of them repeat the others. arXiv 2407.14439; of the authors' code only a figure is public: thresholds are ours
import { defineMethod } from '../define.js'
import { foldBest, matchRows } from '../fold-patches.js'
import type { VisionSeen, VisionShape } from '../method.js'
import { real, whole } from '../options.js'
import { topK } from '../select.js'
import { type CropRows, cosines, cropRows, lines } from '../similar.js'
import { attended } from '../vision-method.js'

interface Options {
  readonly alpha: number
  readonly beta: number
  readonly low: number
  readonly outlier: number
  readonly least: number
}

/**
 * A patch is redundant where more than `beta` of the crop have a key more similar than `alpha` in a low block. As many patches as are not redundant stay (at least `least`): those
 * that the class token looks at most there, and those that it looks at far more than at others in the last block. The rest folds into the most similar patch that stays, weighted
 * by how much it is looked at. A thumbnail beside tiles stays whole.
 */
export const tokenCorr = defineMethod({
  name: 'tokenCorr',
  title: 'keeps more patches of crops with much to see, fewer of plain ones, and merges the rest into them',
  paper: '2407.14439',
  acts: 'vision',
  options: {
    alpha: real(0.8, 'likeness of keys from which one repeats another', -1, 1),
    beta: real(0.05, 'share of the crop that a redundant patch repeats', 0, 1),
    low: real(0.25, 'depth of the low block, as a share', 0, 1),
    outlier: real(
      1.5,
      'quartile ranges above the upper quartile from which a patch of the last block stands out',
      0,
      1e6,
    ),
    least: whole(16, 'patches of a crop that stay at least', 1),
  },
  looks(shape, { low }) {
    const { vision } = shape
    if (vision === undefined) return []
    const [first, last] = blocks(vision, low)
    const needs = [{ what: 'keys', layer: first } as const, attended(vision, first), attended(vision, last)]
    return { at: 'vision', part: 'projector', needs }
  },
  decide(seen, options) {
    if (seen.at !== 'vision') return null
    const into = seen.sources.slice()
    const weights = new Float64Array(into.length).fill(1)
    const tiled = seen.crops.some(({ kind }) => kind === 'tile')
    for (const rows of cropRows(seen))
      if (!(tiled && seen.crops[rows.crop]?.kind === 'thumbnail')) foldCrop(seen, rows, options, { into, weights })
    return { action: 'mergePatches', layer: seen.layer, into, weights }
  },
})

function blocks({ layers }: VisionShape, low: number): [number, number] {
  return [Math.min(layers - 1, Math.floor(low * layers)), layers - 1]
}

function foldCrop(
  seen: VisionSeen,
  rows: CropRows,
  { alpha, beta, least, low, outlier }: Options,
  { into, weights }: { into: Int32Array; weights: Float64Array },
): void {
  const { from, to } = rows
  const { vision } = seen
  const [first, last] = blocks(vision, low)
  const { size, values } = lines(seen, 'keys', first)
  const count = Math.max(least, to - from - redundant(cosines(values, size, rows), to - from, alpha, beta))
  if (count >= to - from) return
  const near = seen.seen(attended(vision, first).what, first)
  const far = seen.seen(attended(vision, last).what, last).subarray(from, to)
  const stays = new Set(topK(near, count, from, to))
  for (const place of outliers(far, outlier)) stays.add(from + place)
  const all = Array.from({ length: to - from }, (_, i) => from + i)
  const others = all.filter((place) => !stays.has(place))
  foldBest(
    matchRows(
      values,
      size,
      others,
      all.filter((place) => stays.has(place)),
    ),
    others.keys(),
    into,
    seen.sources,
  )
  for (const place of others) weights[place] = Math.max(1e-6, near[place] as number)
}

/** Rows of [n × n] likeness that repeat more than `beta` of the n. */
function redundant(alike: Float32Array, n: number, alpha: number, beta: number): number {
  let count = 0
  for (let i = 0; i < n; i++) {
    let others = 0
    for (let j = 0; j < n; j++) if (j !== i && (alike[i * n + j] as number) > alpha) others++
    if (others > beta * n) count++
  }
  return count
}

/** Places above the upper quartile by more than `factor` times the range of the quartiles, which lie between values as theirs do in between. */
export function outliers(values: Float32Array, factor: number): number[] {
  const sorted = Float64Array.from(values).sort()
  const quartile = (share: number) => {
    const at = share * (sorted.length - 1)
    const low = sorted[Math.floor(at)] as number
    return low + (at - Math.floor(at)) * ((sorted[Math.ceil(at)] as number) - low)
  }
  const bound = quartile(0.75) + factor * (quartile(0.75) - quartile(0.25))
  return [...values.keys()].filter((place) => (values[place] as number) > bound)
}
