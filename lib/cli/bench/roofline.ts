// What a model asks of the machine, and so how fast it could be at best: operations at their peak, bytes at the speed of
// a plain read. Token dropping is held against the same arithmetic with fewer tokens.
import type { MachineLimits } from '../../kernels.js'
import type { KvGiven } from '../../kv.js'
import { completeKv, headsOf } from '../../kv-heads.js'
import type { ModelConfig } from '../../native.js'
import type { PlanEntry } from '../../plan.js'
import { rowBytes, storedBytes } from '../model-sizes.js'

/** Operations a second and bytes a second. */
export interface DeviceRates {
  readonly int8: number
  readonly bf16: number
  readonly f32: number
  readonly read: number
  /** Operations of a prompt's attention. */
  readonly attention: number
}

/** Of the processor; stages: of the devices that layers [from, to) run on, one after the other, where there are others. */
export interface Rates extends DeviceRates {
  readonly stages?: readonly { readonly layers: readonly [number, number]; readonly rates: DeviceRates }[]
}

/** Where prompts' attention is of int8, as its kernel chooses (native/kernels/attention.h), of caches without f32. */
const INT8_ATTENTION = ['avx512-vnni', 'avx512-vnni-bf16', 'neon-dotprod']

/** What most passes reached. Where there is no bf16 arithmetic, f32 does its work; where there is no int8, too. */
export function ratesOf(limits: MachineLimits): DeviceRates {
  const { f32, read } = limits
  const rate = (of: { median: number } | null) => of?.median ?? f32.median
  const [int8, bf16] = [rate(limits.int8), rate(limits.bf16)]
  const attention = INT8_ATTENTION.includes(limits.isa) ? int8 : bf16
  return { int8, bf16, f32: f32.median, read: read.median, attention }
}

/** The same of a card, whose products are of bf16 whatever the weights' type (kernels/matmul.h). */
export function cardRatesOf(limits: MachineLimits): DeviceRates {
  const rates = ratesOf(limits)
  return { ...rates, int8: rates.bf16, attention: rates.bf16 }
}

export type Arithmetic = 'int8' | 'bf16' | 'f32'

/** Operations of one token by the arithmetic that its weights take, and the bytes of these weights in the file. */
export type Weights = Record<Arithmetic | 'bytes', number>

export interface ModelWork {
  readonly config: Pick<ModelConfig, 'heads' | 'kvHeads' | 'headSize' | 'windows'>
  readonly layers: readonly Weights[]
  readonly head: Weights
}

export interface TensorShape {
  readonly name: string
  readonly type: string
  readonly shape: readonly number[]
}

/** Tensors by the names of GGUF, as an open file lists them. The embedding is read a row at a time, but as a whole where it is the head. */
export function workOf(config: ModelWork['config'], tensors: readonly TensorShape[]): ModelWork {
  const layers = config.windows.map(noWeights)
  const head = noWeights()
  const headName = tensors.some(({ name }) => name === 'output.weight') ? 'output.weight' : 'token_embd.weight'
  for (const tensor of tensors) {
    const { name } = tensor
    const layer = layers[Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? Number.NaN)]
    const to = name === headName ? head : layer
    if (to) addTensor(to, tensor)
  }
  return { config, layers, head }
}

export const noWeights = (): Weights => ({ int8: 0, bf16: 0, f32: 0, bytes: 0 })

/** A vector is read, and its arithmetic is left out. */
export function addTensor(to: Weights, { shape, type }: TensorShape): void {
  const count = shape.reduce((product, size) => product * size, 1)
  to.bytes += storedBytes(type, count)
  if (shape.length > 1) to[arithmeticOf(type)] += 2 * count
}

function arithmeticOf(type: string): Arithmetic {
  return type === 'f32' ? 'f32' : type === 'f16' || type === 'bf16' ? 'bf16' : 'int8'
}

export function seconds(weights: Weights, tokens: number, rates: DeviceRates): number {
  return tokens * (weights.int8 / rates.int8 + weights.bf16 / rates.bf16 + weights.f32 / rates.f32)
}

/** Pairs of a query and a key that it sees, of `tokens` in a row; window 0: all before it. */
function pairs(tokens: number, window: number): number {
  const whole = window === 0 ? tokens : Math.min(tokens, window)
  return (whole * (whole + 1)) / 2 + (tokens - whole) * whole
}

/** Two products of a head's width a pair, a multiply and an add each. */
function attentionOperations({ config }: ModelWork, layer: number, tokens: number): number {
  return 4 * config.heads * config.headSize * pairs(tokens, config.windows[layer] ?? 0)
}

function stagesOf({ layers }: ModelWork, rates: Rates): NonNullable<Rates['stages']> {
  return rates.stages ?? [{ layers: [0, layers.length], rates }]
}

/** Seconds of a prompt at best, without logits: of each stage. tokens: that run in each layer. */
export function prefillSeconds(work: ModelWork, tokens: (layer: number) => number, rates: Rates): number {
  return stagesOf(work, rates).reduce((sum, { layers: [from, to], rates: own }) => {
    let compute = 0
    let bytes = 0
    for (const [i, weights] of work.layers.slice(from, to).entries()) {
      const count = tokens(from + i)
      compute += seconds(weights, count, own) + attentionOperations(work, from + i, count) / own.attention
      bytes += weights.bytes
    }
    return sum + Math.max(compute, bytes / own.read)
  }, 0)
}

/** Operations of a prompt, without logits. */
export function prefillOperations(work: ModelWork, tokens: (layer: number) => number): number {
  return work.layers.reduce((sum, { bf16, f32, int8 }, layer) => {
    const count = tokens(layer)
    return sum + count * (int8 + bf16 + f32) + attentionOperations(work, layer, count)
  }, 0)
}

export type Kv = KvGiven

/** Bytes that a decode step reads of one session's cache. rows: live ones of a KV head in each layer; of layers [from, to). */
export function cacheBytesRead(
  { config }: ModelWork,
  rows: (layer: number) => number,
  kv: Kv,
  [from, to]: readonly [number, number] = [0, config.windows.length],
): number {
  const { headSize, kvHeads, windows } = config
  const heads = { headSize, kvHeads, layers: windows.length }
  const { kinds, of } = headsOf(completeKv(kv, heads, false), heads)
  const row = kinds.map((kind) => rowBytes(headSize, kind))
  return windows.slice(from, to).reduce((sum, window, i) => {
    const layer = from + i
    const own = Array.from({ length: kvHeads }, (_, head) => row[of[layer * kvHeads + head] ?? 0] ?? 0)
    return sum + own.reduce((a, b) => a + b) * (window > 0 ? Math.min(window, rows(layer)) : rows(layer))
  }, 0)
}

/** Bytes of all weights, the head and the cache. */
export function decodeBytes(work: ModelWork, rows: (layer: number) => number, kv: Kv): number {
  return [...work.layers, work.head].reduce((sum, { bytes }) => sum + bytes, cacheBytesRead(work, rows, kv))
}

/** Seconds of a decode step at best: all weights, the head and the cache are read once; the weights serve every session of the batch. */
export function decodeSeconds(
  work: ModelWork,
  rows: (layer: number) => number,
  kv: Kv,
  rates: Rates,
  sessions = 1,
): number {
  const stages = stagesOf(work, rates)
  return stages.reduce((sum, { layers, rates: own }, stage) => {
    const all = [...work.layers.slice(...layers), ...(stage === stages.length - 1 ? [work.head] : [])]
    const cache = sessions * cacheBytesRead(work, rows, kv, layers)
    const bytes = all.reduce((sum, one) => sum + one.bytes, cache)
    const compute = all.reduce((sum, one) => sum + seconds(one, sessions, own), 0)
    return sum + Math.max(bytes / own.read, compute)
  }, 0)
}

/** Rows of a prompt of `tokens` that run in each layer under what a session's plan dropped and merged, and let pass all of it by. */
export function tokensByLayer(plan: readonly PlanEntry[], tokens: number, layers: number): number[] {
  const cuts = plan.filter(({ action }) => action === 'drop' || action === 'merge')
  return Array.from({ length: layers }, (_, layer) => {
    const last = cuts.filter((entry) => entry.layer <= layer).sort((a, b) => a.layer - b.layer)
    const pass = plan.find(({ action, layer: of, what }) => action === 'pass' && what === 'block' && of === layer)
    return (last.at(-1)?.after ?? tokens) - (pass ? pass.before - pass.after : 0)
  })
}

/** By how much time grows from one size to the next: 1 is linear, 2 is quadratic. */
export function exponents(sizes: readonly number[], times: readonly number[]): number[] {
  return sizes.map((size, i) => {
    const before = sizes[i - 1]
    if (before === undefined) return Number.NaN
    return Math.log((times[i] as number) / (times[i - 1] as number)) / Math.log(size / before)
  })
}
