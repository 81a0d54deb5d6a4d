// What each KV head of a model stores its rows as: defaults filled in, exceptions placed.
import { rangeError, TokensieveError } from './errors.js'
import { type HeadKv, type KvException, type KvGiven, mergedKv } from './kv.js'
import type { DType, ModelConfig, SessionOptions as NativeOptions } from './native.js'

const COARSE: readonly DType[] = ['q4_0', 'kivi4', 'kivi2']
const GROUP = 32

/** Of a cache with 4- or 2-bit types: the first rows, whose outliers would ruin the scales that others share, and the newest ones, which are read most. */
const SINKS = 4
const RECENT = 32

type Heads = Pick<ModelConfig, 'layers' | 'kvHeads' | 'headSize'>

/** With all defaults, and exceptions that name their layers from the beginning. */
export interface KvSettings extends HeadKv {
  readonly except?: readonly (HeadKv & {
    readonly layers: readonly [number, number]
    readonly heads?: readonly number[]
  })[]
}

/** repack: keys are stored un-rotated and turn with their slots, which a Hadamard transform does not go with. */
export function completeKv(given: KvGiven, config: Heads, repack: boolean): KvSettings {
  const base = completeHead(given, config, repack)
  if (!given.except) return base
  const except = given.except.map((one, i) => {
    const { heads, layers, ...own } = one
    const place = { layers: layersOf(one, config, `kv.except[${i}]`), ...(heads && { heads: [...heads] }) }
    return { ...place, ...completeHead(mergedKv(given, own), config, repack) }
  })
  return { ...base, except }
}

function layersOf({ heads = [], layers = [0] }: KvException, config: Heads, name: string): readonly [number, number] {
  const place = (layer: number) => (layer < 0 ? config.layers + layer : layer)
  const [first, end = config.layers] = layers
  const [from, to] = [place(first), place(end)]
  if (!(from >= 0 && from < to && to <= config.layers))
    throw rangeError(`some of the layers [0, ${config.layers}]`, `${name}.layers`, JSON.stringify(layers))
  for (const head of heads)
    if (!(head >= 0 && head < config.kvHeads))
      throw rangeError(`KV heads below ${config.kvHeads}`, `${name}.heads`, head)
  return [from, to]
}

function completeHead(given: KvGiven, { headSize }: Heads, repack: boolean): HeadKv {
  const { keys, residual = 0, values } = given
  const coarse = residual === 0 && [keys, values].some((type) => COARSE.includes(type))
  const size = headSize >= 16 && headSize <= 256 && Number.isInteger(Math.log2(headSize))
  const turns = size && !repack && [keys, values].includes('q4_0')
  const { fresh = 'f16', recent = coarse ? RECENT : 0, rotate = turns, sinks = coarse ? SINKS : 0 } = given
  if (rotate && !(size && !repack)) {
    const came = size ? 'a method with positions that are re-packed' : `heads of ${headSize}`
    const said = `[session] expected heads of a power of two up to 256 whose positions are kept for \`kv.rotate\`, but received ${came}`
    throw new TokensieveError('ERR_UNSUPPORTED', said)
  }
  return { keys, values, sinks, recent, residual, fresh, rotate }
}

/** Ways to store rows, each once, and which of them every head has: [layers × kvHeads]; empty where all have the first. */
export function headsOf(
  { except = [], ...base }: KvSettings,
  { kvHeads, layers }: Heads,
): { kinds: HeadKv[]; of: Int32Array } {
  if (except.length === 0) return { kinds: [base], of: new Int32Array(0) }
  const all = new Array<HeadKv>(layers * kvHeads).fill(base)
  for (const { heads, layers: place, ...kind } of except) {
    for (let layer = place[0]; layer < place[1]; layer++) {
      for (const head of heads ?? Array(kvHeads).keys()) all[layer * kvHeads + head] = kind
    }
  }
  const places = new Map<string, number>()
  const kinds: HeadKv[] = []
  const of = Int32Array.from(all, (kind) => {
    const { fresh, keys, recent, residual, rotate, sinks, values } = kind
    const name = JSON.stringify([keys, values, sinks, recent, residual, fresh, rotate])
    if (!places.has(name)) places.set(name, kinds.push(kind) - 1)
    return places.get(name) ?? 0
  })
  return { kinds, of: kinds.length > 1 ? of : new Int32Array(0) }
}

/** Of a head's rows, those that are quantized between calls; a type that is quantized row by row has no others. */
export function packedRows(rows: number, { recent, sinks }: HeadKv): number {
  if (sinks + recent === 0) return rows
  const lead = sinks % GROUP // the first group is so much smaller
  return Math.max(0, Math.floor((rows - sinks - recent + lead) / GROUP) * GROUP - lead)
}

/** As native takes them: a side is rotated where its scales are shared by channels, which those of kivi's keys are not. */
export function nativeKv(settings: KvSettings, config: Heads): Pick<NativeOptions, 'kv' | 'kvOf'> {
  const { kinds, of } = headsOf(settings, config)
  const kv = kinds.map(({ rotate, ...kind }) => {
    const spreads = (type: DType, types: readonly DType[]) => rotate && types.includes(type)
    const hadamardKeys = spreads(kind.keys, ['q8_0', 'q4_0'])
    return { ...kind, hadamardKeys, hadamardValues: spreads(kind.values, ['q8_0', 'q4_0', 'kivi4', 'kivi2']) }
  })
  return { kv, kvOf: of }
}
