// Sizes of a model as methods and the cache see them.
import { freemem } from 'node:os'
import { rangeError, typeError } from './errors.js'
import type { Shape } from './methods/method.js'
import type { DType, ModelConfig, NativeModel } from './native.js'

const TYPES: readonly string[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'kivi4', 'kivi2'] satisfies DType[]

/** How the cache is stored: one type for both sides, or one each. */
export type KvTypes = DType | { readonly keys?: DType; readonly values?: DType }

export function parseKv(given: unknown, name = 'kv'): { keys: DType; values: DType } {
  const what = `one of ${TYPES.join(', ')}`
  const one = (value: unknown, of: string): DType => {
    if (typeof value !== 'string' || !TYPES.includes(value)) throw typeError(what, of, value)
    return value as DType
  }
  if (given === undefined) return { keys: 'f16', values: 'f16' }
  if (typeof given !== 'object' || given === null) return { keys: one(given, name), values: one(given, name) }
  for (const key of Object.keys(given)) {
    if (key !== 'keys' && key !== 'values') throw typeError(`${what}, or { keys, values }`, name, given)
  }
  const { keys = 'f16', values = 'f16' } = given as { keys?: unknown; values?: unknown }
  return { keys: one(keys, `${name}.keys`), values: one(values, `${name}.values`) }
}

export function shapeOf(model: NativeModel, config: ModelConfig, kv: { keys: DType; values: DType }): Shape {
  const { layers, heads, kvHeads, headSize, hiddenSize, windows } = config
  return Object.freeze({
    layers,
    heads,
    kvHeads,
    headSize,
    hiddenSize,
    windows,
    rowBytes: model.rowBytes(kv.keys, kv.values),
  })
}

/** The context asked for; by default the model's own, as far as half of the free memory holds a full cache of it. */
export function contextOf(given: unknown, config: ModelConfig, shape: Shape): number {
  if (given === undefined) {
    const fits = Math.floor(freemem() / 2 / (shape.rowBytes * shape.layers * shape.kvHeads))
    return Math.max(1, Math.min(config.contextLength, Math.max(fits, 512)))
  }
  if (typeof given !== 'number') throw typeError('a number of tokens', 'contextLength', given)
  if (!(Number.isInteger(given) && given >= 1 && given <= 2 ** 30))
    throw rangeError('a whole number from 1', 'contextLength', given)
  return given
}

/** Bytes that a full cache of so many tokens takes in f16; a sliding layer holds no more than its window. */
export function fullBytes(config: ModelConfig, tokens: number): number {
  const row = config.kvHeads * config.headSize * 2 * 2
  return config.windows.reduce((sum, window) => sum + row * (window > 0 ? Math.min(window, tokens) : tokens), 0)
}
