// Methods as plain data, for saved sessions: a name and options, methods inside options likewise.
import { TokensieveError } from '../errors.js'
import { isMethod, type MethodFactory } from './define.js'
import { allLayers } from './grant.js'
import type { KeepOf, Method, Shape } from './method.js'

export interface PackedMethod {
  readonly method: string
  readonly options: Record<string, unknown>
}

/** What makes methods of a name from their options: a factory or a wrapper. */
export type Maker = (options: Record<string, unknown>) => Method

/** The method as data that JSON can hold. A `keepOf` that is a function is written out for the shape. */
export function packMethod(method: Method, shape: Shape): PackedMethod {
  const options = Object.entries(method.options).map(([name, value]) => [name, packValue(value, shape)])
  return { method: method.name, options: Object.fromEntries(options) }
}

function packValue(value: unknown, shape: Shape): unknown {
  if (isMethod(value)) return packMethod(value, shape)
  if (Array.isArray(value)) return value.map((one) => packValue(one, shape))
  if (typeof value !== 'function') return value
  const heads = Array.from({ length: shape.kvHeads }, (_, head) => head)
  return allLayers(shape).map((layer) => heads.map((head) => (value as KeepOf)(layer, head) ?? null))
}

/** The method again. `makers`: by name; ERR_UNSUPPORTED where one is missing. */
export function unpackMethod(packed: PackedMethod, makers: ReadonlyMap<string, Maker>): Method {
  const make = makers.get(packed.method)
  if (make === undefined)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `Expected \`methods\` among the options, since '${packed.method}' of the saved session is not built in`,
    )
  const options = Object.entries(packed.options).map(([name, value]) => [name, unpackValue(value, makers)])
  return make(Object.fromEntries(options))
}

function unpackValue(value: unknown, makers: ReadonlyMap<string, Maker>): unknown {
  if (Array.isArray(value)) return value.map((one) => unpackValue(one, makers))
  return isPacked(value) ? unpackMethod(value, makers) : value
}

function isPacked(value: unknown): value is PackedMethod {
  return typeof value === 'object' && value !== null && 'method' in value && 'options' in value
}

/** A factory as a maker: null, which JSON gives for a default that is derived, counts as missing. */
export function makerOf(factory: MethodFactory<never>): Maker {
  return (options) =>
    (factory as unknown as Maker)(Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)))
}
