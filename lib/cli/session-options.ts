// Options that say how a session caches, what is dropped in it and how it draws: the same for every command that runs a model.
import { readFileSync } from 'node:fs'
import { TokensieveError } from '../errors.js'
import type { KvTypes } from '../kv.js'
import { parseKvText } from '../kv-text.js'
import type { Calibration } from '../lab/index.js'
import { asMethod, type Method, methods, type Preset } from '../methods/index.js'
import type { GenerateOptions } from '../sampling.js'
import type { SessionOptions } from '../settings.js'
import { numberOf, type Options, type Parsed, textOf, textsOf, UsageError } from './arguments.js'
import { METHOD_HELP, parseMethod } from './method-option.js'

export const SESSION_OPTIONS = {
  method: { type: 'string', multiple: true },
  kv: { type: 'string' },
  quality: { type: 'string' },
  preset: { type: 'string' },
  heads: { type: 'string' },
  context: { type: 'string' },
} satisfies Options

export const SESSION_HELP = `
      --method METHOD    thins tokens or cache rows; may be repeated
      --quality FILE     what "calibrate" found, instead of methods
      --preset NAME      light, balanced or small, instead of methods and --kv
      --heads JSON       [[layer, KV head], …] that a preset keeps whole: what retrievalHeads finds
      --kv TYPE          how the cache is stored: f32 f16 bf16 q8_0 q4_0 kivi4 kivi2, or
                         KEYS/VALUES such as q8_0/q4_0; default f16. Options follow a colon,
                         layers that are stored otherwise an @: q4_0:recent=64@0..2=q8_0
      --context N        tokens that fit; default: the model's own, as far as memory holds them`

export { METHOD_HELP }

export function sessionOptions(parsed: Parsed): SessionOptions {
  const contextLength = numberOf(parsed, 'context', { min: 1, whole: true })
  const room = contextLength === undefined ? {} : { contextLength }
  const file = textOf(parsed, 'quality')
  const preset = textOf(parsed, 'preset')
  if (file === undefined && preset === undefined) return { methods: methodsOf(parsed), kv: kvOf(parsed), ...room }
  if (textsOf(parsed, 'method').length > 0 || (file !== undefined && preset !== undefined))
    throw new UsageError('Expected --preset, --quality or --method, not both of them')
  const kv = textOf(parsed, 'kv') === undefined ? {} : { kv: kvOf(parsed) }
  const given = file === undefined ? presetOf(preset, textOf(parsed, 'heads')) : { quality: readCalibration(file) }
  return { ...given, ...kv, ...room }
}

function presetOf(name: string | undefined, heads: string | undefined): Preset {
  try {
    return methods.preset(name as 'balanced', heads === undefined ? {} : { heads: JSON.parse(heads) })
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
    throw new UsageError(`Expected [[layer, KV head], …] for --heads but received ${heads}`)
  }
}

function readCalibration(path: string): Calibration {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Calibration // the session looks at what it is
  } catch (cause) {
    const code = cause instanceof SyntaxError ? 'ERR_FILE_FORMAT' : 'ERR_FILE_NOT_FOUND'
    throw new TokensieveError(code, `[quality] expected what "calibrate" wrote: ${(cause as Error).message}`, { cause })
  }
}

export function methodsOf(parsed: Parsed): Method[] {
  return textsOf(parsed, 'method').map((text) => asMethod(parseMethod(text)))
}

export function kvOf(parsed: Parsed): KvTypes {
  return parseKvText(textOf(parsed, 'kv') ?? 'f16')
}

export const SAMPLING_OPTIONS = {
  'max-tokens': { type: 'string', short: 'n' },
  temperature: { type: 'string' },
  'top-k': { type: 'string' },
  'top-p': { type: 'string' },
  'min-p': { type: 'string' },
  'repeat-penalty': { type: 'string' },
  seed: { type: 'string' },
  stop: { type: 'string', multiple: true },
} satisfies Options

export const SAMPLING_HELP = `
  -n, --max-tokens N     default 128
      --temperature T    default 0: the likeliest token
      --top-k K  --top-p P  --min-p P  --repeat-penalty R
      --seed N           default 1: same seed, same text
      --stop TEXT        ends before this text; may be repeated`

export function samplingOptions(parsed: Parsed): GenerateOptions {
  const whole = { min: 0, whole: true }
  const share = { min: 0, max: 1 }
  return {
    maxTokens: numberOf(parsed, 'max-tokens', whole) ?? 128,
    temperature: numberOf(parsed, 'temperature', { min: 0, max: 100 }) ?? 0,
    topK: numberOf(parsed, 'top-k', whole),
    topP: numberOf(parsed, 'top-p', share),
    minP: numberOf(parsed, 'min-p', share),
    repeatPenalty: numberOf(parsed, 'repeat-penalty', { min: 0.01, max: 100 }),
    seed: numberOf(parsed, 'seed', whole) ?? 1,
    stop: textsOf(parsed, 'stop'),
  }
}
