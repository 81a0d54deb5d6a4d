// The methods of one session on one model: where the work is cut, what native observes, and the decisions, checked one after another.
import { checkDecision, entryOf, type PlanEntry } from '../plan.js'
import { checkConflicts, type Part, partOf, skippedAttention } from './conflicts.js'
import { allLayers } from './grant.js'
import { isDue, isStep } from './looks.js'
import type { Decision, LayerNeed, Look, Method, Seen, Shape } from './method.js'
import { gatherNeeds } from './needs.js'
import { after, remembered } from './seen.js'
import type { VisionStop } from './tower.js'

/** What native keeps of a layer's attention while a call runs; native's own Look. */
export interface Observation {
  layer: number
  attention?: { rows: number }
  columnSums?: boolean
  unsummed?: Int32Array
  expected?: { ahead: number; skip: number }
  keyNorms?: boolean
}

/** A decision that was checked and changes something, and its entry in the plan. */
export interface Decided {
  readonly decision: Decision
  readonly entry: PlanEntry
}

export interface Schedule {
  readonly methods: readonly Method[]
  /** Cache keys are stored un-rotated and rotated by their slot. */
  readonly repack: boolean
  /** Where the work in the vision tower stops, in order (see visionPlace), and what is needed there; what is needed is observed when its block runs. */
  readonly vision: readonly VisionStop[]
  /** Layers before which a prompt stops, ascending: somebody decides there, or something is probed. */
  readonly cuts: readonly number[]
  /** Layer -> rows: before this layer runs, the attention of so many last rows in it is probed and kept as the 'before' of the next layer. Mostly empty: see needs.ts. */
  readonly probes: ReadonlyMap<number, number>
  decidesBefore(layer: number): boolean
  /** What the methods that decide before a layer need, each kind once. */
  layerNeeds(layer: number): readonly LayerNeed[]
  /** Whether somebody asks for rows as they enter the first layer. */
  readonly embedded: boolean
  /** Whether somebody asks in the decoder for what the tower's class token looks at. */
  readonly asksClass: boolean
  /** Whether somebody looks at the norms of a prompt's keys, whose small differences decide. */
  readonly asksNorms: boolean
  /** What native is to observe in a call; `step`: calls before this one. */
  observations(at: 'prompt' | 'decode', step: number): Observation[]
  /** Layers whose caches are shown to the methods after a call, ascending; mostly none after a decode step. */
  cacheLayers(at: 'prompt' | 'decode', step: number): number[]
  /** Decisions in the order in which they are to be applied. ERR_PLAN where one does not fit; nothing has been applied then. */
  decide(seen: Seen, options?: { trace?: boolean }): Decided[]
}

/** Throws ERR_METHOD_CONFLICT where two methods claim the same, RangeError where one does not fit the model. */
export function makeSchedule(methods: readonly Method[], shape: Shape): Schedule {
  const parts = methods.map((method) => partOf(method, shape))
  checkConflicts(parts)
  const needs = gatherNeeds(parts)
  const skipped = skippedAttention(parts)
  const looks = parts.flatMap((part) => part.looks)
  const asks = (wanted: LayerNeed['what']) => [...needs.layers.values()].flat().some(({ what }) => what === wanted)
  const cacheLayers = (at: 'prompt' | 'decode', step: number) => {
    const layers = allLayers(shape).filter((layer) => !skipped.has(layer))
    const due = looks.filter((look) => look.at === at && (look.at !== 'decode' || isStep(look.every, step)))
    return due.length === 0 ? [] : layers.filter((layer) => due.some((look) => namesLayer(look, layer)))
  }
  return Object.freeze({
    methods,
    repack: parts.some(({ looks, method }) => method.repack && looks.length > 0), // who drops nothing leaves positions as they are
    vision: needs.vision,
    cuts: [...new Set([...needs.layers.keys(), ...needs.probes.keys()])].sort((a, b) => a - b),
    probes: needs.probes,
    decidesBefore: (layer: number) => needs.layers.has(layer),
    layerNeeds: (layer: number) => needs.layers.get(layer) ?? [],
    embedded: asks('embedded'),
    asksClass: asks('class'),
    asksNorms: needs.norms.prompt.size > 0,
    observations(at: 'prompt' | 'decode', step: number) {
      const due = at === 'decode' ? new Set(cacheLayers(at, step)) : undefined
      return allLayers(shape).flatMap((layer) => {
        const seen = due === undefined || due.has(layer)
        const rows = seen ? needs[at].get(layer) : undefined
        const ahead = seen ? needs.expected[at].get(layer) : undefined
        const observation: Observation = { layer }
        if (rows !== undefined) observation.attention = { rows }
        const unsummed = needs.mass.get(layer)
        if (unsummed !== undefined) observation.columnSums = true
        if (unsummed !== undefined && unsummed.length > 0) observation.unsummed = Int32Array.from(unsummed)
        if (ahead !== undefined) observation.expected = { ahead: ahead.ahead, skip: ahead.skip }
        if (seen && needs.norms[at].has(layer)) observation.keyNorms = true
        return Object.keys(observation).length > 1 ? [observation] : []
      })
    },
    cacheLayers,
    decide: (seen: Seen, options: { trace?: boolean } = {}) =>
      decideAll(parts, remembered(seen), options.trace ?? false),
  })
}

function namesLayer(look: Look, layer: number): boolean {
  return (look.at === 'prompt' || look.at === 'decode') && look.layers.includes(layer)
}

function asksNorms(looks: readonly Look[]): boolean {
  return looks.some((look) => look.at === 'prompt' && look.needs.some(({ what }) => what === 'keyNorms'))
}

/** Each decision is checked against what those before it leave, which is worked out where there is a next one. */
function decideAll(parts: readonly Part[], seen: Seen, trace: boolean): Decided[] {
  const decided: Decided[] = []
  let current = seen
  let last: Decision | undefined
  const now = () => {
    if (last) current = after(current, last)
    last = undefined
    return current
  }
  for (const { looks, method } of parts) {
    if (!isDue(looks, seen)) continue
    for (const decision of method.decide(now())) {
      checkDecision(decision, now(), method.label)
      const fine = seen.at === 'prompt' && asksNorms(looks)
      const entry = entryOf(decision, current, method.label, { trace, repack: method.repack, fine })
      if (entry === null) continue
      decided.push({ decision, entry })
      last = decision
    }
  }
  return decided
}
