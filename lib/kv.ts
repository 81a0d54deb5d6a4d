// How a session's cache is stored: the types of both sides, what of a quantized one stays in float, and whether rows are rotated before they are quantized.
import { rangeError, TokensieveError, typeError } from './errors.js'
import type { DType, ModelConfig } from './native.js'

const TYPES: readonly string[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'kivi4', 'kivi2'] satisfies DType[]
const COARSE: readonly DType[] = ['q4_0', 'kivi4', 'kivi2']
const NAMES = ['keys', 'values', 'sinks', 'recent', 'residual', 'rotate']
const GROUP = 32
const MOST_ROWS = 2 ** 16

/** Of a cache with 4- or 2-bit types: the first rows, whose outliers would ruin the scales that others share, and the newest ones, which are read most. */
const SINKS = 4
const RECENT = 32

/** How the cache is stored: one type for both sides, or one each (default 'f16'). Of quantized types: */
export interface KvOptions {
  readonly keys?: DType
  readonly values?: DType
  /** The first rows of every head that stay in f16; default 4 where a type has 4 or 2 bits, else 0. */
  readonly sinks?: number
  /** The newest rows that do, at least; older ones are quantized in groups of 32 when a call ends. Default 32 where a type has 4 or 2 bits, else 0. */
  readonly recent?: number
  /** Types kivi4 and kivi2 as in their paper, instead of `recent`: keys are quantized in blocks of so many rows, values beyond so many one by one. A multiple of 32. */
  readonly residual?: number
  /**
   * Rows go through the Hadamard transform before they are quantized, which spreads outliers over all channels (of kivi's keys, whose scales are each channel's own, nothing changes).
   * Default: true where a type is q4_0, heads have a power of two of numbers and no method re-packs positions; kivi's minima take care of outliers by themselves. Methods see what they
   * would see without.
   */
  readonly rotate?: boolean
}

export type KvTypes = DType | KvOptions

/** Both types, and of the rest what was given. */
export interface KvGiven extends KvOptions {
  readonly keys: DType
  readonly values: DType
}

export type KvSettings = Required<KvOptions>

export function parseKv(given: unknown, name = 'kv'): KvGiven {
  const what = `one of ${TYPES.join(', ')}`
  const one = (value: unknown, of: string): DType => {
    if (typeof value !== 'string' || !TYPES.includes(value)) throw typeError(what, of, value)
    return value as DType
  }
  if (given === undefined) return { keys: 'f16', values: 'f16' }
  if (typeof given !== 'object' || given === null) return { keys: one(given, name), values: one(given, name) }
  if (Object.keys(given).some((key) => !NAMES.includes(key)))
    throw typeError(`${what}, or { ${NAMES.join(', ')} }`, name, given)
  const { keys = 'f16', rotate, values = 'f16', ...rows } = given as { readonly [key: string]: unknown }
  if (rotate !== undefined && typeof rotate !== 'boolean') throw typeError('true or false', `${name}.rotate`, rotate)
  const types = { keys: one(keys, `${name}.keys`), values: one(values, `${name}.values`) }
  return { ...types, ...rowsOf(rows, types, name), ...(rotate !== undefined && { rotate }) }
}

function rowsOf(given: { readonly [key: string]: unknown }, { keys, values }: KvGiven, name: string): KvOptions {
  const rows: { [key: string]: number } = {}
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue
    if (typeof value !== 'number') throw typeError('a number of rows', `${name}.${key}`, value)
    const step = key === 'residual' ? GROUP : 1
    if (!(value >= 0 && value <= MOST_ROWS && value % step === 0))
      throw rangeError(step > 1 ? `a multiple of ${step}` : 'a whole number from 0', `${name}.${key}`, value)
    rows[key] = value
  }
  const { recent = 0, residual = 0 } = rows
  if (residual > 0 && recent > 0) throw rangeError('`recent` or `residual`, not both,', name, given)
  if (residual > 0 && !keys.startsWith('kivi') && !values.startsWith('kivi'))
    throw typeError('kivi4 or kivi2 with a residual', `${name}.keys`, keys)
  return rows
}

/** With all defaults. repack: keys are stored un-rotated and turn with their slots, which a Hadamard transform does not go with. */
export function completeKv(given: KvGiven, { headSize }: Pick<ModelConfig, 'headSize'>, repack: boolean): KvSettings {
  const { keys, residual = 0, values } = given
  const coarse = residual === 0 && [keys, values].some((type) => COARSE.includes(type))
  const size = headSize >= 16 && headSize <= 256 && Number.isInteger(Math.log2(headSize))
  const turns = size && !repack && [keys, values].includes('q4_0')
  const { recent = coarse ? RECENT : 0, rotate = turns, sinks = coarse ? SINKS : 0 } = given
  if (rotate && !(size && !repack)) {
    const came = size ? 'a method with positions that are re-packed' : `heads of ${headSize}`
    const said = `[session] expected heads of a power of two up to 256 whose positions are kept for \`kv.rotate\`, but received ${came}`
    throw new TokensieveError('ERR_UNSUPPORTED', said)
  }
  return { keys, values, sinks, recent, residual, rotate }
}

/** Of a head's rows, those that are quantized between calls; a type that is quantized row by row has no others. */
export function packedRows(rows: number, { recent, sinks }: KvSettings): number {
  if (sinks + recent === 0) return rows
  const lead = sinks % GROUP // the first group is so much smaller
  return Math.max(0, Math.floor((rows - sinks - recent + lead) / GROUP) * GROUP - lead)
}

/** As native takes them: a side is rotated where its scales are shared by channels, which those of kivi's keys are not. */
export function nativeKv({ rotate, ...kv }: KvSettings): Omit<KvSettings, 'rotate'> & {
  hadamardKeys: boolean
  hadamardValues: boolean
} {
  const spreads = (type: DType, side: 'keys' | 'values') =>
    rotate && (side === 'keys' ? ['q8_0', 'q4_0'] : ['q8_0', 'q4_0', 'kivi4', 'kivi2']).includes(type)
  return { ...kv, hadamardKeys: spreads(kv.keys, 'keys'), hadamardValues: spreads(kv.values, 'values') }
}
