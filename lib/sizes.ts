// Sizes of a model as methods and the cache see them.
import { freemem } from 'node:os'
import { rangeError, typeError } from './errors.js'
import type { KvGiven } from './kv.js'
import type { Shape, VisionShape } from './methods/method.js'
import type { ModelConfig, NativeModel } from './native.js'

export function shapeOf(model: NativeModel, config: ModelConfig, kv: KvGiven, vision?: VisionShape): Shape {
  const { layers, heads, kvHeads, headSize, hiddenSize, windows } = config
  return Object.freeze({
    layers,
    heads,
    kvHeads,
    headSize,
    hiddenSize,
    windows,
    rowBytes: model.rowBytes(kv.keys, kv.values),
    ...(vision && { vision }),
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
