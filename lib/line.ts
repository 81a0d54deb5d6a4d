// Calls on one session run one after another. An abort or a close interrupts what runs and sends away what waits.
import { fromNative, TokensieveError } from './errors.js'

export class Line {
  readonly #interrupt: () => void
  readonly #leave = new Set<() => void>()
  #tail: Promise<void> = Promise.resolve()
  #closed = false

  /** interrupt: makes the work that is under way end soon, with an error. */
  constructor(interrupt: () => void) {
    this.#interrupt = interrupt
  }

  get busy(): boolean {
    return this.#leave.size > 0
  }

  open(): void {
    if (this.#closed) throw new TokensieveError('ERR_CLOSED', 'Expected an open session, but this one was closed')
  }

  /** Throws where a call has to end: the reason of an abort, or ERR_CLOSED. */
  check(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted()
    this.open()
  }

  /** Whatever an abort or a close led to: the reason is what the caller gets. */
  async run<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    this.check(signal)
    let begun = false
    let sendAway: () => void = () => {}
    const sentAway = new Promise<void>((done) => {
      sendAway = done
    })
    const leave = () => (begun ? this.#interrupt() : sendAway())
    signal?.addEventListener('abort', leave, { once: true })
    this.#leave.add(leave)
    const before = this.#tail
    let finish: () => void = () => {}
    const finished = new Promise<void>((done) => {
      finish = done
    })
    this.#tail = before.then(() => finished)
    try {
      await Promise.race([before, sentAway])
      this.check(signal)
      begun = true
      return await work()
    } catch (error) {
      this.check(signal)
      throw fromNative(error)
    } finally {
      signal?.removeEventListener('abort', leave)
      this.#leave.delete(leave)
      finish()
    }
  }

  /** Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#closed = true
    for (const leave of this.#leave) leave()
    await this.#tail
  }
}
