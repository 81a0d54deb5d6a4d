// From what -m names to a loaded model: pulled on first use, with a bar while it takes long.

import { existsSync } from 'node:fs'
import cliProgress from 'cli-progress'
import { TokensieveError } from '../errors.js'
import { load, type Model } from '../model.js'
import { pull, resolveModel } from '../pull.js'
import { numberOf, type Options, type Parsed, textOf } from './arguments.js'
import { bytes, wrap } from './format.js'
import { type Io, painter, widthOf } from './io.js'

export const DEFAULT_MODEL = 'smollm2'
/** Where there are pictures: it comes with the package. */
export const PICTURE_MODEL = 'vlm'

export const MODEL_OPTIONS = {
  model: { type: 'string', short: 'm' },
  threads: { type: 'string' },
  vision: { type: 'string' },
} satisfies Options

export const MODEL_HELP = `
  -m, --model MODEL      a GGUF file, a folder with safetensors, or a name that "pull" knows;
                         default ${DEFAULT_MODEL}, pulled on first use; ${PICTURE_MODEL} where pictures are given
      --vision FILE      its vision tower; default: the one beside it, where there is one
      --threads N        default: physical cores; results do not depend on it`

export async function openModel(
  parsed: Parsed,
  io: Io,
  otherwise = DEFAULT_MODEL,
): Promise<{ model: Model; path: string }> {
  const threads = numberOf(parsed, 'threads', { min: 1, max: 1024, whole: true })
  const path = await findModel(textOf(parsed, 'model') ?? otherwise, io)
  const vision = textOf(parsed, 'vision')
  const device = textOf(parsed, 'device')
  const { signal } = io.interrupts
  const bar = new Bar(io, 'loading')
  try {
    const onProgress = ({ done, total }: { done: number; total: number }) => bar.show(done, total)
    const given = {
      ...(threads !== undefined && { threads }),
      ...(vision !== undefined && { vision }),
      ...(device !== undefined && { device }),
    }
    const model = await load(path, { ...given, onProgress, signal })
    return { model, path }
  } finally {
    bar.stop()
  }
}

/** The path of a model, pulled where it is a name and not there yet. */
export async function findModel(name: string, io: Io): Promise<string> {
  try {
    const path = resolveModel(name)
    if (path !== name || existsSync(path)) return path
  } catch (error) {
    if (!(error instanceof TokensieveError && error.code === 'ERR_FILE_NOT_FOUND')) throw error
    return pullWithBar(name, io)
  }
  throw new TokensieveError(
    'ERR_FILE_NOT_FOUND',
    `[model] expected a file, a folder or a name such as ${DEFAULT_MODEL}, but there is no ${name}`,
  )
}

export async function pullWithBar(name: string, io: Io): Promise<string> {
  const bar = new Bar(io, `pulling ${name}`)
  let announced = false
  try {
    return await pull(name, {
      signal: io.interrupts.signal,
      onProgress({ done, total, what, notice }) {
        if (notice) io.err.write(`${wrap(notice, widthOf(io.err))}\n`)
        if (!announced && !io.err.isTTY) io.err.write(`pulling ${what}, ${bytes(total)}\n`)
        announced = true
        bar.show(done, total)
      },
    })
  } finally {
    bar.stop()
  }
}

/** A progress bar on a terminal for what takes longer than `patience` milliseconds, nothing in a pipe; gone when it is done. */
export class Bar {
  readonly #io: Pick<Io, 'err'>
  readonly #what: string
  #bar: cliProgress.SingleBar | undefined
  #stopped = false
  readonly #from: number

  constructor(io: Pick<Io, 'err'>, what: string, patience = 200) {
    this.#io = io
    this.#what = what
    this.#from = performance.now() + patience
  }

  show(done: number, total: number): void {
    const { err } = this.#io
    if (!err.isTTY || this.#stopped || performance.now() < this.#from) return // a last message may come late
    if (!this.#bar) {
      const paint = painter(err)
      const format = `${this.#what} ${paint('cyan', '{bar}')} {percentage}% of ${bytes(total)}`
      const stream = err as NodeJS.WriteStream
      const look = { format, stream, barsize: 30, barCompleteChar: '█', barIncompleteChar: '░' }
      this.#bar = new cliProgress.SingleBar({
        ...look,
        clearOnComplete: true,
        hideCursor: true,
        linewrap: null,
        gracefulExit: false,
      })
      this.#bar.start(total, done)
    }
    this.#bar.update(done)
  }

  stop(): void {
    this.#stopped = true
    this.#bar?.stop()
  }
}
