// A session: a context that goes on, with its cache, its methods and the plan of what they decided.
import type { Writable } from 'node:stream'
import { runCall } from './call.js'
import { Conversation } from './conversation.js'
import { fromNative, rangeError, TokensieveError, typeError } from './errors.js'
import { type Generated, generate, type Piece, TextStream } from './generate.js'
import {
  asMethod,
  type Decided,
  type Method,
  type MethodLike,
  makeSchedule,
  methodFromPlan,
  type Schedule,
  type Shape,
} from './methods/index.js'
import type { ModelParts } from './model.js'
import type { Advance, DType, NativeSession } from './native.js'
import type { PlanEntry } from './plan.js'
import { isMessages, type Prompt, readPrompt, type Tokens } from './prompt.js'
import { checkSignal, type GenerateOptions, parseSampling } from './sampling.js'
import { writeSaved } from './saved.js'
import { contextOf, type KvTypes, parseKv, shapeOf } from './sizes.js'
import { Counters, type KvPeak, type SessionStats, statsOf } from './stats.js'

export interface SessionOptions {
  /** Rows that may be live at once; default: the model's own, bounded by memory. */
  readonly contextLength?: number
  /** How the cache is stored; default 'f16'. */
  readonly kv?: KvTypes
  /** Any number of methods that do not claim the same thing. */
  readonly methods?: readonly MethodLike[]
  /** A plan to be applied again without deciding; not together with methods. */
  readonly plan?: readonly PlanEntry[]
  /** Keep the scores behind decisions in the plan. */
  readonly trace?: boolean
}

const OPTIONS = ['contextLength', 'kv', 'methods', 'plan', 'trace']

/** Options, checked and complete. */
export interface Settings {
  readonly contextLength: number
  readonly kv: { readonly keys: DType; readonly values: DType }
  readonly methods: readonly Method[]
  readonly trace: boolean
  readonly shape: Shape
  readonly schedule: Schedule
  /** Decisions that stand before anything runs. */
  readonly standing: readonly Decided[]
}

export function settle(parts: ModelParts, options: unknown = {}): Settings {
  if (typeof options !== 'object' || options === null) throw typeError('an object', 'options', options)
  for (const name of Object.keys(options)) {
    if (!OPTIONS.includes(name)) throw typeError(`one of the options ${OPTIONS.join(', ')}`, 'options', name)
  }
  const { contextLength, kv, methods, plan, trace = false } = options as { [name: string]: unknown }
  if (typeof trace !== 'boolean') throw typeError('true or false', 'trace', trace)
  if (methods !== undefined && !Array.isArray(methods)) throw typeError('an array of methods', 'methods', methods)
  if (plan !== undefined && methods !== undefined) throw typeError('a plan or methods, not both,', 'plan', plan)
  const types = parseKv(kv)
  const shape = shapeOf(parts.native, parts.config, types)
  const made =
    plan === undefined
      ? (methods ?? []).map((m: unknown, i: number) => asMethod(m, `methods[${i}]`))
      : [methodFromPlan(plan)]
  const schedule = makeSchedule(made, shape)
  return {
    contextLength: contextOf(contextLength, parts.config, shape),
    kv: types,
    methods: made,
    trace,
    shape,
    schedule,
    standing: schedule.decide({ at: 'session', shape }),
  }
}

export function nativeOptions({ contextLength, kv, schedule, standing }: Settings) {
  const skipped = (parts: readonly string[]) =>
    Int32Array.from(
      standing.flatMap(({ decision: d }) => (d.action === 'skip' && parts.includes(d.what) ? [d.layer] : [])),
    )
  return {
    contextLength,
    ...kv,
    repack: schedule.repack,
    skipAttention: skipped(['attention', 'block']),
    skipMlp: skipped(['mlp', 'block']),
  }
}

/** What a session remembers beside its cache. */
export interface Memory {
  ids: number[]
  /** The newest id has not run yet. */
  waiting: boolean
  /** Calls so far. */
  calls: number
  plan: PlanEntry[]
  conversation: Conversation
}

export function emptyMemory(settings: Settings): Memory {
  return {
    ids: [],
    waiting: false,
    calls: 0,
    plan: settings.standing.map(({ entry }) => entry),
    conversation: new Conversation(),
  }
}

/** What a call needs beside its tokens. */
interface CallOptions {
  readonly signal?: AbortSignal
}

export class Session {
  readonly #parts: ModelParts
  readonly #settings: Settings
  readonly #native: NativeSession
  readonly #counters: Counters
  readonly #peak: KvPeak = { bytes: 0 }
  #memory: Memory
  #tail: Promise<unknown> = Promise.resolve()
  #busy = 0
  #closed = false

  /** @internal Sessions are made by model.session. */
  constructor(parts: ModelParts, settings: Settings, native: NativeSession, memory: Memory, counters = new Counters()) {
    this.#parts = parts
    this.#settings = settings
    this.#native = native
    this.#memory = memory
    this.#counters = counters
    for (const { decision } of settings.standing) {
      if (decision.action === 'rule') native.setRule(decision.layer, decision.rule)
    }
  }

  /** Every token so far, dropped or not, the end token too. */
  get ids(): Int32Array {
    return Int32Array.from(this.#memory.ids)
  }

  /** What was decided and applied, in order, as plain data. */
  get plan(): PlanEntry[] {
    return structuredClone(this.#memory.plan)
  }

  get stats(): SessionStats {
    this.#open()
    return this.#stats(this.#counters)
  }

  get contextLength(): number {
    return this.#settings.contextLength
  }

  /** Generates text after the prompt. Rejects with the signal's reason where it is aborted. */
  async generate(prompt: Prompt, options?: GenerateOptions): Promise<Generated> {
    return this.stream(prompt, options).result
  }

  /** The same piece by piece; leaving the loop early stops the work. */
  stream(prompt: Prompt, options?: GenerateOptions): TextStream {
    const sampling = parseSampling(options)
    this.#checkPrompt(prompt)
    return new TextStream(sampling.signal, (emit, signal) =>
      this.#queue(signal, () => this.#generate(prompt, { ...sampling, signal }, emit)),
    )
  }

  /** Appends the prompt; logits of the last row, of all rows or of none: [rows × vocabularySize]. */
  async forward(
    prompt: Prompt,
    options: { logits?: 'last' | 'all' | 'none' } & CallOptions = {},
  ): Promise<Float32Array> {
    const { logits = 'last', signal } = options
    if (logits !== 'last' && logits !== 'all' && logits !== 'none')
      throw typeError("'last', 'all' or 'none'", 'logits', logits)
    checkSignal(signal)
    this.#checkPrompt(prompt)
    return this.#queue(signal, async () => {
      const tokens = this.#take(prompt)
      const { pieces, skipped } = await this.#append(tokens, { logits }, signal)
      return logits === 'none' ? new Float32Array(0) : joined(pieces, skipped * this.#parts.config.vocabularySize)
    })
  }

  /** Appends the ids; the log-probability of each given all before it, NaN for the first of an empty session: [tokens]. */
  async score(ids: Int32Array, options: CallOptions = {}): Promise<Float32Array> {
    const { signal } = options
    checkSignal(signal)
    if (!(ids instanceof Int32Array)) throw typeError('an Int32Array', 'ids', ids)
    return this.#queue(signal, async () => {
      this.#bringLastRow()
      const { pieces, skipped } = await this.#append(
        readPrompt(ids, this.#parts.tokenizer, false),
        { logits: 'scores' },
        signal,
      )
      return joined(pieces, skipped)
    })
  }

  /** The rows that enter a layer: [tokens × hiddenSize]. Leaves the session as it was. */
  async hidden(ids: Int32Array, options: { layer: number } & CallOptions): Promise<Float32Array> {
    const layer = this.#layer(options?.layer, true)
    return this.#peek(ids, options, layer, async (skipped) => {
      return this.#native.hidden().slice(skipped * this.#parts.config.hiddenSize)
    })
  }

  /** Probabilities of some of the rows of ids over the session's tokens and these: [rows × heads × tokens], 0 where evicted. Leaves the session as it was. */
  async attention(
    ids: Int32Array,
    options: { layer: number; rows: readonly number[] } & CallOptions,
  ): Promise<Float32Array> {
    const layer = this.#layer(options?.layer, false)
    const { rows } = options
    if (!Array.isArray(rows)) throw typeError('an array of rows', 'rows', rows)
    const places = rows.map((row: unknown) => {
      if (typeof row !== 'number' || !Number.isInteger(row)) throw typeError('whole numbers', 'rows', row)
      const place = row < 0 ? ids.length + row : row
      if (place < 0 || place >= ids.length)
        throw rangeError(`rows from ${-ids.length} to ${ids.length - 1}`, 'rows', row)
      return place
    })
    return this.#peek(ids, options, layer, (skipped) => {
      const looked = Int32Array.from(places, (place) => place + skipped)
      return this.#parts.scheduler.job((model) => model.probeRows(this.#native, layer, looked))
    })
  }

  /** Forgets everything: ids, cache, plan, stats. */
  async reset(): Promise<void> {
    await this.#queue(undefined, async () => {
      this.#native.reset()
      this.#memory = emptyMemory(this.#settings)
      Object.assign(this.#counters, new Counters())
      this.#peak.bytes = 0
    })
  }

  /** Keeps the first tokens and forgets the rest; done when it returns, unless work is under way. */
  truncate(tokens: number): Promise<void> {
    this.#open()
    if (typeof tokens !== 'number') throw typeError('a number of tokens', 'tokens', tokens)
    if (!(Number.isInteger(tokens) && tokens >= 0)) throw rangeError('a whole number from 0', 'tokens', tokens)
    if (this.#busy > 0) return this.#queue(undefined, async () => this.#truncate(tokens))
    this.#truncate(tokens)
    return Promise.resolve()
  }

  /** A session that goes on from here by itself; shares memory until one of the two changes it. */
  async fork(): Promise<Session> {
    return this.#queue(undefined, async () => {
      const { ids, plan, conversation, ...rest } = this.#memory
      const memory = { ...rest, ids: [...ids], plan: structuredClone(plan), conversation: conversation.copy() }
      const twin = new Session(this.#parts, this.#settings, this.#native.fork(), memory, this.#counters.copy())
      this.#parts.sessions.add(twin)
      return twin
    })
  }

  /** Writes the session, so that model.restore makes it again. A file is written whole or not at all. */
  async save(target: string | Writable): Promise<void> {
    await this.#queue(undefined, async () => {
      const bytes = await this.#parts.scheduler.job((model) => model.save(this.#native))
      await writeSaved(target, this.#parts, this.#settings, this.#memory, bytes)
    })
  }

  /** What is under way rejects with ERR_CLOSED; closing twice is nothing. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true
      this.#native.interrupt()
    }
    await this.#tail
    this.#native.close()
    this.#parts.sessions.delete(this)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  // ---- how calls run

  #open(): void {
    if (this.#closed) throw new TokensieveError('ERR_CLOSED', 'Expected an open session, but this one was closed')
  }

  /** One after another. An abort interrupts what runs and takes what waits out of the line. */
  #queue<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (this.#closed)
      return Promise.reject(new TokensieveError('ERR_CLOSED', 'Expected an open session, but this one was closed'))
    this.#busy++
    const run = this.#tail.then(async () => {
      const interrupt = () => this.#native.interrupt()
      try {
        this.#check(signal)
        signal?.addEventListener('abort', interrupt, { once: true })
        return await work()
      } catch (error) {
        this.#check(signal) // the reason of the abort, not what it led to
        throw fromNative(error)
      } finally {
        signal?.removeEventListener('abort', interrupt)
        this.#busy--
      }
    })
    this.#tail = run.catch(() => {})
    return run
  }

  #check(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted()
    this.#open()
  }

  #checkPrompt(prompt: unknown): void {
    if (isMessages(prompt) || typeof prompt === 'string') return
    readPrompt(prompt, this.#parts.tokenizer, false)
  }

  /** The prompt as tokens that can still be given back: conversation state moves when they are taken. */
  #take(prompt: Prompt): Tokens & { taken?: () => void } {
    const { ids, conversation } = this.#memory
    const { tokenizer } = this.#parts
    if (!isMessages(prompt)) return readPrompt(prompt, tokenizer, ids.length === 0)
    const { tokens, taken } = conversation.next(prompt, tokenizer, ids.length === 0)
    return { ...tokens, taken }
  }

  #checkRoom(count: number): void {
    const { length } = this.#memory.ids
    const { contextLength } = this.#settings
    if (length + count > contextLength)
      throw new TokensieveError(
        'ERR_CONTEXT_FULL',
        `Expected at most ${contextLength} tokens in the context, but there are ${length} and ${count} more came`,
      )
  }

  /** Runs tokens after the one that waits; skipped: rows of the result that belong to that one. */
  async #append(
    tokens: Tokens & { taken?: () => void },
    head: Advance['head'],
    signal: AbortSignal | undefined,
  ): Promise<{ pieces: Float32Array[]; last: { token?: number; logprob?: number }; skipped: number }> {
    const memory = this.#memory
    this.#checkRoom(tokens.ids.length)
    const { waiting } = memory
    if (tokens.ids.length === 0 && !waiting) return { pieces: [], last: {}, skipped: 0 }
    // One token is a decode step, also where another waits before it.
    const alone = waiting && tokens.ids.length === 1
    let skipped = 0
    if (alone) await this.#run({ ids: this.#newest(), droppable: new Int32Array(0) }, { logits: 'none' }, signal)
    let all: Tokens = tokens
    if (waiting && !alone) {
      skipped = head?.logits === 'all' || head?.logits === 'scores' ? 1 : 0
      all = {
        ids: Int32Array.from([...this.#newest(), ...tokens.ids]),
        droppable: tokens.droppable.map((place) => place + 1),
      }
    }
    const { last, pieces } = await this.#run(all, head, signal)
    for (const id of tokens.ids) memory.ids.push(id)
    tokens.taken?.()
    return { pieces: [...pieces], last, skipped }
  }

  #newest(): Int32Array {
    return Int32Array.of(this.#memory.ids.at(-1) as number)
  }

  async #run(tokens: Tokens, head: Advance['head'], signal: AbortSignal | undefined) {
    const memory = this.#memory
    const { scheduler } = this.#parts
    const { schedule, shape, trace } = this.#settings
    const before = memory.ids.length - (memory.waiting ? 1 : 0)
    const check = () => this.#check(signal)
    const counters = this.#counters
    const context = {
      native: this.#native,
      scheduler,
      schedule,
      shape,
      counters,
      trace,
      step: memory.calls,
      before,
      check,
    }
    const result = await runCall(context, tokens, head)
    memory.plan.push(...result.plan)
    memory.calls++
    memory.waiting = false
    this.#stats(counters) // the peak
    return result
  }

  /** A step back, where the newest row is not known any more (after truncate), so that what follows it can be scored. */
  #bringLastRow(): void {
    const { ids, waiting } = this.#memory
    if (waiting || ids.length === 0 || this.#native.knowsLast()) return
    this.#native.truncate(ids.length - 1)
    this.#memory.waiting = true
  }

  async #peek<T>(
    ids: Int32Array,
    options: CallOptions,
    layer: number,
    look: (skipped: number) => Promise<T>,
  ): Promise<T> {
    checkSignal(options.signal)
    if (!(ids instanceof Int32Array)) throw typeError('an Int32Array', 'ids', ids)
    if (ids.length === 0) throw rangeError('at least one id', 'ids', ids)
    return this.#queue(options.signal, async () => {
      this.#checkRoom(ids.length)
      const skipped = this.#memory.waiting ? 1 : 0
      const all = Int32Array.from([...(skipped ? this.#newest() : []), ...ids])
      this.#native.peek(all)
      try {
        for (let begin = 0; begin < all.length; begin += 512) {
          this.#check(options.signal)
          const end = Math.min(all.length, begin + 512)
          await this.#parts.scheduler.job((model) =>
            model.advance([{ session: this.#native, from: 0, to: layer, begin, end }]),
          )
        }
        return await look(skipped)
      } finally {
        this.#native.rollback()
      }
    })
  }

  #layer(layer: unknown, last: boolean): number {
    const { layers } = this.#parts.config
    const most = last ? layers : layers - 1
    if (typeof layer !== 'number') throw typeError('a layer', 'layer', layer)
    if (!(Number.isInteger(layer) && layer >= 0 && layer <= most))
      throw rangeError(`a layer from 0 to ${most}`, 'layer', layer)
    return layer
  }

  #truncate(tokens: number): void {
    const memory = this.#memory
    if (tokens >= memory.ids.length) return
    const ran = memory.ids.length - (memory.waiting ? 1 : 0)
    if (tokens < ran) this.#native.truncate(tokens)
    memory.waiting = false
    memory.ids.length = tokens
    memory.conversation = new Conversation()
  }

  #stats(counters: Counters): SessionStats {
    return statsOf(
      counters,
      this.#native,
      this.#parts.config,
      this.#memory.ids.length,
      this.#parts.loadTime,
      this.#peak,
    )
  }

  async #generate(
    prompt: Prompt,
    sampling: ReturnType<typeof parseSampling>,
    emit: (piece: Piece) => void,
  ): Promise<Generated> {
    const memory = this.#memory
    const before = this.#counters.copy()
    const tokens = this.#take(prompt)
    if (tokens.ids.length === 0 && !memory.waiting) throw rangeError('a prompt of at least one token', 'prompt', prompt)
    this.#checkRoom(tokens.ids.length)
    const sampler = this.#parts.native.sampler(sampling)
    const { repeatPenalty, logprobs, signal } = sampling
    const first = memory.ids.length + tokens.ids.length
    const head = (next: ArrayLike<number> = []): Advance['head'] => ({
      logits: 'none',
      sampler,
      logprob: logprobs,
      ...(repeatPenalty !== 1 && {
        recent: Int32Array.from([...memory.ids.slice(-64), ...Array.from(next).slice(-64)]),
      }),
    })
    const step = async () => {
      const started = memory.ids.length >= first && memory.waiting
      const { last } = started
        ? await this.#run({ ids: this.#newest(), droppable: new Int32Array(0) }, head(), signal)
        : await this.#append(tokens, head(tokens.ids), signal)
      memory.ids.push(last.token as number)
      memory.waiting = true
      this.#counters.generated++
      return { id: last.token as number, ...(logprobs && { logprob: last.logprob as number }) }
    }
    if (sampling.maxTokens === 0) await this.#append(tokens, { logits: 'none' }, signal)
    const room = () => memory.ids.length < this.#settings.contextLength
    const made = await generate(this.#parts.tokenizer, sampling, step, room, emit)
    memory.conversation.answered(made.text, this.#parts.tokenizer.decode(made.ids, { special: true }))
    return { ...made, stats: this.#stats(this.#counters.since(before)) }
  }
}

function joined(pieces: readonly Float32Array[], skip: number): Float32Array {
  const [only] = pieces
  if (pieces.length === 1 && only) return skip === 0 ? only : only.slice(skip)
  const out = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    out.set(piece, at)
    at += piece.length
  }
  return skip === 0 ? out : out.slice(skip)
}
