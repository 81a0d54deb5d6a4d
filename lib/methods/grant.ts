// What a budget comes to where a method looks, and which layers a model has.
import { type Budget, rowsOf } from '../budget.js'
import type { Seen, Shape } from './method.js'

/** What `keep` comes to, after wrappers. */
export interface Grant {
  keep(shape: Shape, layer: number, head?: number): Budget
  /** Rows that may stay where `seen` was taken: of the layer's tokens, of the droppable tokens of the call, or of the patches that were there at first. */
  rows(seen: Seen, head?: number): number
}

export function makeGrant(keepAt: (shape: Shape, layer: number, head: number) => Budget): Grant {
  const keep = (shape: Shape, layer: number, head = 0) => keepAt(shape, layer, head)
  return Object.freeze({
    keep,
    rows(seen: Seen, head = 0) {
      if (seen.at === 'session') return 0
      const tokens = seen.at === 'layer' || seen.at === 'vision' ? seen.given : heldTokens(seen)
      return rowsOf(keep(seen.shape, seen.layer, head), tokens, seen.shape)
    },
  })
}

/** Tokens so far that a layer may hold: all, or those within its window. */
function heldTokens(seen: { readonly tokens: number; readonly layer: number; readonly shape: Shape }): number {
  const window = seen.shape.windows[seen.layer] ?? 0
  return window > 0 ? Math.min(window, seen.tokens) : seen.tokens
}

export function allLayers(shape: Shape): number[] {
  return Array.from({ length: shape.layers }, (_, layer) => layer)
}

/** RangeError where the model has no such layer. */
export function checkLayer(layer: number, from: number, shape: { readonly layers: number }, name: string): void {
  if (Number.isInteger(layer) && layer >= from && layer < shape.layers) return
  throw new RangeError(`Expected a layer from ${from} to ${shape.layers - 1} for \`${name}\` but received ${layer}`)
}
