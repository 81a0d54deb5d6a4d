// QuoTA: frames get patches by how much they have to do with the question. arXiv 2503.08689
import { apportion, keepsAll } from '../../budget.js'
import { rangeError } from '../../errors.js'
import { defineMethod } from '../define.js'
import { cropStarts } from '../gather.js'
import { keep, list, real } from '../options.js'
import { range } from '../select.js'
import { anyPlace, bestOfCrops } from '../vision-method.js'

/**
 * The budget of the film is shared over its frames (the crops that are read together) by their weights raised to `power`; what a frame cannot hold goes to the others. Weights come
 * from whoever knows what the question asks: a small model that is asked of every frame whether it helps (the paper's way), likeness to the text, a list of hits. In a frame patches
 * are evenly spread.
 */
export const quota = defineMethod({
  name: 'quota',
  title: 'shares patches over the frames of a film by weights that you give',
  paper: '2503.08689',
  acts: 'vision',
  options: {
    keep,
    weights: list(real(1, '', 0, 1e9), null, 'one a frame; null: all alike'),
    power: real(2, 'how much more a weightier frame gets', 0, 16),
  },
  check({ weights }) {
    if (weights?.every((weight) => weight === 0)) throw rangeError('a weight above 0', 'weights', weights.join(', '))
  },
  looks(shape, _, grant) {
    const { vision } = shape
    return vision === undefined || keepsAll(grant.keep(shape, vision.layers)) ? [] : anyPlace(vision)
  },
  decide(seen, { power, weights }, grant) {
    if (seen.at !== 'vision') return null
    const { crops, layer, sources } = seen
    if (weights && weights.length !== crops.length)
      throw rangeError(`${crops.length} weights, one a frame,`, 'weights', weights.length)
    const target = grant.rows(seen)
    if (target >= sources.length) return null
    const raised = crops.map((_, frame) => (weights?.[frame] ?? 1) ** power)
    const whole = raised.reduce((sum, weight) => sum + weight, 0)
    const starts = cropStarts(sources, crops)
    const left = crops.map((_, frame) => (starts[frame + 1] as number) - (starts[frame] as number))
    const counts = spread(
      raised.map((weight) => weight / whole),
      target,
      left,
    )
    const scores = new Float64Array(sources.length)
    for (const [frame, count] of counts.entries())
      for (const i of range(0, count))
        scores[(starts[frame] as number) + Math.floor(((i + 0.5) * (left[frame] as number)) / count)] = 1
    return { action: 'dropPatches', layer, kept: bestOfCrops(seen, counts, scores) }
  },
})

/** `target` by shares, none above its cap: what is above goes to those that have room, by their shares. */
function spread(shares: readonly number[], target: number, caps: readonly number[]): number[] {
  const ideals = shares.map(() => 0)
  for (let rest = target; rest > 1e-6; ) {
    const open = [...shares.keys()].filter(
      (i) => (ideals[i] as number) < (caps[i] as number) && (shares[i] as number) > 0,
    )
    const whole = open.reduce((sum, i) => sum + (shares[i] as number), 0)
    if (whole === 0) break
    let given = 0
    for (const i of open) {
      const more = Math.min((rest * (shares[i] as number)) / whole, (caps[i] as number) - (ideals[i] as number))
      ideals[i] = (ideals[i] as number) + more
      given += more
    }
    rest -= given
  }
  return apportion(ideals, target, caps)
}
