// Where a command reads and writes, and what Ctrl-C does to it.
import type { Readable } from 'node:stream'

export interface Output {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

export interface Io {
  /** Results go to `out`, everything else to `err`. */
  readonly out: Output
  readonly err: Output
  readonly in: Readable & { readonly isTTY?: boolean }
  readonly interrupts: Interrupts
}

/** What a command is. `run` gives the exit code; nothing means 0. */
export interface Command {
  readonly help: string
  run(args: readonly string[], io: Io): Promise<number | undefined>
}

/** Ctrl-C: goes to the handler that took it last, else ends the command through its signal; a second one ends the program at once. */
export class Interrupts {
  readonly #end = new AbortController()
  #handlers: (() => void)[] = []

  get signal(): AbortSignal {
    return this.#end.signal
  }

  /** Until the returned function is called, Ctrl-C calls `handler` and nothing else. */
  take(handler: () => void): () => void {
    this.#handlers.push(handler)
    return () => {
      this.#handlers = this.#handlers.filter((other) => other !== handler)
    }
  }

  interrupt(): void {
    const handler = this.#handlers.at(-1)
    if (handler) handler()
    else this.end()
  }

  end(): void {
    if (this.signal.aborted) process.exit(130)
    this.#end.abort(new Error('interrupted'))
  }
}

const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const

/** Colours for a terminal; text as it is for a pipe, and where NO_COLOR asks for it. */
export function painter(output: Output): (style: keyof typeof CODES, text: string) => string {
  const { NO_COLOR, TERM } = process.env
  if (!output.isTTY || NO_COLOR || TERM === 'dumb') return (_, text) => text
  return (style, text) => `\x1b[${CODES[style]}m${text}\x1b[0m`
}

/** Columns that text should keep to: the terminal's, within reason; 80 in a pipe. */
export function widthOf(output: Output): number {
  return output.isTTY ? Math.max(40, Math.min(output.columns ?? 80, 100)) : 80
}
