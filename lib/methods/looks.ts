// Where methods look: written short, and whether a look is due.
import { rangeError, typeError } from '../errors.js'
import { allLayers, checkLayer } from './grant.js'
import type { CacheNeed, LayerNeed, Look, Seen, Shape } from './method.js'

/** A {@link Look} as a method may write it: without `layers` it is all of them, without `needs` it is none. */
export type LookAsked =
  | { at: 'session' }
  | { at: 'layer'; layer: number; needs?: readonly LayerNeed[] }
  | { at: 'prompt'; layers?: readonly number[]; needs?: readonly CacheNeed[] }
  | { at: 'decode'; every?: number; layers?: readonly number[]; needs?: readonly CacheNeed[] }

/** The look in full; TypeError or RangeError where it is none, or none of this model. */
export function completeLook(look: LookAsked, shape: Shape, name: string): Look {
  if (look?.at === 'session') return look
  if (look?.at === 'layer') {
    checkLayer(look.layer, 1, shape, name)
    return { at: 'layer', layer: look.layer, needs: look.needs ?? [] }
  }
  if (look?.at !== 'prompt' && look?.at !== 'decode') {
    throw typeError(
      "one at 'session', 'layer', 'prompt' or 'decode'",
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
    if (look.at === 'layer') return look.layer === seen.layer
    if (!look.layers.includes(seen.layer) || seen.at === 'layer') return false
    return look.at === 'prompt' || isStep(look.every, seen.step)
  })
}

export function isStep(every: number, step: number): boolean {
  return every > 0 && step % every === 0
}
