// Commands run inside the test's process, with streams that are kept.
import { Readable } from 'node:stream'
import { Interrupts } from '../lib/cli/io.js'
import { run } from '../lib/cli/program.js'

export interface Ran {
  code: number
  out: string
  err: string
}

export interface RunOptions {
  readonly input?: string | Readable
  /** As on a terminal of so many columns. */
  readonly columns?: number
  readonly interrupts?: Interrupts
  /** Called for every piece of stdout. */
  readonly seen?: (text: string) => void
}

export async function cli(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { input = '', columns, interrupts = new Interrupts(), seen } = options
  const ran: Ran = { code: -1, out: '', err: '' }
  const terminal = columns === undefined ? {} : { isTTY: true, columns }
  const out = {
    ...terminal,
    write(text: string) {
      ran.out += text
      seen?.(text)
    },
  }
  const err = {
    ...terminal,
    write(text: string) {
      ran.err += text
    },
  }
  const stdin = typeof input === 'string' ? Readable.from([input]) : input
  ran.code = await run(args, { out, err, in: stdin, interrupts })
  return ran
}
