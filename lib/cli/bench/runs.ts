// Speeds of prompts and of generated tokens, with and without methods, in rounds that take turns.
import { kvText } from '../../kv-text.js'
import type { Method } from '../../methods/index.js'
import type { SessionStats } from '../../stats.js'
import { median } from '../format.js'
import type { Io } from '../io.js'
import {
  decodeBytes,
  decodeSeconds,
  type Kv,
  prefillOperations,
  prefillSeconds,
  type Rates,
  tokensByLayer,
} from './roofline.js'
import { type Meter, progress, type Subject, stepTimes } from './subject.js'

export interface Setting {
  readonly method: string
  readonly methods: readonly Method[]
  readonly kv: Kv
}

export interface Wanted {
  readonly prompt: readonly number[]
  readonly decode: readonly number[]
  readonly rounds: number
  readonly settings: readonly Setting[]
}

/** One line of the table. Rates are tokens a second. */
export interface Run {
  readonly model: string
  readonly what: 'prefill' | 'decode'
  readonly tokens: number
  readonly method: string
  readonly kv: string
  readonly median: number
  readonly best: number
  readonly unit: 'tokens/s'
  /** Of the whole prompt, or of one generated token. */
  readonly ms: number
  /** What the machine's limits allow for the rows that ran, and the median's share of it. */
  readonly limit: number
  readonly share: number
  /** Of a model with layers on cards: operations (prefill) or bytes (decode) a second. */
  readonly achieved?: number
  /** Against no method in the same rounds: how much faster, and how much the arithmetic of what is left promises. */
  readonly speedup?: number
  readonly ideal?: number
  /** Of the prompt's time, spent in methods. */
  readonly decide?: number
  readonly kvBytes: number
  readonly rss: number
}

const STEPS = 32 // decode steps a round, after a few that warm up
const WARM = 4

type What = Run['what']

/** All that was measured of one line of the table. */
interface Sample {
  readonly what: What
  readonly tokens: number
  readonly setting: Setting
  /** Milliseconds a token. */
  readonly times: number[]
  readonly decide: number[]
  /** Rows that ran (prefill) or are read (decode) in each layer. */
  rows: number[]
  kvBytes: number
  rss: number
}

export async function measureRuns(subject: Subject, wanted: Wanted, meter: Meter, io: Io): Promise<Run[]> {
  const { decode, prompt, rounds, settings } = wanted
  const lengths = [...new Set([...prompt, ...decode])].sort((a, b) => a - b)
  const samples: Sample[] = []
  for (const what of ['prefill', 'decode'] as const)
    for (const tokens of what === 'prefill' ? prompt : decode)
      for (const setting of settings)
        samples.push({ what, tokens, setting, times: [], decide: [], rows: [], kvBytes: 0, rss: 0 })
  const of = (tokens: number, setting: Setting) => (what: What) =>
    samples.find((one) => one.what === what && one.tokens === tokens && one.setting === setting)
  for (const setting of settings) await oneRun(subject, setting, lengths[0] ?? 2, () => undefined)
  await meter.measure()
  let done = 0
  for (let round = 0; round < rounds; round++) {
    for (const tokens of lengths)
      for (const setting of settings) {
        const of_ = rounds * lengths.length * settings.length
        progress(io, `${subject.file}: run ${++done} of ${of_}: ${tokens} tokens, method ${setting.method}`)
        await oneRun(subject, setting, tokens, of(tokens, setting))
      }
    await meter.measure()
  }
  progress(io, '')
  return samples.map((sample) => runOf(sample, samples, subject, meter.ratesOf(subject.model)))
}

/** One session: `tokens` are read, then some are generated, each where there is a sample for it. */
async function oneRun(
  { ids, model }: Subject,
  { kv, methods }: Setting,
  tokens: number,
  sample: (what: What) => Sample | undefined,
): Promise<void> {
  const session = model.session({ kv, methods, reuse: false, contextLength: tokens + WARM + STEPS + 1 })
  const note = (line: Sample, times: readonly number[]) => {
    line.times.push(...times)
    line.kvBytes = session.stats.kv.bytes
    line.rss = Math.max(line.rss, process.memoryUsage.rss())
  }
  try {
    const start = performance.now()
    await session.forward([{ ids: ids(tokens), droppable: true }], { logits: 'none' })
    const time = performance.now() - start
    const prefill = sample('prefill')
    if (prefill) {
      note(prefill, [time / tokens])
      prefill.decide.push(session.stats.time.decide / time)
      prefill.rows = tokensByLayer(session.plan, tokens, model.config.layers)
    }
    const decode = sample('decode')
    if (!decode) return
    decode.rows = rowsByLayer(session.stats)
    note(decode, await stepTimes(session, ids(tokens + 1).slice(tokens), STEPS, WARM))
  } finally {
    await session.close()
  }
}

function rowsByLayer({ kv }: SessionStats): number[] {
  return kv.layers.map(({ rows }) => rows.reduce((a, b) => a + b, 0) / rows.length)
}

function runOf(sample: Sample, all: readonly Sample[], { file, work }: Subject, rates: Rates): Run {
  const { decide, kvBytes, rows, rss, setting, times, tokens, what } = sample
  const { kv, method } = setting
  const rate = (time: number) => rounded(1000 / time)
  const time = median(times)
  const least = ({ rows: ran, setting: { kv: types } }: Sample) =>
    what === 'prefill'
      ? prefillSeconds(work, (layer) => ran[layer] ?? 0, rates) / tokens
      : decodeSeconds(work, (layer) => ran[layer] ?? 0, types, rates)
  const limit = 1 / least(sample)
  const own = (layer: number) => rows[layer] ?? 0
  const done = what === 'prefill' ? prefillOperations(work, own) / tokens : decodeBytes(work, own, kv)
  const full = all.find(
    (one) => one.what === what && one.tokens === tokens && one.setting.kv === kv && one.setting.methods.length === 0,
  )
  const against =
    full && full !== sample
      ? {
          speedup: rounded(median(full.times) / time),
          ideal: rounded(least(full) / least(sample)),
          ...(what === 'prefill' && { decide: rounded(median(decide)) }),
        }
      : {}
  return {
    ...{ model: file, what, tokens, method, kv: kvText(kv) },
    ...{ median: rate(time), best: rate(Math.min(...times)), unit: 'tokens/s' as const },
    ms: rounded(time * (what === 'prefill' ? tokens : 1)),
    limit: rounded(limit),
    share: rounded(1000 / time / limit),
    ...(rates.stages && { achieved: rounded((1000 * done) / time) }),
    ...against,
    kvBytes,
    rss,
  }
}

function rounded(value: number): number {
  return Number(value.toPrecision(5))
}
