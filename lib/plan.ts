// A plan is what was decided, as plain data. Every decision passes the one validator here before any of it is applied; entries say what it did.
import { typeError } from './errors.js'
import { type HeadKv, parseKv } from './kv.js'
import type {
  CacheSeen,
  Decision,
  LayerSeen,
  Positions,
  Seen,
  Shape,
  VisionPart,
  VisionSeen,
} from './methods/method.js'
import { isOfPatches } from './methods/patch-decisions.js'
import type { Rule } from './native.js'
import { checkCoarsen, checkEvict, coarseningOf, evictionOf } from './plan-cache.js'
import { checkInto, checkKept, checkWord, listOf, planError } from './plan-checks.js'
import { checkPatches, patchEntry } from './plan-patches.js'

/** One decision that was applied to one layer. Indices are sources: places in session.ids. */
export interface PlanEntry {
  phase: 'prompt' | 'vision' | 'prefill' | 'decode'
  /** Calls of the session before this one: 0 for the prompt, then the decode step. */
  step: number
  /** 'drop' and 'merge' act before this layer runs, all else on it. In phase 'vision' a block of the tower, or their number. */
  layer: number
  /** In phase 'vision': what of the tower comes next. */
  part?: VisionPart
  method: string
  action:
    | 'drop'
    | 'merge'
    | 'pass'
    | 'blend'
    | 'join'
    | 'carry'
    | 'recall'
    | 'evict'
    | 'restore'
    | 'coarsen'
    | 'skip'
    | 'quantize'
    | 'sparse'
    | 'exit'
  /** Rows; for per-head actions summed over the KV heads; 0 where the entry is a rule or a skipped layer. */
  before: number
  after: number
  /** 'quantize': how the layer's rows are stored, or those of these KV heads; 'skip' of heads: these query heads. */
  kv?: HeadKv
  heads?: number[]
  /** 'drop': every row that goes on, ascending; 'pass': every row that takes part in the layer. */
  kept?: number[]
  /** 'evict': the same per KV head; 'restore': some of them come back. */
  keptPerHead?: number[][]
  /** 'coarsen': rows that are stored in 2 bits from now on, per KV head; `after` counts the others. */
  coarsePerHead?: number[][]
  /** Rows that are set aside from now on, per KV head. */
  storedPerHead?: number[][]
  /** 'evict': rows that folded into rows that stayed, per KV head: values, with `keys` keys too, with `sizes` counted in attention. */
  folds?: { from: number[]; into: number[]; weights: number[] }[]
  keys?: boolean
  sizes?: boolean
  /** 'merge': for each row of before, the row that holds it now. 'blend' of patches: for each, the rows that it has a share in, as many for all; how large they are say `weights`. */
  into?: number[]
  /** 'pass': of all rows, times what the MLP adds to those that take part, times the others. 'merge' of patches: what each row weighs; without, the patches that it stands for. With `sizes` it counts in the attentions to come as all of these. */
  weights?: number[]
  /** 'recall' of patches: the places that the rows take which were set aside ('carry'). */
  as?: number[]
  /** 'join': so many neighbouring crops read each other as one from then on. */
  crops?: number
  /** 'join' and 'carry': a patch of the picture that they are about. */
  patch?: number
  /** A standing rule, applied by native after every decode step. */
  rule?: Rule
  /** 'skip': the sub-layer that does not run; 'pass': that the other rows pass by. */
  what?: 'attention' | 'mlp' | 'block' | 'heads'
  /** 'evict': the prompt was read finely for it. */
  arithmetic?: 'fine'
  /** What became of rotary positions. */
  positions?: Positions
  /** With session({ trace: true }): of the droppable rows for 'drop', of all rows for those of patches, head after head for 'evict'. */
  scores?: number[]
}

/** Throws ERR_PLAN where `decision` does not fit what was seen. */
export function checkDecision(decision: Decision, seen: Seen, who: string): void {
  if (typeof decision !== 'object' || decision === null) throw planError(who, 'a decision', decision)
  const { action, layer } = decision
  const place = {
    skip: ['session'],
    rule: ['session'],
    drop: ['layer'],
    merge: ['layer'],
    pass: ['layer'],
    dropPatches: ['vision'],
    mergePatches: ['vision'],
    blendPatches: ['vision'],
    joinCrops: ['vision'],
    carryPatches: ['vision'],
    recallPatches: ['vision'],
    evict: ['prompt', 'decode'],
    coarsen: ['prompt', 'decode'],
  }[action] as string[] | undefined
  if (!place) throw planError(who, `an action that is known`, JSON.stringify(action))
  if (!place.includes(seen.at))
    throw planError(who, `'${action}' where ${place.join(' or ')} is seen`, `it at '${seen.at}'`)
  if (seen.at !== 'vision') checkLayer(layer, seen.shape, who)
  if (seen.at !== 'session' && layer !== seen.layer)
    throw planError(who, `a decision for layer ${seen.layer}, which was seen,`, `one for layer ${layer}`)
  if (action === 'skip') checkSkip(decision, seen.shape, who)
  if (action === 'rule') checkRule(decision.rule, who)
  if (action === 'drop') checkDrop(decision, seen as LayerSeen, who)
  if (action === 'merge') checkMerge(decision, seen as LayerSeen, who)
  if (action === 'pass') checkPass(decision, seen as LayerSeen, who)
  if (isOfPatches(decision)) checkPatches(decision, seen as VisionSeen, who)
  if (action === 'evict') checkEvict(decision, seen as CacheSeen, who)
  if (action === 'coarsen') checkCoarsen(decision, seen as CacheSeen, who)
}

function checkLayer(layer: number, shape: Shape, who: string): void {
  if (!(Number.isInteger(layer) && layer >= 0 && layer < shape.layers))
    throw planError(who, `a layer from 0 to ${shape.layers - 1}`, layer)
}

function checkSkip(decision: Decision & { action: 'skip' }, { heads }: Shape, who: string): void {
  checkWord(decision.what, ['attention', 'mlp', 'block', 'heads'], 'skip', who)
  if (decision.what !== 'heads') return
  const list: readonly number[] | undefined = decision.heads
  if (!Array.isArray(list) || !list.every((head) => Number.isInteger(head) && head >= 0 && head < heads))
    throw planError(who, `query heads from 0 to ${heads - 1}`, JSON.stringify(list))
}

function checkRule(rule: Rule, who: string): void {
  checkWord(rule?.kind, ['window', 'mass'], 'rule', who)
  const { share, tokens } = rule
  const fits = Number.isInteger(tokens) && tokens >= 0 && share >= 0 && share <= 1 && tokens > 0 !== share > 0
  if (!fits) throw planError(who, 'a rule with either tokens or a share', JSON.stringify(rule))
  if (rule.kind === 'window' && !(Number.isInteger(rule.sinks) && rule.sinks >= 0))
    throw planError(who, 'a whole number of sinks', rule.sinks)
  if (rule.kind === 'mass' && !(rule.recent >= 0 && rule.recent <= 1))
    throw planError(who, 'a share of recent rows', rule.recent)
}

function checkPass({ kept, layer, weights, what }: Decision & { action: 'pass' }, seen: LayerSeen, who: string): void {
  const { sources } = seen
  checkWord(what, ['attention', 'block'], 'pass', who)
  checkKept(kept, sources, `of layer ${layer}`, who)
  if (what === 'block') checkFree(kept, seen, 'take part', who)
  const last = sources[sources.length - 1]
  if (kept[kept.length - 1] !== last)
    throw planError(who, `the last row to take part in layer ${layer}`, 'a plan without it')
  if (weights === undefined) return
  if (what !== 'block' || weights.length !== sources.length)
    throw planError(who, `weights of all ${sources.length} rows, and of a whole layer ${layer}`, weights.length)
  for (let i = 0; i < weights.length; i++)
    if (!Number.isFinite(weights[i])) throw planError(who, `finite weights of layer ${layer}`, weights[i])
}

function checkDrop({ kept, layer, positions }: Decision & { action: 'drop' }, seen: LayerSeen, who: string): void {
  checkWord(positions, ['keep', 'repack'], 'positions', who)
  checkKept(kept, seen.sources, `before layer ${layer}`, who)
  checkFree(kept, seen, 'stay', who)
}

/** Rows that are not kept may go. */
function checkFree(kept: ArrayLike<number>, seen: LayerSeen, what: string, who: string): void {
  const free = flags(seen)
  for (let place = 0, at = 0; place < seen.sources.length; place++) {
    if (kept[at] === seen.sources[place]) at++
    else if (!free[place])
      throw planError(
        who,
        `row ${seen.sources[place]} to ${what}, which is not droppable,`,
        `a plan without it for layer ${seen.layer}`,
      )
  }
}

function checkMerge({ into, layer, positions }: Decision & { action: 'merge' }, seen: LayerSeen, who: string): void {
  checkWord(positions, ['keep', 'repack'], 'positions', who)
  const { sources } = seen
  const free = flags(seen)
  for (const [place, target] of checkInto(into, sources, `before layer ${layer}`, who).entries()) {
    if (target !== place && !(free[place] && free[target]))
      throw planError(who, 'merges among droppable rows', `row ${sources[place]} into ${into[place]}`)
  }
}

function flags({ droppable, sources }: LayerSeen): Uint8Array {
  const free = new Uint8Array(sources.length)
  for (const place of droppable) free[place] = 1
  return free
}

export interface EntryOptions {
  /** Whether scores are kept. */
  trace?: boolean
  /** Whether cache rows that stay are renumbered. */
  repack?: boolean
  /** Whether the prompt was read in fine arithmetic for this method. */
  fine?: boolean
}

const PHASES = { session: 'prompt', vision: 'vision', layer: 'prefill', prompt: 'prefill', decode: 'decode' } as const

/** What a checked decision does, as an entry; null where it removes nothing. */
export function entryOf(
  decision: Decision,
  seen: Seen,
  who: string,
  { fine, repack, trace }: EntryOptions = {},
): PlanEntry | null {
  const phase = PHASES[seen.at]
  const head = {
    phase,
    step: seen.at === 'session' ? 0 : seen.step,
    layer: decision.layer,
    method: decision.method ?? who,
  } as const
  if (decision.action === 'skip') {
    const { what } = decision
    const heads = what === 'heads' ? { heads: [...decision.heads] } : {}
    return { ...head, action: 'skip', before: 0, after: 0, what, ...heads }
  }
  const cache: { positions?: Positions } = repack ? { positions: 'repack' } : {}
  if (decision.action === 'rule')
    return { ...head, action: 'evict', before: 0, after: 0, rule: { ...decision.rule }, ...cache }
  const scores = trace && 'scores' in decision && decision.scores ? { scores: flat(decision.scores) } : {}
  if (decision.action === 'evict') {
    const arithmetic = fine ? ({ arithmetic: 'fine' } as const) : {}
    return evictionOf(decision, seen as CacheSeen, head, { ...cache, ...arithmetic, ...scores })
  }
  if (decision.action === 'coarsen') return coarseningOf(decision, seen as CacheSeen, { ...head, ...scores })
  if (isOfPatches(decision)) return patchEntry(decision, seen as VisionSeen, { ...head, ...scores })
  const before = (seen as LayerSeen).sources.length
  if (decision.action === 'pass') return passEntry(decision, before, { ...head, ...scores })
  const { positions } = decision
  if (decision.action === 'drop') {
    const kept = listOf(decision.kept)
    return before === kept.length
      ? null
      : { ...head, action: 'drop', before, after: kept.length, kept, positions, ...scores }
  }
  const into = listOf(decision.into)
  const after = new Set(into).size
  return before === after ? null : { ...head, action: 'merge', before, after, into, positions }
}

/** Weights change rows though all of them take part. */
function passEntry(
  { kept, weights, what }: Decision & { action: 'pass' },
  before: number,
  head: Pick<PlanEntry, 'phase' | 'step' | 'layer' | 'method' | 'scores'>,
): PlanEntry | null {
  if (before === kept.length && weights === undefined) return null
  const weighed = weights && { weights: Array.from(weights, Math.fround) }
  return { ...head, action: 'pass', before, after: kept.length, what, kept: listOf(kept), ...weighed }
}

function flat(scores: ArrayLike<number> | readonly ArrayLike<number>[]): number[] {
  return Array.from(scores as ArrayLike<number | ArrayLike<number>>, (one) =>
    typeof one === 'number' ? one : Array.from(one),
  ).flat()
}

/** A plan that was given back: an array of entries that this version can apply, each copied. */
export function parsePlan(value: unknown): PlanEntry[] {
  if (!Array.isArray(value)) throw typeError('an array of plan entries', 'plan', value)
  return value.map((entry: unknown, i) => parseEntry(entry, `plan[${i}]`))
}

function parseEntry(value: unknown, name: string): PlanEntry {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw typeError('a plan entry', name, value)
  const entry = structuredClone(value) as PlanEntry
  checkWord(entry.phase, ['prompt', 'vision', 'prefill', 'decode'], 'phase', name)
  const patches = ['drop', 'merge', 'blend', 'join', 'carry', 'recall']
  const text = ['drop', 'merge', 'pass', 'evict', 'restore', 'coarsen', 'skip', 'quantize']
  if (entry.phase !== 'vision') checkWord(entry.action, text, 'action', name)
  else {
    checkWord(entry.action, patches, 'vision', name)
    checkWord(entry.part as string, ['attention', 'mlp', 'projector', 'decoder'], 'part', name)
  }
  for (const field of ['step', 'layer', 'before', 'after'] as const) {
    if (!(Number.isInteger(entry[field]) && entry[field] >= 0))
      throw planError(name, `a whole number for ${field}`, entry[field])
  }
  const cache = entry.rule ? 'rule' : 'keptPerHead'
  const own = { drop: 'kept', merge: 'into', pass: 'kept', skip: 'what', quantize: 'kv', evict: cache, restore: cache }
  const tower = { blend: 'into', join: 'crops', carry: 'patch', recall: 'as' }
  const found = { ...own, ...tower, coarsen: 'coarsePerHead' }[entry.action as keyof typeof own]
  if (entry[found as keyof PlanEntry] === undefined) throw planError(name, `${found} of '${entry.action}'`, 'none')
  if (entry.action === 'quantize') checkQuantize(entry, name)
  return entry
}

function checkQuantize({ heads, kv }: PlanEntry, name: string): void {
  parseKv(kv, `${name}.kv`)
  const whole = (head: unknown) => Number.isInteger(head) && (head as number) >= 0
  if (heads !== undefined && !(Array.isArray(heads) && heads.length > 0 && heads.every(whole)))
    throw planError(name, `KV heads of 'quantize'`, JSON.stringify(heads))
}
