// A session: a context that goes on, with its cache, its methods and the plan of what they decided.
import type { Writable } from 'node:stream'
import { rangeError, typeError } from './errors.js'
import { type Generated, TextStream } from './generate.js'
import { copyMemory, type Memory } from './memory.js'
import type { ModelParts } from './model.js'
import type { NativeSession } from './native.js'
import type { PlanEntry } from './plan.js'
import { checkPrompt, copyPrompt, type Placed, type Prompt, type Tokens } from './prompt.js'
import { checkSignal, type GenerateOptions, parseSampling } from './sampling.js'
import { writeSaved } from './saved.js'
import { SessionCore } from './session-core.js'
import { optionsOf, type Settings } from './settings.js'
import { Counters, type SessionStats } from './stats.js'
import type { Grid } from './vision/layout.js'

/** What a call needs beside its tokens. */
interface CallOptions {
  readonly signal?: AbortSignal
}

export class Session {
  readonly #core: SessionCore

  /** @internal Sessions are made by model.session. */
  constructor(parts: ModelParts, settings: Settings, native: NativeSession, memory: Memory, counters = new Counters()) {
    this.#core = new SessionCore(parts, settings, native, memory, counters)
  }

  /** Every token so far, dropped or not, the end token too. Those of patches are below 0: names that depend on the picture, so that equal ones are equal. */
  get ids(): Int32Array {
    return Int32Array.from(this.#core.memory.ids)
  }

  /** What was decided and applied, in order, as plain data. */
  get plan(): PlanEntry[] {
    return structuredClone(this.#core.memory.plan)
  }

  /** @internal The pictures among its ids, and how large what the tower reads of them is; for pages. */
  get pictures(): { readonly placed: readonly Placed[]; readonly grid: Grid } | undefined {
    const { memory, parts } = this.#core
    return parts.vision && { placed: memory.pictures, grid: parts.vision.grid }
  }

  get stats(): SessionStats {
    this.#core.line.open()
    return this.#core.stats()
  }

  get contextLength(): number {
    return this.#core.settings.contextLength
  }

  /** Generates text after the prompt. Rejects with the signal's reason where it is aborted. */
  async generate(prompt: Prompt, options?: GenerateOptions): Promise<Generated> {
    return this.stream(prompt, options).result
  }

  /** The same piece by piece; leaving the loop early stops the work. */
  stream(prompt: Prompt, options?: GenerateOptions): TextStream {
    const sampling = parseSampling(options)
    const given = this.#checked(prompt)
    const { line } = this.#core
    return new TextStream(sampling.signal, (emit, signal) =>
      line.run(signal, () => this.#core.generate(given, { ...sampling, signal }, emit)),
    )
  }

  /** Appends the prompt; logits of the last token, of all or of none: [rows × vocabularySize]. Rows that a method has dropped are NaN. */
  async forward(
    prompt: Prompt,
    options: { logits?: 'last' | 'all' | 'none' } & CallOptions = {},
  ): Promise<Float32Array> {
    const { logits = 'last', signal } = optionsOf(options, ['logits', 'signal'])
    if (logits !== 'last' && logits !== 'all' && logits !== 'none')
      throw typeError("'last', 'all' or 'none'", 'logits', logits)
    checkSignal(signal)
    const given = this.#checked(prompt)
    const core = this.#core
    return core.line.run(signal, async () => {
      const tokens = await core.take(given, signal)
      return (await core.append(tokens, { logits }, signal)).rows
    })
  }

  /** Appends the ids; the log-probability of each given all before it, NaN for the first of an empty session: [tokens]. */
  async score(ids: Int32Array, options: CallOptions = {}): Promise<Float32Array> {
    const { signal } = optionsOf(options, ['signal'])
    checkSignal(signal)
    const given = this.#checkedIds(ids, 0)
    const core = this.#core
    return core.line.run(signal, async () => {
      core.checkRoom(given.length)
      core.bringLastRow()
      return (await core.append(await core.take(given), { logits: 'scores' }, signal)).rows
    })
  }

  /** The rows that enter a layer (or, for the number of layers, leave the last): [tokens × hiddenSize], those of patches too. Leaves the session as it was. */
  async hidden(prompt: Prompt, options: { layer: number } & CallOptions): Promise<Float32Array> {
    const { layer, signal } = optionsOf(options, ['layer', 'signal'])
    checkSignal(signal)
    const given = this.#checkedSome(prompt)
    const core = this.#core
    const { hiddenSize, layers } = core.parts.config
    const to = layerOf(layer, layers)
    const look = async (waiting: number) => core.native.hidden().slice(waiting * hiddenSize)
    return core.line.run(signal, async () => core.peek(await this.#taken(given, signal), to, look, signal))
  }

  /** Probabilities of some of the rows of a prompt over the session's tokens and these: [rows × heads × tokens], 0 where evicted. Leaves the session as it was. */
  async attention(
    prompt: Prompt,
    options: { layer: number; rows: readonly number[] } & CallOptions,
  ): Promise<Float32Array> {
    const { layer, rows, signal } = optionsOf(options, ['layer', 'rows', 'signal'])
    checkSignal(signal)
    const given = this.#checkedSome(prompt)
    const core = this.#core
    const at = layerOf(layer, core.parts.config.layers - 1)
    if (given instanceof Int32Array) placesOf(rows, given.length)
    return core.line.run(signal, async () => {
      const tokens = await this.#taken(given, signal)
      const places = placesOf(rows, tokens.ids.length)
      const look = (waiting: number) => {
        const looked = Int32Array.from(places, (place) => place + waiting)
        return core.parts.scheduler.job((model) => model.probeRows(core.native, at, looked))
      }
      return core.peek(tokens, at, look, signal)
    })
  }

  /** Forgets everything: ids, cache, plan, stats. */
  async reset(): Promise<void> {
    await this.#core.line.run(undefined, async () => this.#core.reset())
  }

  /** Keeps the first tokens and forgets the rest; done when it returns, unless work is under way. */
  truncate(tokens: number): Promise<void> {
    const { line } = this.#core
    line.open()
    if (typeof tokens !== 'number') throw typeError('a number of tokens', 'tokens', tokens)
    if (!(Number.isInteger(tokens) && tokens >= 0)) throw rangeError('a whole number from 0', 'tokens', tokens)
    if (line.busy) return line.run(undefined, async () => this.#core.truncate(tokens))
    this.#core.truncate(tokens)
    return Promise.resolve()
  }

  /** A session that goes on from here by itself; shares memory until one of the two changes it. */
  async fork(): Promise<Session> {
    const { counters, line, native, parts, settings } = this.#core
    return line.run(undefined, async () => {
      const twin = new Session(parts, settings, native.fork(), copyMemory(this.#core.memory), counters.copy())
      parts.sessions.add(twin)
      return twin
    })
  }

  /** Writes the session, so that model.restore makes it again. A file is written whole or not at all. */
  async save(target: string | Writable): Promise<void> {
    const { line, native, parts, settings } = this.#core
    await line.run(undefined, async () => {
      const bytes = await parts.scheduler.job((model) => model.save(native))
      await writeSaved(target, parts, settings, this.#core.memory, bytes)
    })
  }

  /** What is under way rejects with ERR_CLOSED; closing twice is nothing. */
  async close(): Promise<void> {
    await this.#core.line.close()
    this.#core.prefix.close()
    this.#core.native.close()
    this.#core.parts.sessions.delete(this)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** A prompt that was looked at before it waits in line; its giver may change it afterwards. */
  #checked(prompt: Prompt): Prompt {
    const { config, vision } = this.#core.parts
    checkPrompt(prompt, { vocabulary: config.vocabularySize, pictures: vision !== undefined })
    return copyPrompt(prompt)
  }

  #checkedSome(prompt: Prompt): Prompt {
    if (prompt instanceof Int32Array) return this.#checkedIds(prompt, 1)
    if (!Array.isArray(prompt) && typeof prompt !== 'string') throw typeError('an Int32Array', 'ids', prompt)
    return this.#checked(prompt)
  }

  async #taken(prompt: Prompt, signal: AbortSignal | undefined): Promise<Tokens> {
    const tokens = await this.#core.take(prompt, signal)
    if (tokens.ids.length === 0) throw rangeError('at least one token', 'prompt', prompt)
    return tokens
  }

  #checkedIds(ids: unknown, least: number): Int32Array {
    if (!(ids instanceof Int32Array)) throw typeError('an Int32Array', 'ids', ids)
    if (ids.length < least) throw rangeError('at least one id', 'ids', ids)
    return this.#checked(ids) as Int32Array
  }
}

function layerOf(layer: unknown, most: number): number {
  if (typeof layer !== 'number') throw typeError('a layer', 'layer', layer)
  if (!(Number.isInteger(layer) && layer >= 0 && layer <= most))
    throw rangeError(`a layer from 0 to ${most}`, 'layer', layer)
  return layer
}

function placesOf(rows: unknown, count: number): number[] {
  if (!Array.isArray(rows)) throw typeError('an array of rows', 'rows', rows)
  return rows.map((row: unknown) => {
    if (typeof row !== 'number' || !Number.isInteger(row)) throw typeError('whole numbers', 'rows', row)
    if (row < -count || row >= count) throw rangeError(`rows from ${-count} to ${count - 1}`, 'rows', row)
    return row < 0 ? count + row : row
  })
}
