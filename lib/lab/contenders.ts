// Who is compared: the full cache as ceiling, chance and the newest rows as floors, and methods at every budget.
import { typeError } from '../errors.js'
import type { KvTypes } from '../kv.js'
import { kvText } from '../kv-text.js'
import {
  methods as all,
  asMethod,
  type Method,
  type MethodLike,
  type PackedMethod,
  packMethod,
} from '../methods/index.js'
import type { ModelConfig } from '../native.js'

/** Methods that act together under one name; `sweep: false` keeps the budgets they have. */
export interface Mix {
  readonly name: string
  readonly methods: readonly MethodLike[]
  readonly sweep?: boolean
}

export interface Contender {
  readonly method: string
  /** The budget that was set; null where the methods keep their own. */
  readonly keep: number | null
  /** KEYS/VALUES, or one word for both. */
  readonly kv: string
  readonly types: KvTypes
  /** Methods of a session; chance depends on the seed. */
  methods(seed: number): readonly Method[]
}

export const FULL = 'full'
export const CHANCE = 'random'
export const NEWEST = 'recent'

/** The methods with another budget, those that take one. */
export function withKeep(method: Method, keep: number): Method {
  return method.withKeep ? method.withKeep(() => keep) : method
}

const floors: readonly { name: string; at(keep: number, seed: number): Method }[] = [
  { name: CHANCE, at: (keep, seed) => all.random({ keep, seed }) },
  { name: NEWEST, at: (keep) => all.recent({ keep }) },
]

/** The ceiling first, then the floors, then the rest; every budget of one name in a row. */
export function contendersOf(
  given: readonly unknown[],
  keeps: readonly number[],
  kvs: readonly KvTypes[],
): Contender[] {
  const mixes = given.map(mixOf)
  const named = new Set([FULL, CHANCE, NEWEST])
  for (const { name } of mixes) {
    if (named.has(name)) throw typeError('names that differ', 'methods', name)
    named.add(name)
  }
  return kvs.flatMap((types, i) => {
    const kv = kvText(types)
    const full: Contender = { method: FULL, keep: 1, kv, types, methods: () => [] }
    // The ceiling is the first type's; with another type it is one more contender.
    const ceiling = i === 0 ? [] : [full]
    const low = floors.flatMap(({ at, name }) =>
      keeps.map((keep) => ({ method: name, keep, kv, types, methods: (seed: number) => [at(keep, seed)] })),
    )
    return [...ceiling, ...low, ...mixes.flatMap((mix) => swept(mix, keeps, kv, types))]
  })
}

function swept(
  { methods, name, sweep = true }: Mix,
  keeps: readonly number[],
  kv: string,
  types: KvTypes,
): Contender[] {
  const made = methods.map((one) => asMethod(one))
  if (!sweep || !made.some((one) => one.withKeep)) return [{ method: name, keep: null, kv, types, methods: () => made }]
  return keeps.map((keep) => {
    const at = made.map((one) => withKeep(one, keep))
    return { method: name, keep, kv, types, methods: () => at }
  })
}

export function mixOf(given: unknown): Mix {
  if (typeof given === 'object' && given !== null && Array.isArray((given as Mix).methods)) {
    const { methods, name, sweep } = given as Mix
    if (typeof name !== 'string' || name === '') throw typeError('a name', 'methods.name', name)
    return { name, methods: methods.map((one) => asMethod(one)), ...(sweep !== undefined && { sweep }) }
  }
  const method = asMethod(given)
  return { name: method.label, methods: [method] }
}

/** The methods of a mix at a budget, as data. */
export function packedMix({ methods, sweep = true }: Mix, keep: number | null, config: ModelConfig): PackedMethod[] {
  const shape = { ...config, rowBytes: 0 }
  return methods.map((one) => {
    const method = asMethod(one)
    if (!sweep || keep === null || !method.withKeep) return packMethod(method, shape)
    const packed = packMethod(method, shape)
    if ('keep' in packed.options) return { ...packed, options: { ...packed.options, keep } }
    const even = Array.from({ length: config.layers }, () => keep)
    return { method: 'perLayer', options: { method: packed, keepOf: even } }
  })
}
