// How the calls of a session run: one after another, each whole or not at all.
import { type CallContext, type CallResult, runCall } from './call.js'
import { Conversation } from './conversation.js'
import { rangeError, TokensieveError } from './errors.js'
import { type Generated, generate, type Piece } from './generate.js'
import { Line } from './line.js'
import { emptyMemory, type Memory, waitingIds } from './memory.js'
import type { ModelParts } from './model.js'
import type { Advance, NativeSession } from './native.js'
import type { NativeGlance } from './native-vision.js'
import { PROMPT_ROWS, pieceEnd } from './pieces.js'
import type { PlanEntry } from './plan.js'
import { Prefix, type Taken } from './prefix.js'
import { isMessages, type Placed, type Prompt, readPrompt, type Tokens } from './prompt.js'
import type { Sampling } from './sampling.js'
import type { Settings } from './settings.js'
import { Counters, type SessionStats, statsOf } from './stats.js'
import { patchesOf, picturesIn, picturesOf, type Sight, see, UNSEEN } from './vision/sight.js'
import type { Tower } from './vision/tower.js'

type Head = Advance['head']

/** Tokens of a prompt; taken: to be told when the session has them. looked: milliseconds that its pictures took. */
type Taking = Tokens & { readonly taken?: () => void; readonly looked?: number }
type Appended = Pick<CallResult, 'last' | 'rows'>

const NOTHING: Tokens = { ids: new Int32Array(0), droppable: new Int32Array(0), pictures: [] }

export class SessionCore {
  readonly parts: ModelParts
  readonly settings: Settings
  readonly native: NativeSession
  readonly counters: Counters
  readonly line: Line
  readonly prefix: Prefix
  memory: Memory
  /** What of the tower is at work. */
  #looking: Pick<NativeGlance, 'interrupt'> | undefined

  constructor(parts: ModelParts, settings: Settings, native: NativeSession, memory: Memory, counters: Counters) {
    this.parts = parts
    this.settings = settings
    this.native = native
    this.memory = memory
    this.counters = counters
    this.prefix = new Prefix(parts.prefixes, this)
    this.line = new Line(() => {
      native.interrupt()
      this.prefix.interrupt()
      this.#looking?.interrupt()
    })
    for (const { decision } of settings.standing) {
      if (decision.action === 'rule') native.setRule(decision.layer, decision.rule)
    }
  }

  /** The prompt as tokens, its pictures decoded. A conversation moves on when they are taken. */
  async take(prompt: Prompt, signal?: AbortSignal): Promise<Taking> {
    const { conversation, ids } = this.memory
    const { tokenizer, vision } = this.parts
    const start = performance.now()
    const asks = { check: () => this.line.check(signal), fits: (rows: number) => this.checkRoom(rows) }
    const pictures = await picturesOf(prompt, vision, asks)
    const empty = ids.length === 0
    const tokens: Taking = isMessages(prompt)
      ? conversation.next(prompt, { tokenizer, empty, pictures, words: vision })
      : readPrompt(prompt, tokenizer, empty, pictures)
    return pictures.size > 0 ? { ...tokens, looked: performance.now() - start } : tokens
  }

  /** Rows that are free once what waits has run. */
  #room(): number {
    return this.settings.contextLength - this.native.liveRows() - this.memory.waiting
  }

  checkRoom(count: number): void {
    const room = this.#room()
    if (count <= Math.max(0, room)) return
    const { contextLength } = this.settings
    const said = `${contextLength - room} are there and ${count} more came`
    throw new TokensieveError('ERR_CONTEXT_FULL', `Expected at most ${contextLength} rows in the context, but ${said}`)
  }

  /** Runs tokens after those that wait; rows: of these tokens alone. */
  async append(tokens: Taking, head: Head, signal?: AbortSignal): Promise<Appended> {
    const { counters, memory } = this
    const { droppable, ids, looked = 0, pictures } = tokens
    this.checkRoom(ids.length)
    if (ids.length === 0 && head) this.bringLastRow()
    if (ids.length + memory.waiting === 0) return this.#speak(head, signal)
    // One token is a decode step, also where another waits before it.
    if (memory.waiting === 1 && ids.length === 1) await this.#run(this.#waitingTokens(), undefined, signal)
    const { waiting } = memory
    const before = this.#waitingTokens()
    const all = {
      ids: Int32Array.from([...before.ids, ...ids]),
      droppable: droppable.map((place) => place + waiting),
      pictures: [...before.pictures, ...picturesIn(pictures, -waiting)],
    }
    const { last, rows } = await this.#run(all, head, signal)
    counters.vision += looked
    tokens.taken?.()
    const width = { all: this.parts.config.vocabularySize, scores: 1, last: 0, none: 0 }[head?.logits ?? 'none']
    return { last, rows: waiting * width > 0 ? rows.slice(waiting * width) : rows }
  }

  /** What waits, as the first tokens of the next call. */
  #waitingTokens(): Tokens {
    const { memory } = this
    return {
      ...NOTHING,
      ids: waitingIds(memory),
      pictures: picturesIn(memory.pictures, memory.ids.length - memory.waiting),
    }
  }

  /** What follows the session as it is. */
  async #speak(head: Head, signal?: AbortSignal): Promise<Appended> {
    const none = { last: {}, rows: new Float32Array(0) }
    if (this.memory.ids.length === 0 || !head || (head.logits !== 'last' && !head.sampler)) return none
    this.line.check(signal)
    const last = await this.parts.scheduler.job((model) => model.speak(this.native, head))
    return { last, rows: last.logits ?? none.rows }
  }

  /** One call of the engine: a prompt, or a decode step. Its first ids are those that wait. What is held for sessions to come makes room where memory is short. */
  async #run(tokens: Tokens, head: Head, signal?: AbortSignal): Promise<CallResult> {
    const { memory, parts } = this
    const run = () => (memory.ids.length === 0 ? this.#first(tokens, head, signal) : this.#call(tokens, head, signal))
    return run().catch((error) => {
      if (error?.code === 'ERR_OUT_OF_MEMORY' && parts.prefixes.shrink(0)) return run()
      throw error
    })
  }

  /** Notes that a call has run; its first ids are those that waited. */
  #ran({ ids, pictures }: Tokens, plan: readonly PlanEntry[]): void {
    const { memory } = this
    const before = memory.ids.length - memory.waiting
    if (ids.length >= PROMPT_ROWS && memory.prompted === before) memory.prompted += plainRows(ids, plan)
    memory.pictures.push(...picturesIn(pictures, memory.waiting).map((one) => placedFrom(one, memory.ids.length)))
    for (const id of ids.subarray(memory.waiting)) memory.ids.push(id)
    memory.plan.push(...plan)
    memory.calls++
    memory.waiting = 0
  }

  /** A session's first call: others may have read how it begins. */
  async #first(tokens: Tokens, head: Head, signal?: AbortSignal): Promise<CallResult> {
    const { native, parts, prefix } = this
    let took = false
    try {
      return await prefix.first(tokens, head, parts.scheduler, async (taken) => {
        took = taken.tokens > 0
        this.line.check(signal)
        const whole = taken.plan && this.#whole(tokens, taken.plan, head)
        const made = await (whole ?? this.#call(tokens, head, signal, taken))
        prefix.keepWhole(tokens, made.plan)
        return made
      })
    } catch (error) {
      prefix.forget()
      if (took) native.reset()
      throw error
    }
  }

  /** A whole prompt that was taken: what follows it is all that is left to do. */
  async #whole(tokens: Tokens, plan: readonly PlanEntry[], head: Head): Promise<CallResult> {
    const { length } = tokens.ids
    const wanted = head && (head.logits === 'last' || head.sampler)
    const last = wanted ? await this.parts.scheduler.job((model) => model.speak(this.native, head)) : {}
    this.counters.promptTokens += length
    this.counters.cached += length
    this.#ran(tokens, plan)
    return { last, rows: last.logits ?? new Float32Array(0), plan }
  }

  async #call(
    tokens: Tokens,
    head: Head,
    signal?: AbortSignal,
    { tokens: cached }: Taken = { tokens: 0 },
  ): Promise<CallResult> {
    const { counters, line, memory, native, parts, prefix } = this
    const { schedule, shape, trace } = this.settings
    const { droppable, ids } = tokens
    const before = memory.ids.length - memory.waiting
    const sight = await this.#see(picturesIn(tokens.pictures, cached), before + cached, true, signal)
    const patch = this.#patches(tokens, before)
    const context: CallContext = {
      native,
      scheduler: parts.scheduler,
      schedule,
      shape,
      counters,
      trace,
      cached,
      step: memory.calls,
      before: before + cached,
      waited: memory.waiting,
      check: () => line.check(signal),
      ready: () => {
        if (memory.ids.length === 0) prefix.keepRows(tokens)
      },
      sight,
      ...(patch && { patch }),
    }
    const places = droppable.map((place) => place - cached).filter((place) => place >= 0)
    const result = await runCall(context, { ids: ids.subarray(cached), droppable: places, pictures: [] }, head)
    const plan = [...sight.plan, ...result.plan]
    this.#ran(tokens, plan)
    return { ...result, plan }
  }

  /** The rows of pictures, their places counted in the call's ids. watched: methods look. */
  async #see(pictures: readonly Placed[], before: number, watched: boolean, signal?: AbortSignal): Promise<Sight> {
    const { line, memory, parts, settings } = this
    if (pictures.length === 0) return UNSEEN
    return see(pictures, before, {
      tower: towerOf(parts.vision),
      scheduler: parts.scheduler,
      shape: settings.shape,
      ...(watched && { schedule: settings.schedule }),
      step: memory.calls,
      trace: settings.trace,
      check: () => line.check(signal),
      running: (work) => {
        this.#looking = work
      },
    })
  }

  /** What is known of the patches of a call; nothing where there are none. */
  #patches({ pictures }: Tokens, before: number): CallContext['patch'] {
    const { vision } = this.parts
    const placed = pictures.map((one) => placedFrom(one, before))
    return vision && placed.length > 0 ? patchesOf(placed, vision) : undefined
  }

  /** Runs ids up to a layer, looks, and takes all of it back. waiting: rows of the ids that waited, which come first. */
  async peek<T>(
    { ids, pictures }: Tokens,
    to: number,
    look: (waiting: number) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    this.checkRoom(ids.length)
    const session = this.native
    const { waiting } = this.memory
    const before = this.#waitingTokens()
    const all = Int32Array.from([...before.ids, ...ids])
    const shown = [...before.pictures, ...picturesIn(pictures, -waiting)]
    const { features } = await this.#see(shown, this.memory.ids.length - waiting, false, signal)
    session.peek(all, features)
    try {
      for (let begin = 0, end = 0; begin < all.length; begin = end) {
        this.line.check(signal)
        end = pieceEnd(begin, all.length)
        await this.parts.scheduler.chunk({ session, from: 0, to, begin, end })
      }
      return await look(waiting)
    } finally {
      session.rollback()
    }
  }

  /** A step back, where the newest row is not known any more (after truncate), so that what follows it can be scored. */
  bringLastRow(): void {
    const { ids, waiting } = this.memory
    if (waiting === 0 && ids.length > 0 && !this.native.knowsLast()) this.#forget(ids.length - 1, ids.length)
  }

  reset(): void {
    this.native.reset()
    this.prefix.forget()
    this.memory = emptyMemory(this.settings)
    Object.assign(this.counters, new Counters())
  }

  truncate(tokens: number): void {
    const { memory } = this
    if (tokens >= memory.ids.length) return
    this.#forget(tokens, tokens)
    this.prefix.forget()
    memory.ids.length = tokens
    memory.pictures = picturesIn(memory.pictures, 0, tokens)
    memory.conversation = new Conversation()
  }

  /**
   * Keeps the cache of the first `tokens` ids; those of the first `left` ids that are not in it wait. Where a sliding layer has given up rows that it would need again, all of
   * them wait.
   */
  #forget(tokens: number, left: number): void {
    const { memory, native } = this
    const ran = memory.ids.length - memory.waiting
    if (tokens >= ran) {
      memory.waiting = left - ran
      return
    }
    const lost = tokens > 0 && this.parts.config.windows.some((window) => window > 0 && ran > window)
    if (lost) native.reset()
    else native.truncate(tokens)
    memory.waiting = left - (lost ? 0 : tokens)
    memory.prompted = Math.min(memory.prompted, left - memory.waiting)
  }

  stats(counters = this.counters): SessionStats {
    const { config, loadTime } = this.parts
    return statsOf(counters, this.native, config, this.memory.ids.length, loadTime)
  }

  async generate(prompt: Prompt, sampling: Sampling, emit: (piece: Piece) => void): Promise<Generated> {
    const { counters, memory, parts, settings } = this
    const before = counters.copy()
    const { maxTokens = settings.contextLength, signal } = sampling
    const tokens = await this.take(prompt, signal)
    if (tokens.ids.length + memory.ids.length === 0)
      throw rangeError('a prompt of at least one token', 'prompt', prompt)
    this.checkRoom(tokens.ids.length)
    const first = memory.ids.length + tokens.ids.length
    let pending: Taking = tokens
    const room = () => this.#room() > pending.ids.length
    if (maxTokens === 0 || !room()) {
      await this.append(tokens, undefined, signal)
      pending = NOTHING
    }
    const stepOf = this.#stepper(sampling)
    const step = async () => {
      const made = await stepOf(pending)
      pending = NOTHING
      return made
    }
    const said = (text: string) => {
      const ids = memory.ids.slice(first).filter((id) => id < parts.tokenizer.vocabularySize)
      if (!isMessages(prompt) || ids.length === 0) return
      memory.conversation.answered(text, parts.tokenizer.decode(ids, { special: true }))
    }
    const made = await generate(parts.tokenizer, { ...sampling, maxTokens }, { step, room, emit, said })
    return { ...made, stats: this.stats(counters.since(before)) }
  }

  /** The token that follows what waits and `tokens`. */
  #stepper(sampling: Sampling): (tokens: Taking) => Promise<{ id: number; logprob?: number }> {
    const { memory } = this
    const { logprobs, repeatPenalty, signal } = sampling
    const sampler = this.parts.native.sampler(sampling)
    return async (tokens) => {
      const words = () => [...memory.ids.slice(-64), ...tokens.ids].slice(-64).filter((id) => id >= 0)
      const recent = repeatPenalty === 1 ? {} : { recent: Int32Array.from(words()) }
      const head: Head = { logits: 'none', sampler, logprob: logprobs, ...recent }
      const { last } = await this.append(tokens, head, signal)
      const { logprob, token } = last as { token: number; logprob?: number }
      memory.ids.push(token)
      memory.waiting = 1
      this.counters.generated++
      return logprobs ? { id: token, logprob } : { id: token }
    }
  }
}

/** Rows of a prompt that any prompt would have: those before the first patch, where methods have decided on patches. */
function plainRows(ids: Int32Array, plan: readonly PlanEntry[]): number {
  const seen = plan.filter(({ phase }) => phase === 'vision')
  if (seen.length === 0) return ids.length
  const left = ids.length - seen.reduce((sum, { after, before }) => sum + before - after, 0)
  // Few rows take the attention path of decode steps.
  return left < PROMPT_ROWS ? 0 : ids.findIndex((id) => id < 0)
}

function placedFrom({ picture, places }: Placed, begin: number): Placed {
  return { picture, places: places.map((place) => place + begin) }
}

function towerOf(tower: Tower | undefined): Tower {
  if (tower) return tower
  throw new TokensieveError(
    'ERR_UNSUPPORTED',
    'Expected a model with a vision tower for the pictures of this session, this one reads text',
  )
}
