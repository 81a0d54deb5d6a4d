// A model: loaded once, immutable, shared by any number of sessions.
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { type DeviceOption, parseDevice } from './device.js'
import { fromNative, rangeError, TokensieveError, typeError } from './errors.js'
import { emptyMemory } from './memory.js'
import { restoreMethod } from './methods/index.js'
import {
  type ModelConfig,
  type NativeFile,
  type LoadOptions as NativeLoad,
  type NativeModel,
  native,
} from './native.js'
import type { NativeVision, VisionConfig } from './native-vision.js'
import { Prefixes } from './prefix.js'
import { checkSignal } from './sampling.js'
import { checkOverrides, readSaved } from './saved.js'
import { Scheduler } from './scheduler.js'
import { Session } from './session.js'
import { nativeOptions, optionsOf, SESSION_OPTIONS, type SessionOptions, settle } from './settings.js'
import type { Tokenizer } from './tokenizer/index.js'
import { tokenizerOf } from './tokenizer-of.js'
import { findTower } from './vision/find.js'
import { checkFit, type Tower, towerOf } from './vision/tower.js'

export interface LoadOptions {
  /** Where the layers of the decoder run; the vision tower stays on the processor. Default: TOKENSIEVE_DEVICE or 'auto'. */
  readonly device?: DeviceOption
  /** Default: TOKENSIEVE_THREADS or the physical cores. Results do not depend on it. */
  readonly threads?: number
  /**
   * The vision tower and its projector: a GGUF file of architecture clip (an "mmproj"). Default: the one in the model's folder, or beside its file under its name with "mmproj-"
   * in front or ".mmproj.gguf" at the end, where there is one. false: none.
   */
  readonly vision?: string | false
  readonly onProgress?: (progress: LoadProgress) => void
  readonly signal?: AbortSignal
}

export interface ModelStage {
  readonly layers: readonly [number, number]
  readonly device: string
  readonly why?: string
}

export interface LoadProgress {
  /** Bytes. */
  readonly done: number
  readonly total: number
  readonly what: 'weights' | 'vision'
}

/** What sessions share of their model. */
export interface ModelParts {
  readonly native: NativeModel
  readonly config: ModelConfig
  readonly tokenizer: Tokenizer
  readonly scheduler: Scheduler
  readonly sessions: OpenSessions
  readonly prefixes: Prefixes
  /** Missing where the model reads text only. */
  readonly vision?: Tower
  /** Milliseconds. */
  readonly loadTime: number
}

/** Open sessions, held so weakly that a forgotten one can be collected. */
class OpenSessions {
  readonly #all = new Set<WeakRef<Session>>()
  readonly #gone = new FinalizationRegistry<WeakRef<Session>>((ref) => this.#all.delete(ref))

  add(session: Session): void {
    const ref = new WeakRef(session)
    this.#all.add(ref)
    this.#gone.register(session, ref, session)
  }
  delete(session: Session): void {
    this.#gone.unregister(session)
    for (const ref of this.#all) if (ref.deref() === session) this.#all.delete(ref)
  }
  closeAll(): Promise<unknown> {
    return Promise.all([...this.#all].map((ref) => ref.deref()?.close()))
  }
}

export class Model {
  readonly #parts: ModelParts
  readonly #file: number
  #closing: Promise<void> | undefined

  /** @internal Models are made by load. */
  constructor(parts: ModelParts, file: number) {
    this.#parts = parts
    this.#file = file
  }

  /** What the model is, read from its file. */
  get config(): ModelConfig {
    return this.#parts.config
  }
  get tokenizer(): Tokenizer {
    return this.#parts.tokenizer
  }
  /** What its vision tower is; null where it reads text only. */
  get vision(): VisionConfig | null {
    return this.#parts.vision?.config ?? null
  }
  /** Which layers run where. why: with device 'auto', which cards were left out and what is wrong with them. */
  get stages(): ModelStage[] {
    return this.#open().stages.map(({ from, to, device, why }) => ({ layers: [from, to], device, ...(why && { why }) }))
  }
  /** weights: bytes of the packed weights in memory; vision: of those of the tower. mapped: of the file that is still mapped (none: it is closed when the weights are packed). file: of the file. */
  get bytes(): { readonly weights: number; readonly vision: number; readonly mapped: number; readonly file: number } {
    return {
      weights: this.#open().bytes,
      vision: this.#parts.vision?.native.bytes ?? 0,
      mapped: 0,
      file: this.#file,
    }
  }
  /** The instruction set that its kernels use. */
  get isa(): string {
    return this.#open().isa
  }

  session(options?: SessionOptions): Session {
    const model = this.#open()
    const settings = settle(this.#parts, options)
    const made = new Session(
      this.#parts,
      settings,
      guarded(() => model.session(nativeOptions(settings))),
      emptyMemory(settings),
    )
    this.#parts.sessions.add(made)
    return made
  }

  /** A saved session again, with the options and methods it had; options override, and must name methods made by defineMethod. */
  async restore(source: string | Readable, options: SessionOptions = {}): Promise<Session> {
    const model = this.#open()
    const given = Object.fromEntries(
      Object.entries(optionsOf(options, SESSION_OPTIONS)).filter(([, value]) => value !== undefined),
    )
    const saved = await readSaved(source, this.#parts)
    const kept =
      'methods' in given || 'plan' in given || 'quality' in given
        ? {}
        : { methods: saved.methods.map((one) => restoreMethod(one)) }
    const settings = settle(this.#parts, { ...saved.options, ...kept, ...given })
    checkOverrides(saved, settings)
    this.#open()
    const made = await model.restore(nativeOptions(settings), saved.bytes).catch((error: unknown) => {
      throw fromNative(error)
    })
    if (this.#closing) made.close()
    this.#open()
    const session = new Session(this.#parts, settings, made, saved.memory)
    this.#parts.sessions.add(session)
    return session
  }

  /** Closes its sessions too; what is under way rejects with ERR_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#parts.sessions.closeAll().then(() => {
      this.#parts.native.close()
      this.#parts.vision?.native.close()
      this.#parts.vision?.encodings.clear()
    })
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #open(): NativeModel {
    if (this.#closing) throw new TokensieveError('ERR_CLOSED', 'Expected an open model, but this one was closed')
    return this.#parts.native
  }
}

/**
 * Loads a GGUF file, or a folder with config.json, safetensors and tokenizer.json.
 * @throws TokensieveError ERR_FILE_NOT_FOUND, ERR_FILE_FORMAT, ERR_FILE_TRUNCATED, ERR_UNSUPPORTED, ERR_OUT_OF_MEMORY, ERR_DEVICE
 */
export async function load(path: string, options: LoadOptions = {}): Promise<Model> {
  if (typeof path !== 'string') throw typeError('a path', 'path', path)
  const { vision, ...settings } = parseLoad(options)
  const { signal } = settings
  const start = performance.now()
  signal?.throwIfAborted()
  try {
    const folder = await isFolder(path)
    const found = vision === undefined ? findTower(path, folder) : vision || undefined
    const made = await withFile(path, (file) => loadText(path, folder, file, settings))
    try {
      const tower = await loadTower(path, folder, made, await found, settings)
      return modelOf(made, tower, performance.now() - start)
    } catch (error) {
      made.native.close()
      throw error
    }
  } catch (error) {
    signal?.throwIfAborted()
    throw fromNative(error)
  }
}

type Loading = Omit<ReturnType<typeof parseLoad>, 'vision'>

interface Text {
  readonly native: NativeModel
  readonly tokenizer: Tokenizer
  readonly file: number
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  )
}

async function withFile<T>(path: string, work: (file: NativeFile) => Promise<T>): Promise<T> {
  const file = await native().open(path)
  try {
    return await work(file)
  } finally {
    file.close()
  }
}

async function loadText(path: string, folder: boolean, file: NativeFile, settings: Loading): Promise<Text> {
  // The vocabulary is read while the weights are packed, which begins first; both must end before the file is closed.
  const [model, tokenizer] = await Promise.allSettled([
    packed('weights', settings, (options, tell) => {
      const { model, cancel } = native().load(file, options, tell)
      return { made: model, cancel }
    }),
    tokenizerOf(path, folder, file).then(warmed),
  ])
  if (model.status === 'rejected') throw model.reason
  if (tokenizer.status === 'fulfilled') return { native: model.value, tokenizer: tokenizer.value, file: file.bytes }
  model.value.close()
  throw tokenizer.reason
}

/** Makes the encoder's tables: this thread has nothing else to do while weights are packed, and the first text would wait for them. */
function warmed(tokenizer: Tokenizer): Tokenizer {
  tokenizer.encode('a b')
  return tokenizer
}

/** found: the tower that was asked for, or that lies where towers of models lie. */
async function loadTower(
  path: string,
  folder: boolean,
  { native: made, tokenizer }: Text,
  found: string | undefined,
  settings: Loading,
): Promise<Tower | undefined> {
  if (found === undefined) return undefined
  return withFile(found, async (file) => {
    const tower = await packed('vision', settings, (options, tell) => {
      const { vision, cancel } = native().loadVision(file, options, tell)
      return { made: vision, cancel }
    })
    try {
      checkFit(tower.config, made.config.hiddenSize)
      return await towerOf(tower, file, folder && found === path ? path : undefined, tokenizer)
    } catch (error) {
      tower.close()
      throw error
    }
  })
}

type Packing<T> = { made: Promise<T>; cancel(): void }

/** Weights on their way into memory: the listener is told, an abort or what the listener throws stops it. */
async function packed<T extends NativeModel | NativeVision>(
  what: LoadProgress['what'],
  { isa, onProgress, placement, screen, signal, threads }: Loading,
  begin: (options: NativeLoad, tell: ((done: number, total: number) => void) | null) => Packing<T>,
): Promise<T> {
  const progress = new Progress(onProgress, what)
  const tell = (done: number, total: number) => progress.tell(done, total)
  signal?.throwIfAborted()
  const { cancel, made } = begin({ threads, isa, placement, screen }, onProgress ? tell : null)
  progress.stop = cancel
  signal?.addEventListener('abort', cancel, { once: true })
  const [result] = await Promise.allSettled([made])
  signal?.removeEventListener('abort', cancel)
  // News travels apart from the promise and may come after it: a listener has heard all before it has the model.
  if (onProgress && result.status === 'fulfilled') await progress.whole
  progress.ended = true
  if (!progress.thrown && result.status === 'fulfilled') return result.value
  if (result.status === 'fulfilled') result.value.close()
  throw progress.thrown ? progress.thrown.error : (result as PromiseRejectedResult).reason
}

/** Tells a listener how far a load is. What it throws stops the load. */
class Progress {
  readonly #listener: LoadOptions['onProgress']
  readonly #what: LoadProgress['what']
  /** Settles when nothing more is to be told: all of it was read, or the listener threw. */
  readonly whole: Promise<void>
  #told: () => void = () => {}
  thrown: { readonly error: unknown } | undefined
  ended = false
  stop: () => void = () => {}

  constructor(listener: LoadOptions['onProgress'], what: LoadProgress['what']) {
    this.#listener = listener
    this.#what = what
    this.whole = new Promise((told) => {
      this.#told = told
    })
  }

  tell(done: number, total: number): void {
    if (this.ended) return
    try {
      this.#listener?.({ done, total, what: this.#what })
    } catch (error) {
      this.thrown = { error }
      this.ended = true
      this.stop()
    }
    if (done === total || this.thrown) this.#told()
  }
}

function modelOf({ file, native: made, tokenizer }: Text, vision: Tower | undefined, loadTime: number): Model {
  const config = Object.freeze({ ...made.config, windows: Object.freeze(made.config.windows) })
  if (tokenizer.vocabularySize > config.vocabularySize) {
    vision?.native.close()
    throw new TokensieveError(
      'ERR_FILE_FORMAT',
      `[tokenizer] expected at most ${config.vocabularySize} tokens, as many as the model has rows for, but there are ${tokenizer.vocabularySize}`,
    )
  }
  const shared = { scheduler: new Scheduler(made), sessions: new OpenSessions(), prefixes: new Prefixes() }
  return new Model({ native: made, config, tokenizer, ...shared, ...(vision && { vision }), loadTime }, file)
}

const OPTIONS = ['device', 'threads', 'vision', 'onProgress', 'signal']

function parseLoad(options: unknown): NativeLoad & Pick<LoadOptions, 'onProgress' | 'signal' | 'vision'> {
  if (typeof options !== 'object' || options === null) throw typeError('an object', 'options', options)
  for (const name of Object.keys(options)) {
    if (!OPTIONS.includes(name)) throw typeError(`one of the options ${OPTIONS.join(', ')}`, 'options', name)
  }
  const {
    device = process.env.TOKENSIEVE_DEVICE || 'auto',
    threads,
    vision,
    onProgress,
    signal,
  } = options as { [name: string]: unknown }
  if (vision !== undefined && vision !== false && typeof vision !== 'string')
    throw typeError('a path or false', 'vision', vision)
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw typeError('a function', 'onProgress', onProgress)
  checkSignal(signal)
  return {
    placement: parseDevice(device),
    threads: parseThreads(threads),
    isa: process.env.TOKENSIEVE_ISA || 'auto',
    screen: process.env.TOKENSIEVE_SCREEN !== 'off',
    onProgress: onProgress as LoadOptions['onProgress'],
    signal,
    ...(vision !== undefined && { vision }),
  }
}

function parseThreads(given: unknown): number {
  const variable = process.env.TOKENSIEVE_THREADS
  const threads = given ?? (variable ? Number(variable) : native().physicalCores())
  const name = given === undefined ? 'TOKENSIEVE_THREADS' : 'threads'
  if (typeof threads !== 'number') throw typeError('a number', name, threads)
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= 1024))
    throw rangeError('a whole number from 1 to 1024', name, given ?? variable)
  return threads
}

function guarded<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    throw fromNative(error)
  }
}
