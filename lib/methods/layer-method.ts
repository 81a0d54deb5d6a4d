// Layer methods from one function: the rows of a prompt that may go are scored before a layer, the best go on.
import { keepsAll } from '../budget.js'
import { defineMethod, type MethodFactory } from './define.js'
import type { Decision, LayerNeed, LayerSeen, Positions, Shape } from './method.js'
import type { Declared, Values } from './options.js'
import { topK } from './select.js'

export interface LayerDefinition<D extends Declared> {
  readonly name: string
  readonly title: string
  readonly paper: string
  readonly options: D
  check?(options: Values<D>): void
  /** Layers before which it drops. */
  layers(options: Values<D>, shape: Shape): readonly number[]
  needs(options: Values<D>): LayerNeed[]
  /** [rows] of the call: higher stays. */
  score(seen: LayerSeen, options: Values<D>): ArrayLike<number>
  /** Droppable rows that stay; what `keep` grants where it is missing. */
  target?(seen: LayerSeen, options: Values<D>): number
  positions(options: Values<D>): Positions
}

export function layerMethod<const D extends Declared>(spec: LayerDefinition<D>): MethodFactory<D> {
  return defineMethod<D>({
    name: spec.name,
    title: spec.title,
    paper: spec.paper,
    acts: 'layers',
    options: spec.options,
    ...(spec.check && { check: (options) => spec.check?.(options) }),
    looks(shape, options, grant) {
      const layers = spec.layers(options, shape).filter((layer) => spec.target || !keepsAll(grant.keep(shape, layer)))
      return layers.map((layer) => ({ at: 'layer', layer, needs: spec.needs(options) }))
    },
    decide(seen, options, grant) {
      if (seen.at !== 'layer') return null
      const target = spec.target?.(seen, options) ?? grant.rows(seen)
      return dropTo(seen, target, () => spec.score(seen, options), spec.positions(options))
    },
  })
}

/** Keeps the best `target` of the droppable rows and every other one; null where that is all. */
export function dropTo(
  seen: LayerSeen,
  target: number,
  score: () => ArrayLike<number>,
  positions: Positions,
): Decision | null {
  const { droppable, layer, sources } = seen
  if (target >= droppable.length) return null
  const all = score()
  const scores = all instanceof Float32Array ? new Float32Array(droppable.length) : new Float64Array(droppable.length)
  for (let i = 0; i < scores.length; i++) scores[i] = all[droppable[i] as number] as number
  const gone = new Uint8Array(sources.length)
  for (const place of droppable) gone[place] = 1
  for (const best of topK(scores, target)) gone[droppable[best] as number] = 0
  const kept = new Int32Array(sources.length - droppable.length + target)
  for (let place = 0, filled = 0; place < sources.length; place++)
    if (gone[place] === 0) kept[filled++] = sources[place] as number
  return { action: 'drop', layer, kept, positions, scores }
}
