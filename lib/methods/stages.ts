// Stages of the decoder before which rows go: where they are in a model of any depth, and what goes on from each.
import { rangeError } from '../errors.js'
import type { Shape } from './method.js'

/** Layers at so many 32nds of the depth, rounded down but for the first layer, in the order given. Papers name layers of models with 32 of them. */
export function depths({ layers }: Pick<Shape, 'layers'>, parts: readonly number[]): number[] {
  return parts.map((part) => Math.max(1, Math.floor((part * layers) / 32)))
}

/** layer -> ratio. In a model with fewer layers than stages the later ratio of a layer counts; a ratio of 1 needs no stage. */
export function ratiosOf(layers: readonly number[], ratios: readonly number[]): ReadonlyMap<number, number> {
  const pairs = layers.map((layer, i) => [layer, ratios[i] ?? 1] as const)
  return new Map(pairs.filter(([, ratio]) => ratio < 1))
}

/** RangeError where there is not one ratio a layer, or one of both goes the wrong way. usual: how many layers there are where none are named. */
export function checkStages(layers: readonly number[] | null, ratios: readonly number[], usual: number): void {
  const count = layers?.length ?? usual
  if (ratios.length !== count) throw rangeError(`${count} ratios, one a layer,`, 'ratios', ratios.length)
  if (layers?.some((layer, i) => layer <= (layers[i - 1] ?? 0)))
    throw rangeError('ascending layers', 'layers', layers.join(', '))
  if (ratios.some((ratio, i) => ratio > (ratios[i - 1] ?? 1)))
    throw rangeError('ratios that do not grow', 'ratios', ratios.join(', '))
}

/** Rows that a ratio of `count` comes to, rounded down. */
export function partOf(ratio: number, count: number): number {
  return Math.floor(ratio * count + 1e-9)
}
