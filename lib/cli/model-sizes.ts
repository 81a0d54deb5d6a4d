// Sizes of a model from its file alone, and what its cache takes in each type.
import { TokensieveError } from '../errors.js'
import type { DType, NativeFile } from '../native.js'

export interface CacheSizes {
  readonly layers: number
  readonly kvHeads: number
  readonly headSize: number
  /** Rows that a layer's attention sees at most, 0 for all. */
  readonly windows: readonly number[]
}

export interface ModelSizes extends CacheSizes {
  readonly heads: number
  readonly hiddenSize: number
  readonly feedForwardSize: number
  readonly vocabularySize: number
  readonly contextLength: number
}

export const KV_TYPES: readonly DType[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'kivi4', 'kivi2']

/** Bytes of one element; codes and their scales. */
const ELEMENT: Readonly<Record<DType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  q8_0: 34 / 32,
  q4_0: 18 / 32,
  kivi4: 20 / 32,
  kivi2: 12 / 32,
}

/** Rows that the kivi types hold in f16 behind their quantized ones. */
const KIVI_RESIDUAL = 128

export function readSizes(file: NativeFile): ModelSizes {
  const architecture = String(file.metadata('general.architecture') ?? '')
  const value = (key: string) => file.metadata(`${architecture}.${key}`)
  const size = (key: string, otherwise?: number): number => {
    const found = value(key) ?? otherwise
    if (typeof found !== 'number')
      throw new TokensieveError(
        'ERR_FILE_FORMAT',
        `[inspect] expected ${architecture || 'an architecture'}.${key} in the file, but there is none`,
      )
    return found
  }
  const layers = size('block_count')
  const heads = size('attention.head_count')
  const hiddenSize = size('embedding_length')
  return {
    layers,
    heads,
    kvHeads: size('attention.head_count_kv', heads),
    headSize: size('attention.key_length', hiddenSize / heads),
    hiddenSize,
    feedForwardSize: size('feed_forward_length'),
    vocabularySize: vocabularyOf(file, value('vocab_size')),
    contextLength: size('context_length'),
    windows: windowsOf(layers, value('attention.sliding_window'), value('attention.sliding_window_pattern')),
  }
}

function vocabularyOf(file: NativeFile, given: unknown): number {
  if (typeof given === 'number') return given
  const embedding = file.tensors().find(({ name }) => name === 'token_embd.weight')
  return Math.max(0, ...(embedding?.shape ?? []))
}

/** pattern: every n-th layer sees all, or a mark for each that slides. */
function windowsOf(layers: number, window: unknown, pattern: unknown): number[] {
  const slides = (layer: number): boolean => {
    if (pattern instanceof Float64Array) return pattern[layer] === 1
    return (layer + 1) % (typeof pattern === 'number' ? pattern : 6) !== 0
  }
  return Array.from({ length: layers }, (_, layer) =>
    typeof window === 'number' && window > 0 && slides(layer) ? window : 0,
  )
}

/** Bytes of a full cache of so many tokens. */
export function cacheBytes({ kvHeads, headSize, windows }: CacheSizes, type: DType, tokens: number): number {
  const row = (of: DType) => 2 * kvHeads * headSize * ELEMENT[of]
  const exact = type.startsWith('kivi') ? KIVI_RESIDUAL : 0
  return windows.reduce((sum, window) => {
    const rows = window > 0 ? Math.min(window, tokens) : tokens
    const residual = tokens === 1 ? 0 : Math.min(exact, rows)
    return sum + (rows - residual) * row(type) + residual * row('f16')
  }, 0)
}
