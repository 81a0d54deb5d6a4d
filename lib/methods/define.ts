// defineMethod: the one way to make a method, for those of the package as for a user's own.
import type { Budget } from '../budget.js'
import { typeError } from '../errors.js'
import type { Definition, MethodFactory } from './definition.js'
import { makeGrant } from './grant.js'
import { completeLooks, type LookAsked } from './looks.js'
import type { Acts, Decision, KeepOf, Method, MethodInfo, Shape } from './method.js'
import { asOption, type Declared, parseOptions, type Values } from './options.js'

export type { Definition, MethodFactory, MethodLike } from './definition.js'
export type { Grant } from './grant.js'
export type { LookAsked } from './looks.js'

const made = new WeakSet<object>()
const factories = new WeakSet<object>()
const origins = new WeakMap<Method, unknown>()

/** A method of your own, with the same contract as the built-in ones: returns a function of its options. */
export function defineMethod<const D extends Declared = Record<never, never>>(
  definition: Definition<D>,
): MethodFactory<D> {
  const { name, decide, looks } = definition
  if (typeof name !== 'string' || name === '') throw typeError('a name', 'name', name)
  if (typeof decide !== 'function') throw typeError('a function', `decide of ${name}`, decide)
  if (looks === undefined || looks === null) throw typeError('where the method looks', `looks of ${name}`, looks)
  const declared = Object.freeze({ ...(definition.options ?? {}) }) as D
  const factory = (given?: unknown): Method => {
    const options = parseOptions(name, declared, given)
    definition.check?.(options)
    const method = makeMethod(definition, options)
    origins.set(method, factory)
    return method
  }
  factories.add(factory)
  const info = Object.freeze({
    name,
    title: definition.title ?? name,
    paper: definition.paper ?? '',
    acts: actsOf(definition, parseOptions(name, declared, {})),
    options: describe(declared),
  })
  return Object.freeze(
    Object.defineProperties(factory, { name: { value: name }, info: { value: info } }),
  ) as unknown as MethodFactory<D>
}

function describe(declared: Declared): MethodInfo['options'] {
  const entries = Object.entries(declared).map(([name, entry]) => {
    const { default: preset, about } = asOption(name, entry)
    return [name, Object.freeze({ default: isMethod(preset) ? `methods.${preset.name}()` : preset, about })] as const
  })
  return Object.freeze(Object.fromEntries(entries))
}

function actsOf<D extends Declared>({ acts }: Definition<D>, options: Values<D>): Acts {
  return typeof acts === 'function' ? acts(options) : acts
}

/** A method of options that are checked already: what factories and wrappers come to. */
export function makeMethod<D extends Declared>(definition: Definition<D>, options: Values<D>, keepOf?: KeepOf): Method {
  const { name, repack } = definition
  const own = definition.keepAt ?? ((given: Values<D>) => (given as { keep?: Budget }).keep ?? 1)
  const grant = makeGrant((shape, layer, head) => keepOf?.(layer, head) ?? own(options, shape, layer))
  const asked = (shape: Shape) =>
    typeof definition.looks === 'function' ? definition.looks(shape, options, grant) : definition.looks
  const ranking = definition.ranking?.(options)
  const takesKeep = definition.takesKeep ?? 'keep' in options
  const method: Method = {
    name,
    label: definition.label?.(options) ?? name,
    acts: actsOf(definition, options),
    options,
    repack: typeof repack === 'function' ? repack(options) : (repack ?? false),
    looks: (shape) => completeLooks([asked(shape)].flat() as LookAsked[], shape, name),
    decide: (seen) => [definition.decide(seen, options, grant) ?? []].flat() as Decision[],
    ...(takesKeep && {
      withKeep: (other: KeepOf) =>
        definition.withKeep?.(options, other) ??
        makeMethod(definition, options, (layer, head) => other(layer, head) ?? keepOf?.(layer, head)),
    }),
    ...(ranking && { ranking }),
  }
  made.add(method)
  if (keepOf) origins.set(method, keepOf)
  return Object.freeze(method)
}

/** The factory that made it, or the budgets that it was given afterwards; undefined for wrappers. */
export function originOf(method: Method): unknown {
  return origins.get(method)
}

export function isMethod(value: unknown): value is Method {
  return typeof value === 'object' && value !== null && made.has(value)
}

/** A method: one that was made, or a factory, which stands for its defaults. */
export function asMethod(value: unknown, name = 'methods'): Method {
  if (typeof value === 'function' && factories.has(value)) return (value as MethodFactory)()
  if (isMethod(value)) return value
  throw typeError('a method such as methods.snapkv()', name, value)
}
