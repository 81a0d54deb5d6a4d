// One call: tokens through the layers of a session, cut where methods look, decisions applied; or nothing at all.

import type { CacheSeen, Decided, Decision, LayerSeen, Schedule, Shape } from './methods/index.js'
import type { Action, Advance, Advanced, NativeSession } from './native.js'
import type { PlanEntry } from './plan.js'
import type { Tokens } from './prompt.js'
import type { Scheduler } from './scheduler.js'
import type { Counters } from './stats.js'

const STAGE_ROWS = 512

export interface CallContext {
  readonly native: NativeSession
  readonly scheduler: Scheduler
  readonly schedule: Schedule
  readonly shape: Shape
  readonly counters: Counters
  readonly trace: boolean
  /** Calls of the session before this one. */
  readonly step: number
  /** Tokens of the session before this call. */
  readonly before: number
  /** Throws where the call has to end: an abort, a closed session. */
  check(): void
}

export interface CallResult {
  /** Of the last piece of the prompt: logits, token. */
  readonly last: Advanced
  /** Logits or scores of every piece, in order. */
  readonly pieces: readonly Float32Array[]
  readonly plan: readonly PlanEntry[]
}

export async function runCall(context: CallContext, tokens: Tokens, head: Advance['head']): Promise<CallResult> {
  const { native, schedule, step } = context
  const single = tokens.ids.length === 1
  const start = performance.now()
  native.begin(tokens.ids, schedule.observations(single ? 'decode' : 'prompt', step))
  try {
    const result = single ? await runStep(context, head) : await runPrompt(context, tokens, head)
    const time = performance.now() - start
    if (single) {
      context.counters.decode += time
      context.counters.decodeSteps++
    } else context.counters.prefill += time
    return result
  } catch (error) {
    native.rollback()
    throw error
  }
}

type Running = { last: Advanced; pieces: Float32Array[]; plan: PlanEntry[] }

async function runStep(context: CallContext, head: Advance['head']): Promise<Running> {
  const { native, scheduler, shape } = context
  context.check()
  const last = await scheduler.step({ session: native, from: 0, to: shape.layers, begin: 0, end: 1, head })
  return { last, pieces: last.logits ? [last.logits] : [], plan: await finishCall(context, 'decode', 1) }
}

async function runPrompt(context: CallContext, tokens: Tokens, head: Advance['head']): Promise<Running> {
  const { schedule, shape } = context
  const bounds = [...schedule.cuts.filter((layer) => layer < shape.layers), shape.layers]
  const plan: PlanEntry[] = []
  const running: Running = { last: {}, pieces: [], plan }
  const droppable = new Set(Array.from(tokens.droppable, (place) => place + context.before))
  droppable.delete(context.before + tokens.ids.length - 1) // the last row speaks next
  let rows = tokens.ids.length
  let from = 0
  let probed: Float32Array | undefined
  for (const to of bounds) {
    if (from > 0) {
      const probe = schedule.probes.get(from)
      if (schedule.decidesBefore(from)) plan.push(...(await decideBefore(context, from, droppable, probed)))
      rows = context.native.rows().length
      probed =
        probe === undefined ? undefined : await context.scheduler.job((m) => m.probe(context.native, from, probe))
    }
    await runStage(context, from, to, rows, head, running)
    context.counters.promptRows += rows * (to - from)
    from = to
  }
  plan.push(...(await finishCall(context, 'prompt', tokens.ids.length)))
  context.counters.promptTokens += tokens.ids.length
  return running
}

async function runStage(
  { native, scheduler, shape, check }: CallContext,
  from: number,
  to: number,
  rows: number,
  head: Advance['head'],
  running: Running,
): Promise<void> {
  for (let begin = 0; begin < rows; begin += STAGE_ROWS) {
    check()
    const end = Math.min(rows, begin + STAGE_ROWS)
    const perRow = head?.logits === 'all' || head?.logits === 'scores'
    const wanted = to === shape.layers && (end === rows || perRow)
    const wish = end === rows || !perRow ? head : { logits: head.logits }
    const [done] = await scheduler.job((model) =>
      model.advance([{ session: native, from, to, begin, end, ...(wanted && wish && { head: wish }) }]),
    )
    if (!wanted || !done) continue
    if (done.logits) running.pieces.push(done.logits)
    running.last = done
  }
  check()
}

// ---- what methods see and what becomes of what they decide

async function decideBefore(
  context: CallContext,
  layer: number,
  droppable: ReadonlySet<number>,
  probed: Float32Array | undefined,
): Promise<PlanEntry[]> {
  const { native, scheduler, schedule, shape, step } = context
  const start = performance.now()
  const sources = native.rows()
  let attention = probed
  let keys: Float32Array | undefined
  for (const need of schedule.layerNeeds(layer)) {
    if (need.what === 'keys') keys = await scheduler.job((m) => m.probeKeys(native, layer))
    if (need.what !== 'attention') continue
    if (need.of === 'next') attention = await scheduler.job((m) => m.probe(native, layer, need.rows))
    else attention ??= meanOverHeads(native, layer - 1, shape.kvHeads, sources.length)
    const looked = Math.min(need.rows, sources.length)
    attention = attention.map((mass) => mass / looked)
  }
  const places: number[] = []
  for (const [place, source] of sources.entries()) if (droppable.has(source)) places.push(place)
  const seen: LayerSeen = {
    at: 'layer',
    shape,
    layer,
    step,
    sources,
    droppable: Int32Array.from(places),
    given: droppable.size,
    attention: () => attention ?? notAsked('attention'),
    keys: () => keys ?? notAsked('keys'),
    hidden: () => native.hidden(),
  }
  const decided = schedule.decide(seen, { trace: context.trace })
  if (decided.length > 0)
    await scheduler.job((m) =>
      m.apply(
        native,
        decided.flatMap(({ decision }) => actionOf(decision)),
      ),
    )
  context.counters.decide += performance.now() - start
  return decided.map(({ entry }) => entry)
}

function notAsked(what: string): never {
  throw new TypeError(`Expected \`${what}\` among the needs of the look but received a call for it`)
}

/** Attention of a layer's cache rows that are rows of the call: the newest of each head. */
function meanOverHeads(native: NativeSession, layer: number, kvHeads: number, rows: number): Float32Array {
  const mean = new Float32Array(rows)
  for (let head = 0; head < kvHeads; head++) {
    const mass = native.attention(layer, head)
    const first = mass.length - rows
    for (let i = 0; i < rows; i++) mean[i] = (mean[i] as number) + (mass[first + i] as number) / kvHeads
  }
  return mean
}

/** Decisions on the caches, and the end of the call. All layers decide before the first one is touched: a decision that does not fit changes nothing. count: tokens of the call. */
async function finishCall(context: CallContext, at: 'prompt' | 'decode', count: number): Promise<PlanEntry[]> {
  const { native, schedule, scheduler, step, trace } = context
  const start = performance.now()
  const decided: Decided[] = []
  let turn = start
  for (const layer of schedule.cacheLayers(at, step)) {
    decided.push(...schedule.decide(cacheSeen(context, at, layer, context.before + count), { trace }))
    if (performance.now() - turn < 4) continue
    await new Promise((next) => setImmediate(next)) // the event loop is not ours for long
    context.check()
    turn = performance.now()
  }
  const actions = decided.flatMap(({ decision }) => actionOf(decision))
  if (count > 1 || actions.length > 0) await scheduler.job((m) => m.apply(native, [...actions, { commit: true }]))
  else native.commit()
  for (const { decision } of decided) if (decision.action === 'rule') native.setRule(decision.layer, decision.rule)
  if (decided.length > 0) context.counters.decide += performance.now() - start
  return decided.map(({ entry }) => entry)
}

function cacheSeen(
  { native, shape, step }: CallContext,
  at: 'prompt' | 'decode',
  layer: number,
  tokens: number,
): CacheSeen {
  return {
    at,
    shape,
    layer,
    step,
    tokens,
    sources: (head) => native.cacheSources(layer, head),
    attention: (head) => native.attention(layer, head),
    columnSums: (head) => native.cacheMass(layer, head),
    keyNorms: (head) => native.cacheKeyNorms(layer, head),
    keys: (head) => native.cacheKeys(layer, head),
    values: (head) => native.cacheValues(layer, head),
  }
}

function actionOf(decision: Decision): Action[] {
  if (decision.action === 'drop')
    return [{ drop: Int32Array.from(decision.kept), repack: decision.positions === 'repack' }]
  if (decision.action === 'merge')
    return [{ merge: Int32Array.from(decision.into), repack: decision.positions === 'repack' }]
  if (decision.action !== 'evict') return []
  return [{ layer: decision.layer, evict: decision.keptPerHead.map((kept) => Int32Array.from(kept)) }]
}
