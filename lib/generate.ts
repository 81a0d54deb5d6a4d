// The loop of a generation: tokens to text, where it ends, and the stream that hands it out.
import type { Sampling } from './sampling.js'
import type { SessionStats } from './stats.js'
import type { Tokenizer } from './tokenizer/index.js'

/** A piece of a stream: never half a character; a token whose character is not complete gives empty text. */
export interface Piece {
  readonly text: string
  readonly ids: Int32Array
  readonly logprobs?: Float32Array
}

export interface Generated {
  /** No special tokens; ends before a stop text. */
  readonly text: string
  /** Every generated token, the end token too. */
  readonly ids: Int32Array
  readonly logprobs?: Float32Array
  readonly finishReason: 'stop' | 'length'
  readonly stats: SessionStats
}

interface Step {
  id: number
  logprob?: number
}

/** What a generation is made of. */
export interface Loop {
  /** The next token. */
  step(): Promise<Step>
  /** Whether one more fits. */
  room(): boolean
  emit(piece: Piece): void
  /** The text so far, however it ended. */
  said(text: string): void
}

type Bounded = Sampling & { readonly maxTokens: number }

export async function generate(tokenizer: Tokenizer, sampling: Bounded, loop: Loop): Promise<Omit<Generated, 'stats'>> {
  const held = new Held(sampling.stop)
  try {
    return await run(tokenizer, sampling, loop, held)
  } finally {
    loop.said(held.given)
  }
}

async function run(
  tokenizer: Tokenizer,
  { maxTokens, ignoreEnd, logprobs, signal }: Bounded,
  { emit, room, step }: Loop,
  held: Held,
): Promise<Omit<Generated, 'stats'>> {
  const decoder = tokenizer.streamDecoder()
  const ids: number[] = []
  const probabilities: number[] = []
  let finishReason: 'stop' | 'length' = 'length'
  let unsent = 0
  const send = (text: string) => {
    const from = unsent
    unsent = ids.length
    const piece = { text, ids: Int32Array.from(ids.slice(from)) }
    emit(logprobs ? { ...piece, logprobs: Float32Array.from(probabilities.slice(from)) } : piece)
  }
  while (ids.length < maxTokens && room()) {
    signal?.throwIfAborted()
    const { id, logprob } = await step()
    ids.push(id)
    if (logprob !== undefined) probabilities.push(logprob)
    const ended = !ignoreEnd && tokenizer.endIds.has(id)
    const text = held.push(id < tokenizer.vocabularySize ? decoder.push([id]) : '') // a padding row of the head is no word
    if (ended || held.stopped) {
      finishReason = 'stop'
      if (held.stopped) send(text)
      else send(text + held.push(decoder.flush()) + held.rest())
      break
    }
    send(text)
  }
  if (finishReason === 'length') {
    const rest = held.push(decoder.flush())
    const all = held.stopped ? rest : rest + held.rest()
    if (held.stopped) finishReason = 'stop'
    if (all !== '') send(all)
  }
  const made = { text: held.given, ids: Int32Array.from(ids), finishReason }
  return logprobs ? { ...made, logprobs: Float32Array.from(probabilities) } : made
}

/** Text that may be the beginning of a stop text is held back until it is known not to be. */
class Held {
  readonly #stop: readonly string[]
  #pending = ''
  given = ''
  stopped = false

  constructor(stop: readonly string[]) {
    this.#stop = stop
  }

  /** What may be given out now. */
  push(text: string): string {
    if (this.stopped) return ''
    this.#pending += text
    const at = Math.min(...this.#stop.map((s) => this.#pending.indexOf(s)).filter((i) => i >= 0))
    if (Number.isFinite(at)) {
      this.stopped = true
      return this.#give(at)
    }
    return this.#give(this.#pending.length - this.#beginning())
  }

  /** What was held back, at the end. */
  rest(): string {
    return this.stopped ? '' : this.#give(this.#pending.length)
  }

  #give(length: number): string {
    const out = this.#pending.slice(0, length)
    this.#pending = this.#pending.slice(length)
    this.given += out
    return out
  }

  /** Length of the longest end of the text that begins a stop text. */
  #beginning(): number {
    let longest = 0
    for (const stop of this.#stop) {
      for (let n = Math.min(stop.length - 1, this.#pending.length); n > longest; n--) {
        if (this.#pending.endsWith(stop.slice(0, n))) longest = n
      }
    }
    return longest
  }
}

/** Work starts at once and its pieces wait for their reader; a reader who leaves early stops it. */
export class TextStream implements AsyncIterable<Piece> {
  /** What generate gives; rejects with the signal's reason after an abort. Never an unhandled rejection. */
  readonly result: Promise<Generated>
  readonly #left = new AbortController()
  readonly #pieces: Piece[] = []
  #wakes: (() => void)[] = []
  #ended = false

  constructor(
    signal: AbortSignal | undefined,
    run: (emit: (piece: Piece) => void, signal: AbortSignal) => Promise<Generated>,
  ) {
    const either = signal ? AbortSignal.any([signal, this.#left.signal]) : this.#left.signal
    const emit = (piece: Piece) => {
      this.#pieces.push(piece)
      this.#wake()
    }
    this.result = run(emit, either).finally(() => {
      this.#ended = true
      this.#wake()
    })
    this.result.catch(() => {})
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    try {
      for (;;) {
        while (this.#pieces.length > 0) yield this.#pieces.shift() as Piece
        if (this.#ended) break
        await new Promise<void>((wake) => {
          this.#wakes.push(wake)
        })
      }
      await this.result // an error is the reader's too
    } finally {
      if (!this.#ended) {
        this.#left.abort()
        await this.result.catch(() => {})
      }
    }
  }
}
