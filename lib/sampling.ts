// Options of a generation.
import { rangeError, typeError } from './errors.js'
import type { SamplerOptions } from './native.js'

export interface GenerateOptions {
  /** Tokens to generate at most; default: as many as the context has rows. */
  readonly maxTokens?: number
  /** 0 (the default) takes the likeliest token. */
  readonly temperature?: number
  /** Draw among the k likeliest; 0: all. */
  readonly topK?: number
  /** Draw among the fewest tokens that hold this share of the probability. */
  readonly topP?: number
  /** Draw among tokens at least this share as likely as the likeliest. */
  readonly minP?: number
  /** Above 1: the last 64 tokens become less likely. */
  readonly repeatPenalty?: number
  /** Same seed, same text. Default: a random one. */
  readonly seed?: number
  /** Texts that end the generation; they are not part of it. */
  readonly stop?: readonly string[]
  /** Go on after an end token. */
  readonly ignoreEnd?: boolean
  /** Also give the log-probability of each token. */
  readonly logprobs?: boolean
  readonly signal?: AbortSignal
}

/** Options, checked and complete: what native samples by, and where a generation ends. */
export interface Sampling extends SamplerOptions {
  maxTokens?: number
  stop: readonly string[]
  ignoreEnd: boolean
  logprobs: boolean
  signal?: AbortSignal
}

const RANGES: Record<string, readonly [number, number, whole: boolean]> = {
  maxTokens: [0, Number.MAX_SAFE_INTEGER, true],
  temperature: [0, 100, false],
  topK: [0, 2 ** 30, true],
  topP: [0, 1, false],
  minP: [0, 1, false],
  repeatPenalty: [0.01, 100, false],
  seed: [0, Number.MAX_SAFE_INTEGER, true],
}

const PRESETS: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repeatPenalty: 1,
  seed: 0,
  stop: [],
  ignoreEnd: false,
  logprobs: false,
}

const KNOWN = ['maxTokens', ...Object.keys(PRESETS), 'signal']

export function parseSampling(given: unknown = {}): Sampling {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw typeError('an object', 'options', given)
  const options = { ...PRESETS, seed: Math.floor(Math.random() * 2 ** 48) }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    if (!KNOWN.includes(name)) throw typeError(`one of the options ${KNOWN.join(', ')}`, 'options', name)
    check(name, value)
    Object.assign(options, { [name]: value })
  }
  return options
}

function check(name: string, value: unknown): void {
  const range = RANGES[name]
  if (range) {
    const [min, max, whole] = range
    if (typeof value !== 'number') throw typeError('a number', name, value)
    if (!(value >= min && value <= max && (!whole || Number.isInteger(value))))
      throw rangeError(`a${whole ? ' whole' : ''} number from ${min} to ${max}`, name, value)
  } else if (name === 'stop') {
    if (!Array.isArray(value) || value.some((text) => typeof text !== 'string' || text === ''))
      throw typeError('an array of texts', name, value)
  } else if (name === 'signal') checkSignal(value)
  else if (typeof value !== 'boolean') throw typeError('true or false', name, value)
}

export function checkSignal(value: unknown): asserts value is AbortSignal | undefined {
  if (value !== undefined && !(value instanceof AbortSignal)) throw typeError('an AbortSignal', 'signal', value)
}
