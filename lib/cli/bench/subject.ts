// What every section of the benchmark measures with: a model with its arithmetic, the machine's limits, the same tokens.
import { basename } from 'node:path'
import { fromNative } from '../../errors.js'
import { kernels, type MachineLimits, type Rate } from '../../kernels.js'
import type { Model } from '../../model.js'
import { native } from '../../native.js'
import type { Session } from '../../session.js'
import { median } from '../format.js'
import { type Io, painter } from '../io.js'
import { type Context, type Ids, idsOf } from './context.js'
import { cardRatesOf, type ModelWork, type Rates, ratesOf, workOf } from './roofline.js'

export interface Subject {
  readonly model: Model
  readonly work: ModelWork
  readonly name: string
  readonly file: string
  /** Prompts: the same for all sessions, which therefore take nothing from each other (`reuse: false`). */
  readonly ids: Ids
}

export async function subjectOf(model: Model, path: string, context: Context): Promise<Subject> {
  const file = await native()
    .open(path)
    .catch((error: unknown) => {
      throw fromNative(error)
    })
  try {
    const named = { name: model.config.name ?? basename(path), file: basename(path) }
    return { model, work: workOf(model.config, file.tensors()), ...named, ids: idsOf(model, context) }
  } finally {
    file.close()
  }
}

/** The limits of the machine, and of the cards that models run on, over the whole run: a neighbour's minute must not be all that it knows. */
export class Meter {
  readonly #isa: string
  readonly #threads: number
  readonly #seen: Map<string, MachineLimits[]>
  #last = Number.NEGATIVE_INFINITY

  constructor(isa: string, threads: number) {
    this.#isa = isa
    this.#threads = threads
    this.#seen = new Map([[isa, []]])
  }

  /** The cards of this model are measured too from here on. */
  watch({ stages }: Model): void {
    for (const device of cardsOf(stages)) if (!this.#seen.has(device)) this.#seen.set(device, [])
  }

  /** Between short runs it is not worth the time. */
  async measure(): Promise<void> {
    if (performance.now() - this.#last < 3000 && [...this.#seen.values()].every(({ length }) => length > 0)) return
    for (const [backend, seen] of this.#seen) seen.push(await kernels.limits({ backend, threads: this.#threads }))
    this.#last = performance.now()
  }

  get limits(): MachineLimits {
    return joined(this.#seen.get(this.#isa) ?? [])
  }

  get cards(): Record<string, MachineLimits> {
    const cards = [...this.#seen].filter(([name]) => name !== this.#isa)
    return Object.fromEntries(cards.map(([name, seen]) => [name, joined(seen)]))
  }

  ratesOf({ stages }: Model): Rates {
    const rates = ratesOf(this.limits)
    if (cardsOf(stages).length === 0) return rates
    const { cards } = this
    const own = (device: string) => (cards[device] ? cardRatesOf(cards[device]) : rates)
    return { ...rates, stages: stages.map(({ device, layers }) => ({ layers, rates: own(device) })) }
  }
}

/** Devices of stages that are not the processor. */
export function cardsOf(stages: Model['stages']): string[] {
  return stages.flatMap(({ device }) => (device === 'cpu' ? [] : [device]))
}

/** Medians of medians, and the best of all. */
export function joined(all: readonly MachineLimits[]): MachineLimits {
  const [first] = all
  if (!first) throw new Error('expected limits that were measured')
  const rate = (of: (one: MachineLimits) => Rate | null): Rate | null => {
    const rates = all.flatMap((one) => of(one) ?? [])
    if (rates.length === 0) return null
    return { median: median(rates.map((one) => one.median)), best: Math.max(...rates.map(({ best }) => best)) }
  }
  const { isa, threads } = first
  const read = rate((one) => one.read) as Rate
  const f32 = rate((one) => one.f32) as Rate
  return { isa, threads, read, int8: rate((one) => one.int8), bf16: rate((one) => one.bf16), f32 }
}

/** Milliseconds of each of `count` tokens that a session generates behind `next`, after `warm` that are not told. */
export async function stepTimes(session: Session, next: Int32Array, count: number, warm: number): Promise<number[]> {
  const times: number[] = []
  let last = performance.now()
  const options = { maxTokens: warm + count, temperature: 0, ignoreEnd: true }
  for await (const { ids } of session.stream(next, options)) {
    const now = performance.now()
    for (let i = 0; i < ids.length; i++) times.push((now - last) / ids.length)
    last = now
  }
  return times.slice(warm)
}

/** A line that replaces the last one on a terminal; nothing in a pipe. '' clears it. */
export function progress(io: Io, text: string): void {
  io.interrupts.signal.throwIfAborted()
  if (io.err.isTTY) io.err.write(`\r\x1b[K${painter(io.err)('dim', text)}`)
}
