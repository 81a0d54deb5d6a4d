// Options of methods: declared once with default, meaning and check; every misuse is one sentence that names the option.
import { type Budget, parseBudget } from '../budget.js'
import { rangeError, typeError } from '../errors.js'

export interface Option<T> {
  readonly default: T
  readonly about: string
  parse(value: unknown, name: string): T
}

/** Declared options: {@link Option}s, or plain values that are the default and give the type. */
export type Declared = Record<string, unknown>

/** What declared options come to: `{ keep: Budget, window: number, … }`. */
export type Values<D extends Declared> = {
  readonly [K in keyof D]: D[K] extends Option<infer T> ? T : K extends 'keep' ? Budget : Widened<D[K]>
}
type Widened<T> = T extends number ? number : T extends string ? string : T extends boolean ? boolean : T

export const keep: Option<Budget> = Object.freeze({
  default: 0.5,
  about: 'budget: a share, { tokens } or { bytes }',
  parse: (value: unknown, name: string) => parseBudget(value, name),
})

/** A whole number within [min, max]. */
export function whole(preset: number, about: string, min = 0, max = Number.MAX_SAFE_INTEGER): Option<number> {
  const what = max === Number.MAX_SAFE_INTEGER ? `a whole number from ${min}` : `a whole number from ${min} to ${max}`
  return {
    default: preset,
    about,
    parse(value, name) {
      if (typeof value !== 'number') throw typeError(what, name, value)
      if (!(Number.isInteger(value) && value >= min && value <= max)) throw rangeError(what, name, value)
      return value
    },
  }
}

/** A number within [min, max]. */
export function real(preset: number, about: string, min: number, max: number): Option<number> {
  const what = `a number from ${min} to ${max}`
  return {
    default: preset,
    about,
    parse(value, name) {
      if (typeof value !== 'number') throw typeError(what, name, value)
      if (!(value >= min && value <= max)) throw rangeError(what, name, value)
      return value
    },
  }
}

/** One of a few words. */
export function word<const W extends string>(preset: NoInfer<W>, words: readonly W[], about: string): Option<W> {
  return {
    default: preset,
    about: `${about}: ${words.join(' or ')}`,
    parse(value, name) {
      const found = words.find((known) => known === value)
      if (found === undefined) throw typeError(`one of ${words.join(', ')}`, name, value)
      return found
    },
  }
}

/** A list; null, where that is the default, stands for what the method derives from the model. */
export function list<T, P extends readonly T[] | null>(
  item: Option<T>,
  preset: P,
  about: string,
): Option<readonly T[] | P> {
  return {
    default: preset,
    about,
    parse(value, name) {
      if (!Array.isArray(value)) throw typeError('an array', name, value)
      return Object.freeze(value.map((one, i) => item.parse(one, `${name}[${i}]`)))
    },
  }
}

/** KV heads, each as [layer, head]. */
export function headList(about: string): Option<readonly (readonly number[])[]> {
  const pair: Option<readonly number[]> = {
    default: [],
    about,
    parse(value, name) {
      if (!Array.isArray(value) || value.length !== 2) throw typeError('[layer, KV head]', name, value)
      return Object.freeze(value.map((one, i) => whole(0, about).parse(one, `${name}[${i}]`)))
    },
  }
  return list(pair, [] as readonly (readonly number[])[], about)
}

/** Layers that are named, each once. */
export function layerList<P extends readonly number[] | null>(
  preset: P,
  about: string,
  min = 0,
): Option<readonly number[] | P> {
  const any = list(whole(0, '', min), preset, about)
  return {
    ...any,
    parse(value, name) {
      const layers = any.parse(value, name)
      if (new Set(layers).size !== layers?.length) throw rangeError('each layer once', name, layers?.join(', '))
      return layers
    },
  }
}

export function isOption(value: unknown): value is Option<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    'default' in value &&
    'parse' in value &&
    typeof value.parse === 'function'
  )
}

/** The option that a plain default stands for: a value of the same type; a budget where it is called `keep`. */
export function asOption(name: string, declared: unknown): Option<unknown> {
  if (isOption(declared)) return declared
  if (name === 'keep') return { ...keep, default: parseBudget(declared, name) }
  const kind = Array.isArray(declared) ? 'array' : typeof declared
  return {
    default: declared,
    about: '',
    parse(value, name) {
      if ((Array.isArray(value) ? 'array' : typeof value) !== kind)
        throw typeError(/^[ao]/.test(kind) ? `an ${kind}` : `a ${kind}`, name, value)
      if (Number.isNaN(value)) throw rangeError('a number', name, value)
      return value
    },
  }
}

/** Options as given, checked against what is declared; frozen. A missing or undefined one takes its default. */
export function parseOptions<D extends Declared>(method: string, declared: D, given: unknown): Values<D> {
  if (given !== undefined && (typeof given !== 'object' || given === null || Array.isArray(given)))
    throw typeError('an object', `options of ${method}`, given)
  const values = new Map(Object.entries(given ?? {}))
  const parsed: Record<string, unknown> = {}
  for (const [name, entry] of Object.entries(declared)) {
    const option = asOption(name, entry)
    const value = values.get(name)
    parsed[name] = value === undefined ? option.default : option.parse(value, name)
    values.delete(name)
  }
  for (const unknown of values.keys())
    throw typeError(`one of ${Object.keys(declared).join(', ') || 'no options'}`, `options of ${method}`, unknown)
  return Object.freeze(parsed) as Values<D>
}
