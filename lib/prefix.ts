// Prefix reuse: a session that begins with tokens that another one of the model has read takes their rows instead of computing them.
//
// What it gives is bit for bit what computing gives. So rows are taken only where they are those of any prompt: from tokens that were read as prompts (decode steps sum their attention in
// another order), with all rows before them there, under the same cache types and skipped sub-layers. Where a method has decided something, the whole of a first prompt is taken as it stood
// at its end, by sessions of equal methods, and nothing less.
import { freemem } from 'node:os'
import type { Memory } from './memory.js'
import { areBuiltIn, type Schedule, sameMethods } from './methods/index.js'
import type { Advance, NativeSession } from './native.js'
import { PROMPT_ROWS, pieceEnd } from './pieces.js'
import type { PlanEntry } from './plan.js'
import type { Tokens } from './prompt.js'
import type { Scheduler } from './scheduler.js'
import { nativeOptions, type Settings } from './settings.js'

/** Fewer tokens are not worth a look. */
const LEAST = 16

type Head = Advance['head']

interface Holder {
  readonly native: NativeSession
  readonly settings: Settings
  readonly memory: Memory
}

/** Rows that others may take: of the first `count` of `ids`. */
interface Rows {
  readonly native: NativeSession
  readonly ids: ArrayLike<number>
  readonly count: number
}

/** What is held of a first prompt, where the session's own rows will not tell it any more. */
interface Mark {
  readonly native: NativeSession
  readonly tokens: Tokens
  /** The session as it was at the prompt's end, with what the methods had decided; otherwise all rows of the prompt, those that sliding layers give up too. */
  readonly plan?: readonly PlanEntry[]
}

export interface Taken {
  /** So many of the first tokens are there. */
  readonly tokens: number
  /** Where they are all of them and methods have decided: what. */
  readonly plan?: readonly PlanEntry[]
}

interface Offer extends Taken {
  readonly from: NativeSession
}

const NOTHING: Taken = { tokens: 0 }

/** What the sessions of a model have of each other. Sessions are held weakly: a forgotten one can be collected. */
export class Prefixes {
  readonly #all = new Set<WeakRef<Prefix>>()

  add(prefix: Prefix): void {
    for (const ref of this.#all) if (!ref.deref()) this.#all.delete(ref)
    this.#all.add(new WeakRef(prefix))
  }

  delete(prefix: Prefix): void {
    for (const ref of this.#all) if (ref.deref() === prefix) this.#all.delete(ref)
  }

  *others(one: Prefix): Generator<Prefix> {
    for (const ref of this.#all) {
      const other = ref.deref()
      if (other && other !== one && other.kind === one.kind) yield other
    }
  }

  /** Gives up marks, the least recently used first, until they take no more than so many bytes together. False where there was none to give up. */
  shrink(bytes: number): boolean {
    const marked = [...this.#all].flatMap((ref) => ref.deref() ?? []).filter(({ markBytes }) => markBytes > 0)
    marked.sort((a, b) => b.used - a.used)
    let held = 0
    let some = false
    for (const prefix of marked) {
      held += prefix.markBytes
      if (held > bytes) some = prefix.forget() || some
    }
    return some
  }
}

let uses = 0

/** One session's part in it. */
export class Prefix {
  /** Equal where rows of the cache mean the same. */
  readonly kind: string
  readonly #all: Prefixes
  readonly #holder: Holder
  /** So many of the last rows of a prompt have to be computed under the eyes of its methods; infinite where all have. */
  readonly #watchedRows: number
  /** Methods decide something at the end of a prompt, or while it is read. */
  readonly #decidesAlways: boolean
  /** Methods decide on patches before the decoder reads them. */
  readonly #decidesOnPatches: boolean
  #mark: Mark | undefined
  #reading: { readonly tokens: Tokens; readonly done: Promise<void> } | undefined
  #leave: () => void = () => {}
  /** When it last gave something. */
  used = 0

  constructor(all: Prefixes, holder: Holder) {
    const { schedule, standing } = holder.settings
    this.#all = all
    this.#holder = holder
    this.kind = kindOf(holder.settings)
    this.#watchedRows = watchedRows(schedule)
    this.#decidesOnPatches = schedule.vision.length > 0
    this.#decidesAlways =
      schedule.cuts.length + schedule.cacheLayers('prompt', 0).length > 0 ||
      standing.some(({ decision }) => decision.action === 'rule')
    if (holder.settings.reuse) all.add(this)
  }

  /** The work of a first prompt, after what others have of its beginning was taken for the empty session. Waits for another one that is reading the same. */
  async first<T>(tokens: Tokens, head: Head, scheduler: Scheduler, work: (taken: Taken) => Promise<T>): Promise<T> {
    if (!this.#shares(tokens)) return work(NOTHING)
    const takes = head?.logits !== 'all' && head?.logits !== 'scores'
    let left = false
    const leaving = new Promise<void>((leave) => {
      this.#leave = () => {
        left = true
        leave()
      }
    })
    const ahead = () => (takes && !left ? this.#ahead(tokens) : undefined)
    for (let other = ahead(); other; other = ahead()) await Promise.race([other, leaving])
    // Nothing is awaited in between: of several that waited for the same, one goes on and the others see it.
    let end: () => void = () => {}
    const done = new Promise<void>((resolve) => {
      end = resolve
    })
    this.#reading = { tokens, done }
    try {
      const some = takes && !left && this.#offers(tokens).length > 0
      return await work(some ? await scheduler.job(async () => this.#takeBest(tokens)) : NOTHING)
    } finally {
      this.#reading = undefined
      end()
    }
  }

  /** Ends a wait. */
  interrupt(): void {
    this.#leave()
  }

  /** A first prompt has run and its call has not ended: sliding layers still hold all of its rows. */
  keepRows(tokens: Tokens): void {
    const { settings } = this.#holder
    const slides = settings.shape.windows.some((window) => window > 0)
    if (slides && !this.#decides(tokens) && this.#shares(tokens)) this.#keep({ tokens })
  }

  /** After a first prompt, for sessions of equal methods. A method that is not of the package may do more than decide. */
  keepWhole(tokens: Tokens, plan: readonly PlanEntry[]): void {
    const { settings } = this.#holder
    if (!this.#decides(tokens) || !this.#shares(tokens) || !areBuiltIn(settings.methods)) return
    if (!plan.some(({ rule }) => rule)) this.#keep({ tokens, plan: structuredClone(plan) })
  }

  get markBytes(): number {
    return this.#mark?.native.stats().bytes ?? 0
  }

  /** Gives up what it holds for others. */
  forget(): boolean {
    const held = this.#mark
    this.#mark = undefined
    held?.native.close()
    if (held) this.#holder.native.giveBack()
    return held !== undefined
  }

  close(): void {
    this.forget()
    this.#all.delete(this)
  }

  /** Memory that is not there is no error: nothing is kept then. */
  #keep(mark: Omit<Mark, 'native'>): void {
    this.forget()
    try {
      this.#mark = { ...mark, native: this.#holder.native.fork() }
    } catch {
      return
    }
    this.used = ++uses
    this.#all.shrink(freemem() / 8)
  }

  #decides({ ids }: Tokens): boolean {
    return this.#decidesAlways || (this.#decidesOnPatches && hasPatches(ids))
  }

  #shares({ ids }: Tokens): boolean {
    return this.#holder.settings.reuse && ids.length >= LEAST
  }

  /** What others could give as far as is known here, whole prompts first. */
  #offers(tokens: Tokens): (Offer & { readonly by: Prefix })[] {
    return [...this.#all.others(this)].flatMap((by) => {
      const mark = by.#mark
      if (mark?.plan && this.#isLike(by) && sameTokens(mark.tokens, tokens))
        return [{ by, from: mark.native, tokens: tokens.ids.length, plan: mark.plan }]
      return by.#rows().flatMap(({ count, ids, native }) => {
        const shared = this.#start(Math.min(count, sharedTokens(ids, tokens.ids)), tokens)
        return shared > 0 ? [{ by, from: native, tokens: shared }] : []
      })
    })
  }

  /** No stage call runs now: rows can be looked at. Memory that is not there is no error, the tokens are computed then. */
  #takeBest(tokens: Tokens): Taken {
    let best: (Offer & { readonly by: Prefix }) | undefined
    for (const offer of this.#offers(tokens)) {
      const count = offer.plan ? offer.tokens : this.#start(Math.min(offer.tokens, offer.from.firstRows()), tokens)
      if (count > (best?.tokens ?? 0)) best = { ...offer, tokens: count }
    }
    if (!best) return NOTHING
    try {
      this.#holder.native.take(best.from, best.tokens)
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_OUT_OF_MEMORY') return NOTHING
      throw error
    }
    best.by.used = ++uses
    return best.plan ? { tokens: best.tokens, plan: structuredClone(best.plan) } : { tokens: best.tokens }
  }

  /** The end of a prompt that is being read now and will give more than there is; one that is mostly another's own is not worth the wait. */
  #ahead(tokens: Tokens): Promise<void> | undefined {
    const have = Math.max(0, ...this.#offers(tokens).map((offer) => offer.tokens))
    for (const other of this.#all.others(this)) {
      const reading = other.#reading
      if (!reading) continue
      const whole = this.#decides(tokens) && this.#isLike(other) && sameTokens(reading.tokens, tokens)
      const rows = other.#decides(reading.tokens)
        ? 0
        : this.#start(sharedTokens(reading.tokens.ids, tokens.ids), tokens)
      const coming = whole ? tokens.ids.length : rows
      if (coming >= have + LEAST && coming * 2 >= reading.tokens.ids.length) return reading.done
    }
    return undefined
  }

  /** How many of `count` first tokens can be there when the rest is computed as in the whole prompt; 0 where it is not worth it. */
  #start(count: number, { ids }: Tokens): number {
    const watched = this.#decidesOnPatches && hasPatches(ids) ? Number.POSITIVE_INFINITY : this.#watchedRows
    const most = Math.min(count, ids.length - watched)
    if (most < LEAST) return 0
    const end = pieceEnd(most, ids.length)
    const start = end - most < PROMPT_ROWS ? end - PROMPT_ROWS : most
    return start < LEAST ? 0 : start
  }

  #rows(): Rows[] {
    const { memory, native } = this.#holder
    const own = { native, ids: memory.ids, count: memory.prompted }
    const mark = this.#mark
    return mark && !mark.plan
      ? [own, { native: mark.native, ids: mark.tokens.ids, count: mark.tokens.ids.length }]
      : [own]
  }

  #isLike(other: Prefix): boolean {
    const { methods, trace } = this.#holder.settings
    const theirs = other.#holder.settings
    return trace === theirs.trace && sameMethods(methods, theirs.methods) && areBuiltIn(methods)
  }
}

function hasPatches(ids: Int32Array): boolean {
  return ids.some((id) => id < 0)
}

function kindOf(settings: Settings): string {
  const { contextLength, ...all } = nativeOptions(settings)
  return JSON.stringify(all, (_, value) => (value instanceof Int32Array ? [...value] : value))
}

function watchedRows(schedule: Schedule): number {
  if (schedule.cuts.length > 0) return Number.POSITIVE_INFINITY
  // Whatever else is observed than attention of the last rows is gathered over all of them.
  const rows = schedule
    .observations('prompt', 0)
    .map(({ attention, layer, ...all }) =>
      Object.values(all).some(Boolean) ? Number.POSITIVE_INFINITY : (attention?.rows ?? 0),
    )
  return Math.max(PROMPT_ROWS, ...rows)
}

function sharedTokens(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length)
  let count = 0
  while (count < most && a[count] === b[count]) count++
  return count
}

function sameTokens(a: Tokens, b: Tokens): boolean {
  return sameNumbers(a.ids, b.ids) && sameNumbers(a.droppable, b.droppable)
}

function sameNumbers(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && sharedTokens(a, b) === a.length
}
