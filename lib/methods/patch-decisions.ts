// Decisions about patches: which they are, what they were in a plan, and what is seen after them.
import type { PlanEntry } from '../plan.js'
import { placesOf } from './gather.js'
import type { Decision, VisionSeen } from './method.js'

const ACTIONS = ['dropPatches', 'mergePatches', 'blendPatches', 'joinCrops', 'carryPatches', 'recallPatches'] as const
export type PatchDecision = Extract<Decision, { action: (typeof ACTIONS)[number] }>

export function isOfPatches(decision: Decision): decision is PatchDecision {
  return (ACTIONS as readonly string[]).includes(decision.action)
}

/** The decision that an entry was made of. source: of a patch by its name. */
export function patchDecisionOf(
  { action, as, crops, into, kept, layer, method, sizes, weights }: PlanEntry,
  source: (place: number) => number,
): PatchDecision {
  const head = { layer, method } as const
  const named = (places: readonly number[] = []) => places.map(source)
  // Places go line by line over all tiles of a picture, sources tile by tile.
  const ascending = (places: readonly number[] | undefined) => named(places).sort((a, b) => a - b)
  if (action === 'carry') return { ...head, action: 'carryPatches' }
  if (action === 'join') return { ...head, action: 'joinCrops', crops: crops ?? 1 }
  if (action === 'recall') return { ...head, action: 'recallPatches', as: ascending(as) }
  if (action === 'blend') return { ...head, action: 'blendPatches', into: named(into), weights: weights ?? [] }
  if (into === undefined) return { ...head, action: 'dropPatches', kept: ascending(kept) }
  const more = { ...(weights && { weights }), ...(sizes && { proportional: true }) }
  return { ...head, action: 'mergePatches', into: named(into), ...more }
}

/** The rows that are left, and the patches that each stands for. */
export interface PatchRows {
  readonly sources: Int32Array
  readonly sizes: () => Float32Array
  readonly joined: number
}

export function rowsAfter(seen: VisionSeen, decision: PatchDecision): PatchRows {
  const { joined, sources } = seen
  const same = { sources, sizes: () => seen.sizes(), joined }
  if (decision.action === 'carryPatches') return same
  if (decision.action === 'joinCrops') return { ...same, joined: joined * decision.crops }
  if (decision.action === 'dropPatches') {
    const kept = Int32Array.from(decision.kept)
    const places = placesOf(sources, kept)
    return { ...same, sources: kept, sizes: () => Float32Array.from(places, (place) => seen.sizes()[place] as number) }
  }
  if (decision.action === 'recallPatches') {
    const all = Int32Array.from([...sources, ...Array.from(decision.as)]).sort()
    const sizeOf = () => new Map(Array.from(sources, (source, place) => [source, seen.sizes()[place] as number]))
    return { ...same, sources: all, sizes: () => Float32Array.from(all, (source) => sizeOf().get(source) ?? 0) }
  }
  const { into } = decision
  const weights = decision.action === 'blendPatches' ? decision.weights : undefined
  const held = new Set(Array.from(into).filter((_, i) => weights === undefined || (weights[i] as number) > 0))
  const left = sources.filter((source) => held.has(source))
  return { ...same, sources: left, sizes: () => sizesAfter(seen, left, into, weights) }
}

/** Each row's patches go to the rows that it has a share in. */
function sizesAfter(
  seen: VisionSeen,
  left: Int32Array,
  into: ArrayLike<number>,
  weights: ArrayLike<number> | undefined,
): Float32Array {
  const placeOf = new Map(Array.from(left, (source, place) => [source, place]))
  const each = into.length / seen.sources.length
  const out = new Float32Array(left.length)
  for (const [row, size] of seen.sizes().entries()) {
    let whole = 0
    for (let i = row * each; i < (row + 1) * each; i++) whole += weights?.[i] ?? 1
    for (let i = row * each; i < (row + 1) * each; i++) {
      const place = placeOf.get(into[i] as number)
      if (place !== undefined) out[place] = (out[place] as number) + (size * (weights?.[i] ?? 1)) / whole
    }
  }
  return out
}
