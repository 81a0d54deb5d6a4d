// HoT: frames that stand for the others. Of arXiv 2311.12028, a transformer for poses, the selection; its recovery is learned and not here
import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { cropStarts } from '../gather.js'
import type { VisionSeen } from '../method.js'
import { keep, whole } from '../options.js'
import { range, topK } from '../select.js'
import { anyPlace } from '../vision-method.js'

/**
 * The frames of a film (the crops that are read together) by the mean of their patches. A frame that has others close to it, and is far from all that have more, stands for its
 * neighbourhood (DPC-kNN: density times distance to the next denser one); the best stay whole, in order of time, as many as the budget holds, rounded up. Of equal frames the first is denser.
 */
export const hot = defineMethod({
  name: 'hot',
  title: 'keeps the frames of a film that stand for the others, whole',
  paper: '2311.12028',
  acts: 'vision',
  options: { keep, neighbours: whole(2, 'frames whose distances make the density, a frame itself among them', 1) },
  looks(shape, _, grant) {
    const { vision } = shape
    return vision === undefined || keepsAll(grant.keep(shape, vision.layers)) ? [] : anyPlace(vision)
  },
  decide(seen, { neighbours }, grant) {
    if (seen.at !== 'vision') return null
    const frames = seen.crops.length
    const count = Math.ceil((grant.rows(seen) * frames) / seen.given - 1e-9)
    if (count >= frames) return null
    const starts = cropStarts(seen.sources, seen.crops)
    const scores = standing(distances(means(seen, starts)), neighbours)
    const best = scores.some((score) => score > 0) ? topK(scores, count) : evenFrames(frames, count)
    const kept = [...best].flatMap((crop) => [...seen.sources.subarray(starts[crop], starts[crop + 1])])
    return kept.length > 0 ? { action: 'dropPatches', layer: seen.layer, kept } : null
  },
})

/** Frames of a film that does not move. */
function evenFrames(frames: number, count: number): Int32Array {
  return range(0, count).map((i) => Math.floor((i * frames) / count))
}

function means(seen: VisionSeen, starts: Int32Array): Float64Array[] {
  const hidden = seen.hidden()
  const size = hidden.length / seen.sources.length
  return seen.crops.map((_, crop) => {
    const mean = new Float64Array(size)
    const [from, to] = [starts[crop] as number, starts[crop + 1] as number]
    for (let place = from; place < to; place++)
      for (let c = 0; c < size; c++) mean[c] = (mean[c] as number) + (hidden[place * size + c] as number) / (to - from)
    return mean
  })
}

/** [points × points], over the root of the number of components. */
function distances(points: readonly Float64Array[]): number[][] {
  const size = points[0]?.length ?? 1
  return points.map((a) =>
    points.map((b) => Math.sqrt(a.reduce((sum, value, c) => sum + (value - (b[c] as number)) ** 2, 0) / size)),
  )
}

/** Density times the distance to the nearest denser point, or, for the densest, the largest distance of all. */
function standing(all: readonly number[][], neighbours: number): Float64Array {
  const density = all.map((row) => {
    const nearest = [...row].sort((a, b) => a - b).slice(0, neighbours)
    return Math.exp(-nearest.reduce((sum, distance) => sum + distance ** 2, 0) / nearest.length)
  })
  const farthest = Math.max(...all.flat())
  const denser = (j: number, i: number) => {
    const [a, b] = [density[j] as number, density[i] as number]
    return a > b || (a === b && j < i)
  }
  return Float64Array.from(all, (row, i) => {
    const above = row.filter((_, j) => denser(j, i))
    return (density[i] as number) * (above.length > 0 ? Math.min(...above) : farthest)
  })
}
