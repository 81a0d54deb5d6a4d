// FoPru: patches that the other patches look at. arXiv 2411.14164
import type { VisionSeen } from '../method.js'
import { word } from '../options.js'
import { type CropRows, cropRows } from '../similar.js'
import { visionMethod } from '../vision-method.js'

/**
 * In each crop a patch counts for what all patches give it (column mean) or for what it gives to them (row mean, the rest being the class token's), whichever varies more. With
 * 'rows' the rows of the grid with the largest sums stay whole, as many as the budget holds, and the best patches of the next one fill it up.
 */
export const fopru = visionMethod({
  name: 'fopru',
  title:
    'keeps the patches, or rows of the picture, that the other patches look at in the last block of the vision tower',
  paper: '2411.14164',
  options: { strategy: word('rank', ['rank', 'rows'], 'what stays: the best patches, or whole rows of the grid') },
  needs: (_, { layers }) => [
    { what: 'received', layer: layers - 1 },
    { what: 'given', layer: layers - 1 },
  ],
  score(seen, { strategy }) {
    const scores = new Float64Array(seen.sources.length)
    for (const rows of cropRows(seen)) {
      const own = significance(seen, rows)
      scores.set(strategy === 'rank' ? own : byRow(seen, rows, own), rows.from)
    }
    return scores
  },
})

function significance(seen: VisionSeen, { from, to }: CropRows): Float64Array {
  const block = seen.vision.layers - 1
  const received = Float64Array.from(seen.seen('received', block).subarray(from, to))
  const given = Float64Array.from(seen.seen('given', block).subarray(from, to))
  return variance(received) > variance(given) ? received : given
}

function variance(values: Float64Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
}

/** Scores in which every patch of a better row is above every patch of a worse one; of equal rows the upper is better. */
function byRow({ crops, sources }: VisionSeen, { crop, from, to }: CropRows, own: Float64Array): Float64Array {
  const { columns = 1, rows = 1 } = crops[crop] ?? {}
  const rowOf = Array.from(sources.subarray(from, to), (source) => Math.floor(source / columns) % rows)
  const sums = new Float64Array(rows)
  for (const [i, row] of rowOf.entries()) sums[row] = (sums[row] as number) + (own[i] as number)
  const order = [...sums.keys()].sort((a, b) => (sums[b] as number) - (sums[a] as number) || a - b)
  const rank = new Map(order.map((row, place) => [row, place]))
  const most = own.reduce((a, b) => Math.max(a, b), 0) || 1
  return own.map((value, i) => value / (2 * most) - (rank.get(rowOf[i] as number) as number))
}
