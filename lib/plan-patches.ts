// What is decided about patches in the tower: whether it fits what was seen, and as entries of a plan.
import { patchesOf } from './methods/gather.js'
import type { VisionSeen } from './methods/method.js'
import type { PatchDecision } from './methods/patch-decisions.js'
import { partName } from './methods/tower.js'
import type { PlanEntry } from './plan.js'
import { checkInto, checkKept, listOf, planError } from './plan-checks.js'

type Of<A> = Extract<PatchDecision, { action: A }>

/** Throws ERR_PLAN where it does not fit. */
export function checkPatches(decision: PatchDecision, seen: VisionSeen, who: string): void {
  const where = `before ${partName(seen)}`
  if (decision.action === 'dropPatches') checkKept(decision.kept, seen.sources, where, who)
  if (decision.action === 'mergePatches') checkMerge(decision, seen, where, who)
  if (decision.action === 'blendPatches') checkBlend(decision, seen, where, who)
  if (decision.action === 'recallPatches') checkRecall(decision, seen, where, who)
  if (decision.action === 'joinCrops' && !(Number.isInteger(decision.crops) && decision.crops >= 1))
    throw planError(who, `a whole number of crops from 1 ${where}`, decision.crops)
}

/** The number of the crop, or of the crops that are joined, that a patch is in. */
function cropOf({ crops, joined }: VisionSeen): (source: number) => number {
  const patches = patchesOf(crops) * joined
  return (source) => Math.floor(source / patches)
}

function checkMerge({ into, weights }: Of<'mergePatches'>, seen: VisionSeen, where: string, who: string): void {
  const { sources } = seen
  const crop = cropOf(seen)
  for (const [place, target] of checkInto(into, sources, where, who).entries()) {
    const [source, holder] = [sources[place] as number, sources[target] as number]
    if (crop(source) !== crop(holder))
      throw planError(who, `merges within a crop ${where}`, `row ${source} into ${holder}`)
  }
  if (weights === undefined) return
  if (weights.length !== sources.length) throw planError(who, `${sources.length} weights ${where}`, weights.length)
  for (let i = 0; i < weights.length; i++)
    if (!(Number.isFinite(weights[i]) && (weights[i] as number) > 0))
      throw planError(who, `finite weights above 0 ${where}`, weights[i])
}

function checkBlend({ into, weights }: Of<'blendPatches'>, seen: VisionSeen, where: string, who: string): void {
  const { sources } = seen
  const each = into?.length / Math.max(1, sources.length)
  if (!(Number.isInteger(each) && each >= 1 && weights?.length === into.length))
    throw planError(who, `as many shares for each of ${sources.length} rows ${where}`, into?.length)
  const crop = cropOf(seen)
  const there = new Set(sources)
  for (const [place, source] of sources.entries()) {
    let whole = 0
    for (let i = place * each; i < (place + 1) * each; i++) {
      const [target, weight] = [into[i] as number, weights[i] as number]
      if (!there.has(target) || crop(target) !== crop(source))
        throw planError(who, `shares in rows of the crop ${where}`, `one of row ${source} in ${target}`)
      if (!(Number.isFinite(weight) && weight >= 0)) throw planError(who, `weights from 0 up ${where}`, weight)
      whole += weight
    }
    if (whole === 0) throw planError(who, `a share of every row ${where}`, `none of row ${source}`)
  }
}

function checkRecall({ as }: Of<'recallPatches'>, { crops, sources }: VisionSeen, where: string, who: string): void {
  if (typeof as?.length !== 'number') throw planError(who, `patches to come back as ${where}`, typeof as)
  const there = new Set(sources)
  const end = crops.length * patchesOf(crops)
  for (let i = 0; i < as.length; i++) {
    const source = as[i] as number
    const fits = Number.isInteger(source) && source > (i > 0 ? (as[i - 1] as number) : -1) && source < end
    if (!fits || there.has(source)) throw planError(who, `ascending patches that are not there ${where}`, source)
  }
}

type Head = Pick<PlanEntry, 'phase' | 'step' | 'layer' | 'method' | 'scores'>

/** null where nothing changes. */
export function patchEntry(decision: PatchDecision, seen: VisionSeen, head: Head): PlanEntry | null {
  const { part, sources } = seen
  const place = (source: number) => seen.place?.(source) ?? source
  const names = (list: ArrayLike<number>) => (seen.place ? Array.from(list, place) : listOf(list))
  const before = sources.length
  const entry = (action: PlanEntry['action'], after: number, more: Partial<PlanEntry>): PlanEntry => ({
    ...head,
    part,
    before,
    after,
    action,
    ...more,
  })
  if (decision.action === 'joinCrops' || decision.action === 'carryPatches') {
    // A name tells the picture: patches of padding have none of their own.
    const patch = place(sources.find((source) => place(source) >= 0) ?? 0)
    if (decision.action === 'carryPatches') return entry('carry', before, { patch })
    return decision.crops === 1 ? null : entry('join', before, { patch, crops: decision.crops })
  }
  if (decision.action === 'recallPatches') {
    const as = names(decision.as)
    return as.length === 0 ? null : entry('recall', before + as.length, { as })
  }
  if (decision.action === 'blendPatches') {
    const weights = Array.from(decision.weights, Math.fround)
    const held = new Set(Array.from(decision.into).filter((_, i) => (weights[i] as number) > 0))
    return entry('blend', held.size, { into: names(decision.into), weights })
  }
  const named = names(decision.action === 'dropPatches' ? decision.kept : decision.into)
  const after = new Set(named).size
  if (before === after) return null
  if (decision.action === 'dropPatches') return entry('drop', after, { kept: named })
  const { proportional, weights } = decision
  return entry('merge', after, {
    into: named,
    ...(weights && { weights: Array.from(weights, Math.fround) }),
    ...(proportional && { sizes: true }),
  })
}
