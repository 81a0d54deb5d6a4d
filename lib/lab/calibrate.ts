// calibrate: the strongest budget that keeps the next-token distributions of sample prompts near the full cache's.
import { rangeError, typeError } from '../errors.js'
import { type KvTypes, parseKv } from '../kv.js'
import { kvText } from '../kv-text.js'
import { methods as all, type MethodLike } from '../methods/index.js'
import type { Model } from '../model.js'
import { optionsOf } from '../settings.js'
import { checkTarget, writeWhole } from '../text-file.js'
import { type Calibration, modelNamed, type Tried } from './calibration.js'
import { type CompareOptions, compare } from './compare.js'
import { CHANCE, FULL, type Mix, mixOf, NEWEST, packedMix } from './contenders.js'
import type { Row } from './summary.js'
import type { SamplePrompt } from './tasks/index.js'

export interface CalibrateOptions extends Pick<CompareOptions, 'keep' | 'kv' | 'onProgress' | 'signal' | 'text'> {
  /** The mean divergence, in nats a token, that the prompts may come to. */
  readonly quality: { readonly maxKl: number }
  /** Text like that which the sessions will read: prompts, or windows of one text. */
  readonly prompts?: readonly (string | SamplePrompt)[]
  /** Default: h2o and snapkv. */
  readonly methods?: readonly (MethodLike | Mix)[]
  /** Windows of `text`: their length in tokens and how many; default 512 and 3. */
  readonly length?: number
  readonly seeds?: number
  /** Where to write the JSON too. */
  readonly file?: string
}

const OPTIONS = [
  'quality',
  'prompts',
  'text',
  'methods',
  'keep',
  'kv',
  'length',
  'seeds',
  'file',
  'onProgress',
  'signal',
]
const KEEP = [0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0625]

/**
 * Tries methods at budgets on sample prompts and picks the smallest cache whose mean divergence from the full one stays within `quality.maxKl`.
 * The result is plain data; `model.session({ quality: result })` uses it.
 */
export async function calibrate(model: Model, options: CalibrateOptions): Promise<Calibration> {
  optionsOf(options, OPTIONS)
  const {
    file,
    keep = KEEP,
    kv = ['f16'],
    length = 512,
    onProgress,
    prompts,
    quality,
    seeds = 3,
    signal,
    text,
  } = options
  const { maxKl } = optionsOf(quality, ['maxKl'])
  if (typeof maxKl !== 'number') throw typeError('a number of nats', 'quality.maxKl', maxKl)
  if (!(maxKl >= 0)) throw rangeError('a number from 0', 'quality.maxKl', maxKl)
  if ((prompts === undefined) === (text === undefined)) throw typeError('either prompts or a text', 'prompts', prompts)
  await checkTarget(file)
  const mixes = (options.methods ?? [all.h2o(), all.snapkv()]).map(mixOf)
  const { rows } = await compare(model, {
    methods: mixes,
    keep,
    kv,
    question: 'after',
    ...(text === undefined
      ? { tasks: ['prompts'], prompts: (prompts ?? []).map((one) => (typeof one === 'string' ? { prompt: one } : one)) }
      : { tasks: ['text'], text, lengths: [length], seeds }),
    ...(onProgress && { onProgress }),
    ...(signal && { signal }),
  })
  const tried = rows
    .filter(({ method }) => method !== CHANCE && method !== NEWEST)
    .sort((a, b) => a.share - b.share || a.kl.mean - b.kl.mean)
  const found = resultOf(model, tried, mixes, kv, maxKl)
  if (file !== undefined) await writeWhole(file, `${JSON.stringify(found, null, 2)}\n`)
  return found
}

function resultOf(
  model: Model,
  rows: readonly Row[],
  mixes: readonly Mix[],
  kvs: readonly KvTypes[],
  maxKl: number,
): Calibration {
  const best = rows.find(({ kl, method }) => kl.mean <= maxKl || method === FULL) as Row
  const mix = mixes.find(({ name }) => name === best.method)
  const types = kvs.find((one) => kvText(one) === best.kv) ?? 'f16'
  const tried: Tried[] = rows.map(({ keep, kl, kv, method, share }) => ({ method, keep, kv, share, kl }))
  return {
    kind: 'tokensieve-calibration',
    version: 1,
    model: modelNamed(model.config),
    quality: { maxKl },
    methods: mix ? packedMix(mix, best.keep, model.config) : [],
    kv: parseKv(types),
    share: best.share,
    kl: best.kl,
    tried,
  }
}
