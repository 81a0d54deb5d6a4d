// One call: tokens through the layers of a session, cut where methods look, decisions applied; or nothing at all.
import { TokensieveError } from './errors.js'
import { type Embedded, type Known, seenBefore } from './layer-seen.js'
import {
  type CacheSeen,
  type Decided,
  type Decision,
  foldOfMatch,
  type LayerSeen,
  type Partners,
  type Schedule,
  type Shape,
} from './methods/index.js'
import { onceEach } from './methods/once.js'
import type { Action, Advance, Advanced, NativeSession } from './native.js'
import { pieceEnd } from './pieces.js'
import type { PlanEntry } from './plan.js'
import { foldsOf } from './plan-cache.js'
import type { Tokens } from './prompt.js'
import type { Scheduler } from './scheduler.js'
import type { Counters } from './stats.js'
import type { Sight } from './vision/sight.js'

export interface CallContext {
  readonly native: NativeSession
  readonly scheduler: Scheduler
  readonly schedule: Schedule
  readonly shape: Shape
  readonly counters: Counters
  readonly trace: boolean
  /** Calls of the session before this one. */
  readonly step: number
  /** Tokens in the session's cache before this call. */
  readonly before: number
  /** Tokens before this call's that belong to its prompt: their rows were taken from another session. */
  readonly cached: number
  /** So many of the call's tokens, the first ones, are of earlier calls. */
  readonly waited: number
  /** Throws where the call has to end: an abort, a closed session. */
  check(): void
  /** Called at the end of a prompt, before anything is decided on the cache. */
  ready(): void
  /** What stands for the pictures of the call. */
  readonly sight: Sight
  /** What is known of patches, by source. */
  readonly patch?: LayerSeen['patch']
}

export interface CallResult {
  /** Of the last piece of the prompt. */
  readonly last: Advanced
  /** Logits or scores, joined: of the last token, or one row a token of the call (NaN where a method has dropped it). */
  readonly rows: Float32Array
  readonly plan: readonly PlanEntry[]
}

type Head = Advance['head']

export async function runCall(context: CallContext, tokens: Tokens, head: Head): Promise<CallResult> {
  const { cached, counters, native, schedule, shape, sight, step, waited } = context
  const count = tokens.ids.length
  const start = performance.now()
  const before = counters.copy()
  native.begin(tokens.ids, schedule.observations(count === 1 ? 'decode' : 'prompt', step), sight.features)
  try {
    counters.vision += sight.time
    counters.decide += sight.decided
    await takeAway(context)
    counters.promptTokens += cached + count - waited
    counters.cached += cached
    const result = count === 1 ? await runStep(context, head) : await runPrompt(context, tokens, head)
    counters.promptRows -= waited * shape.layers
    const time = performance.now() - start
    if (count === 1) {
      counters.decode += time
      counters.decodeSteps++
    } else {
      counters.prefill += time
      counters.prefillTokens += count
    }
    return result
  } catch (error) {
    native.rollback()
    Object.assign(counters, before)
    throw error
  }
}

/** Patches that are gone before the decoder has seen them: as if they had never been there, positions too. */
async function takeAway({ before, native, scheduler, sight }: CallContext): Promise<void> {
  if (sight.gone.length === 0) return
  const gone = new Set(sight.gone)
  const drop = native.rows().filter((source) => !gone.has(source - before))
  if (drop.length === 0)
    throw new TokensieveError('ERR_PLAN', 'Expected a token beside the patches that methods drop, but there is none')
  await scheduler.job((model) => model.apply(native, [{ drop, repack: true }]))
}

async function runStep(context: CallContext, head: Head): Promise<CallResult> {
  const { counters, native, scheduler, shape } = context
  context.check()
  const last = await scheduler.step({ session: native, from: 0, to: shape.layers, begin: 0, end: 1, head })
  counters.promptRows += shape.layers
  return { last, rows: last.logits ?? new Float32Array(0), plan: await finishCall(context, 'decode', 1) }
}

interface Running {
  last: Advanced
  readonly pieces: Float32Array[]
}

async function runPrompt(context: CallContext, tokens: Tokens, head: Head): Promise<CallResult> {
  const { before, native, schedule, shape } = context
  const count = tokens.ids.length
  const plan: PlanEntry[] = []
  const running: Running = { last: {}, pieces: [] }
  const droppable = tokens.droppable.filter((place) => place < count - 1).map((place) => place + before) // the last row speaks next
  let rows = count - context.sight.gone.length
  let from = 0
  let probed: Float32Array | undefined
  const embedded = schedule.embedded ? await embed(context, rows) : undefined
  for (const to of [...schedule.cuts.filter((layer) => layer < shape.layers), shape.layers]) {
    if (from > 0) {
      const probe = schedule.probes.get(from)
      if (schedule.decidesBefore(from))
        plan.push(...(await decideBefore(context, from, droppable, { probed, embedded })))
      rows = native.rows().length
      probed = probe === undefined ? undefined : await context.scheduler.job((m) => m.probe(native, from, probe))
    }
    await runStage(context, [from, to], rows, head, running)
    from = to
  }
  const left = rows < count ? native.rows().map((source) => source - before) : undefined
  plan.push(...(await finishCall(context, 'prompt', count)))
  return { last: running.last, rows: joined(running.pieces, isPerRow(head) ? left : undefined, count), plan }
}

function isPerRow(head: Head): boolean {
  return head?.logits === 'all' || head?.logits === 'scores'
}

async function runStage(
  { cached, check, counters, native, scheduler, shape }: CallContext,
  [from, to]: readonly [number, number],
  rows: number,
  head: Head,
  running: Running,
): Promise<void> {
  for (let begin = 0, end = 0; begin < rows; begin = end) {
    check()
    end = pieceEnd(cached + begin, cached + rows) - cached
    const last = end === rows
    const wanted = to === shape.layers && head && (last || isPerRow(head))
    const wish = wanted && { head: last ? head : { logits: head.logits } }
    const done = await scheduler.chunk({ session: native, from, to, begin, end, ...wish })
    counters.promptRows += (end - begin) * (to - from)
    if (!wanted) continue
    if (done.logits) running.pieces.push(done.logits)
    running.last = done
  }
  check()
}

/** Pieces as one. places: which of `count` rows they are, where not all; the others are NaN. */
function joined(pieces: readonly Float32Array[], places: Int32Array | undefined, count: number): Float32Array {
  const [only] = pieces
  if (only && pieces.length === 1 && !places) return only
  const all = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  if (!places) return all
  const width = all.length / places.length
  const spread = new Float32Array(count * width).fill(Number.NaN)
  places.forEach((place, i) => void spread.set(all.subarray(i * width, (i + 1) * width), place * width))
  return spread
}

// ---- what methods see and what becomes of what they decide

async function embed(context: CallContext, rows: number): Promise<Embedded> {
  await runStage(context, [0, 0], rows, undefined, { last: {}, pieces: [] })
  return { sources: context.native.rows(), hidden: context.native.hidden().slice() }
}

async function decideBefore(
  context: CallContext,
  layer: number,
  droppable: Int32Array,
  known: Known,
): Promise<PlanEntry[]> {
  const { native, scheduler, schedule } = context
  const start = performance.now()
  const seen = await seenBefore(context, layer, droppable, known)
  const decided = schedule.decide(seen, { trace: context.trace })
  const actions = decided.flatMap(({ decision }) => actionOf(decision))
  if (actions.length > 0) await scheduler.job((m) => m.apply(native, actions))
  for (const { entry } of decided)
    if (entry.action === 'pass' && entry.what === 'block') context.counters.promptRows -= entry.before - entry.after
  context.counters.decide += performance.now() - start
  return decided.map(({ entry }) => entry)
}

/** Decisions on the caches, and the end of the call. All layers decide before the first one is touched: a decision that does not fit changes nothing. count: tokens of the call. */
async function finishCall(context: CallContext, at: 'prompt' | 'decode', count: number): Promise<PlanEntry[]> {
  const { native, schedule, scheduler, step, trace } = context
  const start = performance.now()
  let decided: Decided[] = []
  const layers = schedule.cacheLayers(at, step)
  let turn = start
  if (at === 'prompt') context.ready()
  for (const layer of layers) {
    decided.push(...schedule.decide(cacheSeen(context, at, layer, context.before + count), { trace }))
    if (performance.now() - turn < 4) continue
    await new Promise((next) => setImmediate(next)) // the event loop is not ours for long
    context.check()
    turn = performance.now()
  }
  decided = await withPartners(context, decided)
  const actions = [...decided.flatMap(({ decision }) => actionOf(decision)), ...coarsenings(decided)]
  if (count > 1 || actions.length > 0) await scheduler.job((m) => m.apply(native, [...actions, { commit: true }]))
  else native.commit()
  for (const { decision } of decided) if (decision.action === 'rule') native.setRule(decision.layer, decision.rule)
  if (layers.length > 0) context.counters.decide += performance.now() - start
  return decided.map(({ entry }) => entry)
}

/** Of all layers at once, once all that goes has gone. */
function coarsenings(decided: readonly Decided[]): Action[] {
  const coarse = decided.flatMap(({ decision }) =>
    decision.action === 'coarsen' ? [{ layer: decision.layer, sources: decision.coarsePerHead.map(integers) }] : [],
  )
  return coarse.length > 0 ? [{ coarse }] : []
}

/** Rows that look for others find them. */
async function withPartners({ native, scheduler }: CallContext, decided: Decided[]): Promise<Decided[]> {
  const looking = decided.flatMap((one) =>
    one.decision.action === 'evict' && one.decision.matches
      ? [{ one, decision: one.decision, matches: one.decision.matches }]
      : [],
  )
  if (looking.length === 0) return decided
  const wanted = looking.map(({ decision, matches }) => {
    const heads = matches.map(({ from, into }) => ({ from: integers(from), into: integers(into) }))
    return { layer: decision.layer, heads }
  })
  const found = await scheduler.job((model) => model.match(native, wanted))
  const done = new Map(
    looking.map(({ decision, matches, one }, i) => {
      const folds = matches.map((match, head) => foldOfMatch(match, found[i]?.[head] as Partners))
      const folded = { ...decision, folds }
      return [one, { decision: folded, entry: { ...one.entry, ...foldsOf(folded) } }]
    }),
  )
  return decided.map((one) => done.get(one) ?? one)
}

function cacheSeen(
  { before, native, shape, step }: CallContext,
  at: 'prompt' | 'decode',
  layer: number,
  tokens: number,
): CacheSeen {
  // A sliding layer still holds rows of a prompt that no query will see again: they are not shown, and go.
  const window = shape.windows[layer] ?? 0
  const unseen = (read: (head: number) => Int32Array) =>
    onceEach((head) => (window === 0 ? 0 : read(head).findLastIndex((source) => source <= tokens - window) + 1))
  const skip = unseen((head) => native.cacheSources(layer, head))
  const past = unseen((head) => native.storedSources(layer, head))
  const wide = shape.headSize
  return {
    at,
    shape,
    layer,
    step,
    tokens,
    gone: () => goneFrom(native.rows(), before, tokens),
    sources: (head) => native.cacheSources(layer, head).subarray(skip(head)),
    attention: (head) => native.attention(layer, head).subarray(skip(head)),
    columnSums: (head) => native.cacheMass(layer, head).subarray(skip(head)),
    dropped: (head) => native.cacheDropped(layer, head),
    expected: (head) => native.expected(layer, head).subarray(skip(head)),
    keyNorms: (head) => native.cacheKeyNorms(layer, head).subarray(skip(head)),
    keys: (head) => native.cacheKeys(layer, head).subarray(skip(head) * wide),
    values: (head) => native.cacheValues(layer, head).subarray(skip(head) * wide),
    stored: (head) => native.storedSources(layer, head).subarray(past(head)),
    storedValues: (head) => native.storedValues(layer, head).subarray(past(head) * wide),
  }
}

/** Sources from `begin` to `end` that are not among the rows, all ascending. */
function goneFrom(rows: Int32Array, begin: number, end: number): Int32Array {
  const gone = new Int32Array(end - begin - rows.length)
  for (let source = begin, at = 0, filled = 0; source < end; source++) {
    if (rows[at] === source) at++
    else gone[filled++] = source
  }
  return gone
}

function actionOf(decision: Decision): Action[] {
  if (decision.action === 'drop') return [{ drop: integers(decision.kept), repack: decision.positions === 'repack' }]
  if (decision.action === 'merge') return [{ merge: integers(decision.into), repack: decision.positions === 'repack' }]
  if (decision.action === 'pass') {
    const { kept, weights, what } = decision
    const weighed = weights && { weights: Float32Array.from(weights) }
    return [{ pass: integers(kept), mlp: what === 'attention', ...weighed }]
  }
  if (decision.action !== 'evict') return []
  const { folds, keys = false, keptPerHead, layer, sizes = false, storedPerHead } = decision
  const evict = keptPerHead.map(integers)
  const aside = storedPerHead && { stored: storedPerHead.map(integers) }
  if (folds === undefined) return [{ layer, evict, ...aside }]
  const typed = folds.map(({ from, into, weights }) => ({
    from: integers(from),
    into: integers(into),
    weights: Float32Array.from(weights),
  }))
  return [{ layer, evict, ...aside, folds: typed, keys, sizes }]
}

function integers(values: ArrayLike<number>): Int32Array {
  return values instanceof Int32Array ? values : new Int32Array(values)
}
