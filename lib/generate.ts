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

/** step: the next token. room: whether one more fits. */
export async function generate(
  tokenizer: Tokenizer,
  { maxTokens, stop, ignoreEnd, logprobs, signal }: Sampling,
  step: () => Promise<Step>,
  room: () => boolean,
  emit: (piece: Piece) => void,
): Promise<Omit<Generated, 'stats'>> {
  const decoder = tokenizer.streamDecoder()
  const ids: number[] = []
  const probabilities: number[] = []
  const held = new Held(stop)
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
    const text = held.push(decoder.push([id]))
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
  #pieces: Piece[] = []
  #wake: () => void = () => {}
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

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    try {
      for (;;) {
        while (this.#pieces.length > 0) yield this.#pieces.shift() as Piece
        if (this.#ended) break
        await new Promise<void>((wake) => {
          this.#wake = wake
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
