// Sizes of a model as methods and the cache see them.
import { freemem } from 'node:os'
import { rangeError, typeError } from './errors.js'
import { headsOf, type KvSettings } from './kv-heads.js'
import type { Shape, VisionShape } from './methods/method.js'
import type { DType, ModelConfig, NativeModel } from './native.js'

const PAGE = 32

/** What the pages of a head's first rows hold: few keys take half a page, few values no more than they are. */
function sinkRoom(sinks: number): readonly [keys: number, values: number] {
  if (sinks === 0) return [0, 0]
  const whole = Math.ceil(sinks / PAGE) * PAGE
  return sinks <= PAGE / 2 ? [PAGE / 2, sinks] : [whole, whole]
}

const QUANTIZED: readonly DType[] = ['q8_0', 'q4_0', 'kivi4', 'kivi2']

export function shapeOf(model: NativeModel, config: ModelConfig, kv: KvSettings, vision?: VisionShape): Shape {
  const { layers, heads, kvHeads, headSize, hiddenSize, normedKeys, windows } = config
  return Object.freeze({
    layers,
    heads,
    kvHeads,
    headSize,
    hiddenSize,
    windows,
    normedKeys,
    ...rowSizes(model, config, kv),
    ...(vision && { vision }),
  })
}

/** Means over all heads: of a row as it is stored, of one that was not quantized yet, and of what the rows that stay in float take more. */
function rowSizes(
  model: NativeModel,
  config: ModelConfig,
  kv: KvSettings,
): Pick<Shape, 'rowBytes' | 'newRowBytes' | 'floatBytes'> {
  const { kinds, of } = headsOf(kv, config)
  const sizes = kinds.map((kind) => {
    const { fresh, keys, recent, residual, sinks, values } = kind
    const row = model.rowBytes(keys, values)
    const packs = (type: DType) => QUANTIZED.includes(type) && type !== fresh && sinks + recent + residual > 0
    const open = (type: DType) => (packs(type) ? fresh : type)
    const newRow = model.rowBytes(open(keys), open(values))
    if (newRow === row) return [row, newRow, 0] as const
    const half = model.rowBytes('f16', 'f16') / 2
    const [keyRoom, valueRoom] = sinkRoom(sinks)
    const room = (packs(keys) ? keyRoom : 0) + (packs(values) ? valueRoom : 0)
    const newest = Math.ceil((recent + residual + 1) / PAGE) * PAGE
    const float = sinks + recent + residual + (PAGE - 1) / 2 // on average, when some of the newest wait for a group
    return [row, newRow, room * half + newest * newRow - float * row] as const
  })
  const heads = of.length > 0 ? [...of] : [0]
  const mean = (what: 0 | 1 | 2) => heads.reduce((sum, kind) => sum + (sizes[kind]?.[what] ?? 0), 0) / heads.length
  return { rowBytes: mean(0), newRowBytes: mean(1), floatBytes: mean(2) }
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
