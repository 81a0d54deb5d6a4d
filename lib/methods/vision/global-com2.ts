// GlobalCom²: what the thumbnail shows says how much each tile may keep, and what of it. arXiv 2501.05179
import { apportion, keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { cropStarts } from '../gather.js'
import type { Crop, VisionSeen, VisionShape } from '../method.js'
import { keep, real } from '../options.js'
import { bestOfCrops } from '../vision-method.js'

/**
 * Scores are the class token's products with the patches of the last block before the softmax (what the patches give each other, where there is no class token). The thumbnail keeps
 * its share; the tiles share theirs by what of the thumbnail lies in each (softmax of the sums by `tau`), and a patch of a tile counts by its own score and by the thumbnail's at
 * its place, both of length one. Pictures without tiles keep their best patches.
 */
export const globalCom2 = defineMethod({
  name: 'globalCom2',
  title: 'keeps patches of tiles by what the thumbnail says about them',
  paper: '2501.05179',
  acts: 'vision',
  options: { keep, tau: real(10, 'how evenly tiles share: higher, more evenly', 1e-6, 1e9) },
  looks(shape, _, grant) {
    const { vision } = shape
    if (vision === undefined || keepsAll(grant.keep(shape, vision.layers))) return []
    return { at: 'vision', part: 'projector', needs: [{ what: what(vision), layer: vision.layers - 1 }] }
  },
  decide(seen, { tau }, grant) {
    if (seen.at !== 'vision') return null
    const target = grant.rows(seen)
    if (target >= seen.sources.length) return null
    const own = seen.seen(what(seen.vision), seen.vision.layers - 1)
    const starts = cropStarts(seen.sources, seen.crops)
    const scores = Float64Array.from(own)
    const shares = seen.crops.map(() => 1)
    for (const [index, { kind }] of seen.crops.entries()) {
      const tiles = kind === 'thumbnail' ? tilesOf(seen.crops, index) : []
      if (tiles.length > 0) guide({ seen, own, starts, scores, shares }, index, tiles, tau)
    }
    const left = seen.crops.map((_, crop) => (starts[crop + 1] as number) - (starts[crop] as number))
    const whole = shares.reduce((sum, share) => sum + share, 0)
    const counts = apportion(
      shares.map((share, crop) => Math.min(left[crop] as number, (target * share) / whole)),
      target,
      left,
    )
    return { action: 'dropPatches', layer: seen.layer, kept: bestOfCrops(seen, counts, scores), scores }
  },
})

function what({ classToken }: VisionShape): 'classLogits' | 'received' {
  return classToken ? 'classLogits' : 'received'
}

/** Numbers of the tiles of the picture whose thumbnail it is. */
function tilesOf(crops: readonly Crop[], thumbnail: number): number[] {
  return [...crops.keys()].filter((i) => crops[i]?.kind === 'tile' && crops[i]?.image === crops[thumbnail]?.image)
}

interface Work {
  readonly seen: VisionSeen
  readonly own: Float32Array
  readonly starts: Int32Array
  readonly scores: Float64Array
  readonly shares: number[]
}

function guide({ own, scores, seen, shares, starts }: Work, thumbnail: number, tiles: number[], tau: number): void {
  const { crops, sources } = seen
  const { columns, rows } = crops[thumbnail] as Crop
  const map = new Float64Array(rows * columns) // what is gone from the thumbnail says nothing
  for (let place = starts[thumbnail] as number; place < (starts[thumbnail + 1] as number); place++)
    map[(sources[place] as number) % map.length] = own[place] as number
  const high = 1 + Math.max(...tiles.map((tile) => crops[tile]?.row ?? 0))
  const wide = 1 + Math.max(...tiles.map((tile) => crops[tile]?.column ?? 0))
  const sums = tiles.map((tile) => blockSum(map, crops[tile] as Crop, [high, wide]))
  const raised = sums.map((sum) => Math.exp((sum - Math.max(...sums)) / tau))
  const total = raised.reduce((sum, value) => sum + value, 0)
  for (const [i, tile] of tiles.entries()) {
    shares[tile] = Math.max(0, 1 + (raised[i] as number) / total - 1 / tiles.length)
    const [from, to] = [starts[tile] as number, starts[tile + 1] as number]
    const local = unit(Float64Array.from(own.subarray(from, to)))
    const global = unit(
      Float64Array.from(sources.subarray(from, to), (source) => {
        const patch = source % map.length
        return resized(map, crops[tile] as Crop, [high, wide], [Math.floor(patch / columns), patch % columns])
      }),
    )
    for (let i = 0; i < local.length; i++) scores[from + i] = (local[i] as number) + (global[i] as number)
  }
}

/** Of the thumbnail's map, what lies where the tile is. */
function blockSum(
  map: Float64Array,
  { column, columns, row, rows }: Crop,
  [high, wide]: readonly [number, number],
): number {
  let sum = 0
  for (let y = Math.floor((row * rows) / high); y < Math.floor(((row + 1) * rows) / high); y++)
    for (let x = Math.floor((column * columns) / wide); x < Math.floor(((column + 1) * columns) / wide); x++)
      sum += map[y * columns + x] as number
  return sum
}

/** The map at a patch of a tile, as if it were stretched over all tiles: between the four points around it. */
function resized(
  map: Float64Array,
  { column, columns, row, rows }: Crop,
  [high, wide]: readonly [number, number],
  [y, x]: readonly [number, number],
): number {
  const at = (place: number, by: number, size: number) => Math.min(size - 1, Math.max(0, (place + 0.5) / by - 0.5))
  const [down, across] = [at(row * rows + y, high, rows), at(column * columns + x, wide, columns)]
  const [top, left] = [Math.floor(down), Math.floor(across)]
  const [bottom, right] = [Math.min(rows - 1, top + 1), Math.min(columns - 1, left + 1)]
  const mix = (line: number) =>
    (map[line * columns + left] as number) * (1 - across + left) +
    (map[line * columns + right] as number) * (across - left)
  return mix(top) * (1 - down + top) + mix(bottom) * (down - top)
}

function unit(values: Float64Array): Float64Array {
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)) || 1
  return values.map((value) => value / length)
}
