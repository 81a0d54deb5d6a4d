// How a session's cache is stored: the types of both sides, what of a quantized one stays in float, and whether rows are rotated before they are quantized.
import { rangeError, typeError } from './errors.js'
import type { DType } from './native.js'

const TYPES: readonly string[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'kivi4', 'kivi2'] satisfies DType[]
const NAMES = ['keys', 'values', 'sinks', 'recent', 'residual', 'fresh', 'rotate']
const PLACES = ['layers', 'heads']
const GROUP = 32
const MOST_ROWS = 2 ** 16

/** How the rows of a head are stored: one type for both sides, or one each (default 'f16'). Of quantized types: */
export interface HeadKvOptions {
  readonly keys?: DType
  readonly values?: DType
  /** The first rows of every head that stay in f16; default 4 where a type has 4 or 2 bits, else 0. */
  readonly sinks?: number
  /** The newest rows that do, at least; older ones are quantized in groups of 32 when a call ends. Default 32 where a type has 4 or 2 bits, else 0. */
  readonly recent?: number
  /** Types kivi4 and kivi2 as in their paper, instead of `recent`: keys are quantized in blocks of so many rows, values beyond so many one by one. A multiple of 32. */
  readonly residual?: number
  /** What rows are stored as until they are quantized: a prompt while it is read, and then the newest rows. 'q8_0' takes half of the memory of 'f16', the default. */
  readonly fresh?: 'f16' | 'q8_0'
  /**
   * Rows go through the Hadamard transform before they are quantized, which spreads outliers over all channels (of kivi's keys, whose scales are each channel's own, nothing changes).
   * Default: true where a type is q4_0, heads have a power of two of numbers and no method re-packs positions; kivi's minima take care of outliers by themselves. Methods see what they
   * would see without.
   */
  readonly rotate?: boolean
}

/** Some layers or heads that are stored otherwise: what is not given here is as for the rest. */
export interface KvException extends HeadKvOptions {
  /** Layers [from, to), as slice takes them: negative ones count from the end, without `to` it is all from there on. Default: all. */
  readonly layers?: readonly [from: number, to?: number]
  /** KV heads of these layers; default: all. */
  readonly heads?: readonly number[]
}

/** How the cache is stored, and what of it is stored otherwise; where two exceptions name the same head, the later one holds. */
export interface KvOptions extends HeadKvOptions {
  readonly except?: readonly KvException[]
}

export type KvTypes = DType | KvOptions

/** Both types, and of the rest what was given. */
export interface KvGiven extends KvOptions {
  readonly keys: DType
  readonly values: DType
}

/** Of one head, nothing left out. */
export type HeadKv = Required<HeadKvOptions>

const WHAT = `one of ${TYPES.join(', ')}`

export function parseKv(given: unknown, name = 'kv'): KvGiven {
  if (given === undefined) return { keys: 'f16', values: 'f16' }
  if (typeof given !== 'object' || given === null) {
    const both = typeOf(given, name)
    return { keys: both, values: both }
  }
  if (Object.keys(given).some((key) => key !== 'except' && !NAMES.includes(key)))
    throw typeError(`${WHAT}, or { ${NAMES.join(', ')}, except }`, name, given)
  const { except, ...rest } = given as { readonly [key: string]: unknown }
  const base = { keys: 'f16', values: 'f16', ...headOf(rest, name) } as const
  checkRows(base, name)
  if (except === undefined) return base
  if (!Array.isArray(except))
    throw typeError('an array of { layers, heads, keys, values, … }', `${name}.except`, except)
  const exceptions = except.map((of: unknown, i) => exceptionOf(of, base, `${name}.except[${i}]`))
  return exceptions.length > 0 ? { ...base, except: exceptions } : base
}

/** What was given of a head, checked one by one. */
function headOf(given: { readonly [key: string]: unknown }, name: string): HeadKvOptions {
  const found: { [key: string]: unknown } = {}
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue
    if (key === 'keys' || key === 'values') typeOf(value, `${name}.${key}`)
    else if (key === 'fresh') checkFresh(value, name)
    else if (key !== 'rotate') checkCount(value, key, name)
    else if (typeof value !== 'boolean') throw typeError('true or false', `${name}.rotate`, value)
    found[key] = value
  }
  return found
}

function typeOf(value: unknown, name: string): DType {
  if (typeof value !== 'string' || !TYPES.includes(value)) throw typeError(WHAT, name, value)
  return value as DType
}

function checkFresh(value: unknown, name: string): void {
  if (value !== 'f16' && value !== 'q8_0') throw typeError('f16 or q8_0', `${name}.fresh`, value)
}

function checkCount(value: unknown, key: string, name: string): void {
  if (typeof value !== 'number') throw typeError('a number of rows', `${name}.${key}`, value)
  const step = key === 'residual' ? GROUP : 1
  if (!(value >= 0 && value <= MOST_ROWS && value % step === 0))
    throw rangeError(step > 1 ? `a multiple of ${step}` : 'a whole number from 0', `${name}.${key}`, value)
}

function checkRows(of: KvGiven, name: string): void {
  const { keys, recent = 0, residual = 0, values } = of
  if (residual > 0 && recent > 0) throw rangeError('`recent` or `residual`, not both,', name, of)
  if (residual > 0 && !keys.startsWith('kivi') && !values.startsWith('kivi'))
    throw typeError('kivi4 or kivi2 with a residual', `${name}.keys`, keys)
}

function exceptionOf(given: unknown, base: KvGiven, name: string): KvException {
  const known = [...PLACES, ...NAMES]
  if (typeof given !== 'object' || given === null || Object.keys(given).some((key) => !known.includes(key)))
    throw typeError(`{ ${known.join(', ')} }`, name, given)
  const { heads, layers, ...rest } = given as { readonly [key: string]: unknown }
  const whole = (value: unknown) => Number.isInteger(value)
  if (layers === undefined && heads === undefined) throw typeError('layers or heads', name, given)
  if (layers !== undefined && !(Array.isArray(layers) && [1, 2].includes(layers.length) && layers.every(whole)))
    throw typeError('[from, to] or [from]', `${name}.layers`, layers)
  if (heads !== undefined && !(Array.isArray(heads) && heads.length > 0 && heads.every(whole)))
    throw typeError('an array of KV heads', `${name}.heads`, heads)
  const own = headOf(rest, name)
  checkRows(mergedKv(base, own), name)
  return { ...(layers !== undefined && { layers }), ...(heads !== undefined && { heads }), ...own } as KvException
}

/** What an exception leaves out is as for the rest; a split of rows that its own types or its own split do not go with is not taken over. */
export function mergedKv({ except: _, ...base }: KvGiven, own: HeadKvOptions): KvGiven {
  const merged = { ...base, ...own }
  const kivi = merged.keys.startsWith('kivi') || merged.values.startsWith('kivi')
  const { recent, residual, ...others } = merged
  const splits = residual !== undefined && (own.residual !== undefined || (kivi && !own.recent))
  const holds = recent !== undefined && (own.recent !== undefined || !own.residual)
  return { ...others, ...(splits && { residual }), ...(holds && { recent }) }
}
