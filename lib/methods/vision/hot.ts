// HoT: frames that stand for the others. Of arXiv 2311.12028, a transformer for poses, the selection; its recovery is learned and not here
import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { distances, peaks } from '../density.js'
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
    const scores = peaks(distances(means(seen, starts), seen.hidden().length / seen.sources.length), neighbours)
    const best = scores.some((score) => score > 0) ? topK(scores, count) : evenFrames(frames, count)
    const kept = [...best].flatMap((crop) => [...seen.sources.subarray(starts[crop], starts[crop + 1])])
    return kept.length > 0 ? { action: 'dropPatches', layer: seen.layer, kept } : null
  },
})

/** Frames of a film that does not move. */
function evenFrames(frames: number, count: number): Int32Array {
  return range(0, count).map((i) => Math.floor((i * frames) / count))
}

/** [crops × size]. */
function means(seen: VisionSeen, starts: Int32Array): Float64Array {
  const hidden = seen.hidden()
  const size = hidden.length / seen.sources.length
  const all = new Float64Array(seen.crops.length * size)
  for (let crop = 0; crop < seen.crops.length; crop++) {
    const [from, to] = [starts[crop] as number, starts[crop + 1] as number]
    const mean = all.subarray(crop * size, (crop + 1) * size)
    for (let place = from; place < to; place++)
      for (let c = 0; c < size; c++) mean[c] = (mean[c] as number) + (hidden[place * size + c] as number) / (to - from)
  }
  return all
}
