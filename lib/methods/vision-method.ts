// Vision methods from one function: patches are scored at one place of the tower, the best of each crop go on.
import { apportion, keepsAll } from '../budget.js'
import { defineMethod, type MethodFactory } from './define.js'
import { cropStarts } from './gather.js'
import type { Decision, VisionNeed, VisionPart, VisionSeen, VisionShape } from './method.js'
import { type Declared, keep, type Values } from './options.js'
import { topK } from './select.js'

export interface VisionDefinition<D extends Declared> {
  readonly name: string
  readonly title: string
  readonly paper: string
  /** Beside `keep`. */
  readonly options: D
  check?(options: Values<D>): void
  /** Where it acts; before the projector where it is missing. */
  place?(options: Values<D>, vision: VisionShape): { readonly layer: number; readonly part: VisionPart }
  needs?(options: Values<D>, vision: VisionShape): VisionNeed[]
  /** [rows]: higher stays. `counts` says how many of each crop will. */
  score(seen: VisionSeen, options: Values<D>, counts: readonly number[]): ArrayLike<number>
}

export function visionMethod<const D extends Declared>(
  spec: VisionDefinition<D>,
): MethodFactory<D & { keep: typeof keep }> {
  type All = D & { keep: typeof keep }
  return defineMethod<All>({
    name: spec.name,
    title: spec.title,
    paper: spec.paper,
    acts: 'vision',
    options: { keep, ...spec.options },
    ...(spec.check && { check: (options) => spec.check?.(options as Values<D>) }),
    looks(shape, options, grant) {
      const { vision } = shape
      if (vision === undefined) return []
      const own = options as Values<D>
      const place = spec.place?.(own, vision) ?? { layer: vision.layers, part: 'projector' as const }
      if (keepsAll(grant.keep(shape, place.layer))) return []
      return { at: 'vision', ...place, needs: spec.needs?.(own, vision) ?? [] }
    },
    decide(seen, options, grant) {
      if (seen.at !== 'vision') return null
      return dropPatches(seen, grant.rows(seen), (counts) => spec.score(seen, options as Values<D>, counts))
    },
  })
}

/** Keeps the best `target` of the patches, of each crop as many as its share of those that were there at first; null where that is all. */
export function dropPatches(
  seen: VisionSeen,
  target: number,
  score: (counts: readonly number[]) => ArrayLike<number>,
): Decision | null {
  if (target >= seen.sources.length) return null
  const counts = evenly(seen, target)
  const scores = score(counts)
  return { action: 'dropPatches', layer: seen.layer, kept: bestOfCrops(seen, counts, scores), scores }
}

/** `target` rows spread over the crops, as many as each has left. */
export function evenly({ crops, sources }: Pick<VisionSeen, 'crops' | 'sources'>, target: number): number[] {
  const starts = cropStarts(sources, crops)
  const left = crops.map((_, crop) => (starts[crop + 1] as number) - (starts[crop] as number))
  return apportion(
    left.map((rows) => (target * rows) / sources.length),
    target,
    left,
  )
}

/** Sources of the best counts[crop] rows of each crop, ascending. */
export function bestOfCrops(
  { crops, sources }: VisionSeen,
  counts: readonly number[],
  scores: ArrayLike<number>,
): Int32Array {
  const starts = cropStarts(sources, crops)
  const places = crops.map((_, crop) => topK(scores, counts[crop] ?? 0, starts[crop], starts[crop + 1]))
  return Int32Array.from(
    places.flatMap((own) => [...own]),
    (place) => sources[place] as number,
  )
}

/** Where patches go that need no look: before the projector, or behind one that joins them. */
export function anyPlace({ layers, pool }: VisionShape): { at: 'vision'; layer: number; part: VisionPart } {
  return { at: 'vision', layer: layers, part: pool > 1 ? 'decoder' : 'projector' }
}

/** How much the patches of a block are looked at: by the class token, or by each other where there is none. */
export function attended({ classToken }: VisionShape, layer: number): VisionNeed {
  return { what: classToken ? 'class' : 'received', layer }
}
