// Where methods look: written short, and whether a look is due.
import { rangeError, typeError } from '../errors.js'
import { allLayers, checkLayer } from './grant.js'
import type { CacheNeed, LayerNeed, Look, Seen, Shape, VisionNeed, VisionPart, VisionSeen } from './method.js'
import { completeStop } from './tower.js'

/** A {@link Look} as a method may write it: without `layers` it is all of them, without `needs` it is none; behind the last block of a tower `layer` says nothing. */
export type LookAsked =
  | { at: 'session' }
  | { at: 'vision'; layer?: number; part: VisionPart; needs?: readonly VisionNeed[] }
  | { at: 'layer'; layer: number; needs?: readonly LayerNeed[] }
  | { at: 'prompt'; layers?: readonly number[]; needs?: readonly CacheNeed[] }
  | { at: 'decode'; every?: number; layers?: readonly number[]; needs?: readonly CacheNeed[] }

/** The looks in full. Nobody looks into the tower of a model that has none. */
export function completeLooks(asked: readonly LookAsked[], shape: Shape, name: string): Look[] {
  return asked
    .filter((look) => look?.at !== 'vision' || shape.vision !== undefined)
    .map((look) => completeLook(look, shape, name))
}

/** The look in full; TypeError or RangeError where it is none, or none of this model. */
function completeLook(look: LookAsked, shape: Shape, name: string): Look {
  if (look?.at === 'session') return look
  if (look?.at === 'vision') return { at: 'vision', ...completeStop(look, shape, name) }
  if (look?.at === 'layer') {
    checkLayer(look.layer, 1, shape, name)
    return { at: 'layer', layer: look.layer, needs: look.needs ?? [] }
  }
  if (look?.at !== 'prompt' && look?.at !== 'decode') {
    throw typeError(
      "one at 'session', 'vision', 'layer', 'prompt' or 'decode'",
      `looks of ${name}`,
      (look as Look | undefined)?.at ?? look,
    )
  }
  const layers = look.layers ?? allLayers(shape)
  for (const layer of layers) checkLayer(layer, 0, shape, name)
  const needs = look.needs ?? []
  if (look.at === 'prompt') return { at: 'prompt', layers, needs }
  const every = look.every ?? 1
  if (!(Number.isInteger(every) && every >= 1)) throw rangeError('a whole number from 1', `every of ${name}`, every)
  return { at: 'decode', every, layers, needs }
}

/** True where one of `looks` is due for `seen`. */
export function isDue(looks: readonly Look[], seen: Seen): boolean {
  return looks.some((look) => {
    if (look.at !== seen.at) return false
    if (look.at === 'session' || seen.at === 'session') return true
    if (look.at === 'vision') return look.layer === seen.layer && look.part === (seen as VisionSeen).part
    if (look.at === 'layer') return look.layer === seen.layer
    if (!look.layers.includes(seen.layer)) return false
    if (seen.at === 'layer' || seen.at === 'vision') return false
    return look.at === 'prompt' || isStep(look.every, seen.step)
  })
}

export function isStep(every: number, step: number): boolean {
  return every > 0 && step % every === 0
}
