// A plan that was given back, as a method: it looks where its entries act and decides what they say.
import { TokensieveError } from '../errors.js'
import { type PlanEntry, parsePlan } from '../plan.js'
import { makeMethod } from './define.js'
import { patchesOf } from './gather.js'
import type { CacheNeed, Decision, Look, Method, Seen, Shape, VisionPart, VisionSeen } from './method.js'
import { patchDecisionOf } from './patch-decisions.js'
import { after } from './seen.js'
import { visionPlace } from './tower.js'

/** Entries are found by phase, step and layer; ERR_PLAN where one does not meet the rows that it was made for. TypeError where `plan` is none. */
export function methodFromPlan(plan: unknown): Method {
  const entries = parsePlan(plan)
  const all = (fits: (entry: PlanEntry) => boolean) => entries.length > 0 && entries.every(fits)
  const acts = all(isOfPatches) ? 'vision' : entries.every(isOfCache) ? 'cache' : 'layers'
  const definition = {
    name: 'plan',
    acts,
    repack: entries.some(({ action, positions }) => action === 'evict' && positions === 'repack'),
    looks: (shape: Shape) => looksOf(entries, shape),
    decide: (seen: Seen) => decideAgain(entries, seen),
  } as const
  return makeMethod(definition, Object.freeze({ plan: entries }))
}

type PatchEntry = PlanEntry & { part: VisionPart }

function isOfPatches(entry: PlanEntry): entry is PatchEntry {
  return entry.phase === 'vision'
}

function looksOf(plan: readonly PlanEntry[], { layers: depth, vision }: Shape): Look[] {
  const patches = plan.filter(isOfPatches)
  if (patches.length > 0 && !vision)
    throw new TokensieveError(
      'ERR_PLAN',
      'Expected a plan for a model that reads text only but received one for patches',
    )
  const entries = plan.filter((entry) => !isOfPatches(entry))
  for (const { layer } of entries) {
    if (layer >= depth)
      throw new TokensieveError(
        'ERR_PLAN',
        `Expected a plan for ${depth} layers but received one that acts on layer ${layer}`,
      )
  }
  const layersOf = (wanted: (entry: PlanEntry) => boolean) =>
    [...new Set(entries.filter(wanted).map(({ layer }) => layer))].sort((a, b) => a - b)
  const isEviction = ({ coarsePerHead, keptPerHead }: PlanEntry) => (keptPerHead ?? coarsePerHead) !== undefined
  const looks: Look[] = layersOf(isCut).map((layer) => ({ at: 'layer', layer, needs: [] }))
  const prompt = layersOf((entry) => isEviction(entry) && entry.phase !== 'decode')
  const decode = layersOf((entry) => isEviction(entry) && entry.phase === 'decode')
  if (prompt.length > 0) looks.push({ at: 'prompt', layers: prompt, needs: needsOf(entries) })
  if (decode.length > 0) looks.push({ at: 'decode', every: 1, layers: decode, needs: [] })
  if (entries.some(isStanding)) looks.push({ at: 'session' })
  const stops = new Map(patches.map(({ layer, part }) => [visionPlace({ layer, part }), { layer, part }]))
  for (const stop of stops.values()) looks.push({ at: 'vision', ...stop, needs: [] })
  return looks
}

/** So that a prompt is read as it was for those who decided. */
function needsOf(entries: readonly PlanEntry[]): CacheNeed[] {
  return entries.some(({ arithmetic }) => arithmetic === 'fine') ? [{ what: 'keyNorms' }] : []
}

function isStanding({ action, rule }: PlanEntry): boolean {
  return rule !== undefined || action === 'skip'
}

/** Of rows of a call, between layers. */
function isCut({ action }: PlanEntry): boolean {
  return action === 'drop' || action === 'merge' || action === 'pass'
}

function decideAgain(entries: readonly PlanEntry[], seen: Seen): Decision[] {
  const decisions: Decision[] = []
  let left = seen
  const sourceOf = seen.at === 'vision' ? sourcesByPlace(seen) : undefined
  for (const entry of entries) {
    if (!acts(entry, left)) continue
    // Of several pictures of a prompt each is decided on by itself: the entry of another one names no patch of this one.
    if (sourceOf && !sourceOf.has(patchIn(entry))) continue
    const decision = sourceOf ? patchDecisionOf(entry, (place) => sourceOf.get(place) ?? -1) : decisionOf(entry)
    const before = rowsBefore(left)
    if (before !== entry.before)
      throw new TokensieveError(
        'ERR_PLAN',
        `Expected ${entry.before} rows for ${placeOf(entry)} of the plan but received ${before}`,
      )
    decisions.push(decision)
    left = after(left, decision)
  }
  return decisions
}

function isOfCache({ action }: PlanEntry): boolean {
  return ['evict', 'restore', 'coarsen', 'quantize'].includes(action)
}

function placeOf({ action, layer, step }: PlanEntry): string {
  return `'${action}' at step ${step}, layer ${layer},`
}

function acts(entry: PlanEntry, seen: Seen): boolean {
  if (isOfPatches(entry) || seen.at === 'vision') return isOfPatches(entry) && seen.at === 'vision' && isAt(entry, seen)
  if (seen.at === 'session') return isStanding(entry)
  if (entry.action === 'quantize' || isStanding(entry) || entry.layer !== seen.layer || entry.step !== seen.step)
    return false
  const cut = isCut(entry)
  return seen.at === 'layer' ? cut : !cut && (entry.phase === 'decode') === (seen.at === 'decode')
}

function isAt({ layer, part, step }: PatchEntry, seen: VisionSeen): boolean {
  return layer === seen.layer && part === seen.part && step === seen.step
}

/** Place in session.ids -> source in the tower. */
function sourcesByPlace({ crops, place }: VisionSeen): Map<number, number> {
  return new Map(
    Array.from({ length: crops.length * patchesOf(crops) }, (_, source) => [place?.(source) ?? source, source]),
  )
}

/** A patch that an entry names. */
function patchIn({ as, into, kept, patch }: PlanEntry): number {
  return patch ?? (kept ?? into ?? as)?.[0] ?? Number.NaN
}

function rowsBefore(seen: Seen): number {
  if (seen.at === 'session') return 0
  if (seen.at === 'layer' || seen.at === 'vision') return seen.sources.length
  return Array.from({ length: seen.shape.kvHeads }, (_, head) => seen.sources(head).length).reduce(
    (sum, rows) => sum + rows,
    0,
  )
}

function decisionOf({
  action,
  coarsePerHead,
  folds,
  heads = [],
  into,
  keys,
  kept,
  keptPerHead,
  layer,
  method,
  positions = 'keep',
  rule,
  sizes,
  storedPerHead,
  weights,
  what,
}: PlanEntry): Decision {
  if (rule) return { action: 'rule', layer, rule, method }
  if (what === 'heads') return { action: 'skip', layer, what, heads, method }
  if (action === 'pass' && what !== 'mlp')
    return { action, layer, what: what ?? 'block', kept: kept ?? [], ...(weights && { weights }), method }
  if (what) return { action: 'skip', layer, what, method }
  if (keptPerHead) {
    const aside = storedPerHead && { storedPerHead }
    return { action: 'evict', layer, keptPerHead, ...aside, ...(folds && { folds, keys, sizes }), method }
  }
  if (coarsePerHead) return { action: 'coarsen', layer, coarsePerHead, method }
  if (into) return { action: 'merge', layer, into, positions, method }
  return { action: 'drop', layer, kept: kept ?? [], positions, method }
}
