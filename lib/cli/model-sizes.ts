// Sizes of a model from its file alone, and what its cache takes in each type.
import { TokensieveError } from '../errors.js'
import { parseKv } from '../kv.js'
import { completeKv, packedRows } from '../kv-heads.js'
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

/** Bytes of a block of weights and elements in it, as GGUF stores them. */
const STORED: Readonly<Record<string, readonly [bytes: number, elements: number]>> = {
  f32: [4, 1],
  f16: [2, 1],
  bf16: [2, 1],
  q8_0: [34, 32],
  q4_0: [18, 32],
  q4_1: [20, 32],
  q5_0: [22, 32],
  q5_1: [24, 32],
  q4_k: [144, 256],
  q5_k: [176, 256],
  q6_k: [210, 256],
}

/** Bytes of so many weights in a file; NaN where the type is unknown. */
export function storedBytes(type: string, elements: number): number {
  const [block = Number.NaN, size = 1] = STORED[type] ?? []
  return (elements / size) * block
}

/** Bytes of one row of one KV head, both sides. */
export function rowBytes(headSize: number, { keys, values }: { keys: DType; values: DType }): number {
  return headSize * (ELEMENT[keys] + ELEMENT[values])
}

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

/** Bytes of a full cache of so many tokens; of one: what each adds once there are many. */
export function cacheBytes({ kvHeads, headSize, windows }: CacheSizes, type: DType, tokens: number): number {
  const row = (of: DType) => 2 * kvHeads * headSize * ELEMENT[of]
  const kv = completeKv(parseKv(type), { layers: windows.length, kvHeads, headSize }, false)
  return windows.reduce((sum, window) => {
    const rows = window > 0 ? Math.min(window, tokens) : tokens
    const float = tokens === 1 ? 0 : rows - packedRows(rows, kv)
    return sum + (rows - float) * row(type) + float * row('f16')
  }, 0)
}
