// defineMethod: the one way to make a method, for those of the package as for a user's own.
import type { Budget } from '../budget.js'
import { typeError } from '../errors.js'
import { allLayers, checkLayer, type Grant, makeGrant } from './grant.js'
import type {
  Acts,
  CacheNeed,
  Decision,
  KeepOf,
  LayerNeed,
  Look,
  Method,
  MethodInfo,
  Ranking,
  Seen,
  Shape,
} from './method.js'
import { asOption, type Declared, parseOptions, type Values } from './options.js'

/** A {@link Look} as a method may write it: without `layers` it is all of them, without `needs` it is none. */
export type LookAsked =
  | { at: 'session' }
  | { at: 'layer'; layer: number; needs?: readonly LayerNeed[] }
  | { at: 'prompt'; layers?: readonly number[]; needs?: readonly CacheNeed[] }
  | { at: 'decode'; every?: number; layers?: readonly number[]; needs?: readonly CacheNeed[] }

export type { Grant } from './grant.js'

export interface Definition<D extends Declared> {
  readonly name: string
  readonly title?: string
  /** arXiv id of the source. */
  readonly paper?: string
  readonly acts: Acts | ((options: Values<D>) => Acts)
  /** Options with their defaults: plain values, or {@link Option}s with a check of their own. One called `keep` is the budget. */
  readonly options?: D
  /** What options must satisfy together; throws TypeError or RangeError. */
  check?(options: Values<D>): void
  readonly looks:
    | LookAsked
    | readonly LookAsked[]
    | ((shape: Shape, options: Values<D>, grant: Grant) => LookAsked | readonly LookAsked[])
  decide(seen: Seen, options: Values<D>, grant: Grant): Decision | readonly Decision[] | undefined | null
  /** True where surviving cache rows are to be renumbered. */
  readonly repack?: boolean | ((options: Values<D>) => boolean)
  /** The budget where `keep` alone does not say it. */
  keepAt?(options: Values<D>, shape: Shape, layer: number): Budget
  ranking?(options: Values<D>): Ranking | undefined
  /** For wrappers: how the names inside show. */
  label?(options: Values<D>): string
  /** For wrappers: passes other budgets on; undefined where what is inside takes none. */
  withKeep?(options: Values<D>, keepOf: KeepOf): Method | undefined
}

/** What makes a method from options; stands for itself with the defaults where a method is expected. */
export interface MethodFactory<D extends Declared = Declared> {
  (options?: { readonly [K in keyof Values<D>]?: Values<D>[K] | undefined }): Method
  readonly info: MethodInfo
}

const made = new WeakSet<object>()
const factories = new WeakSet<object>()

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
    return makeMethod(definition, options)
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
    const { default: preset, about } = asOption(entry)
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
  const takesKeep = definition.withKeep
    ? definition.withKeep(options, () => undefined) !== undefined
    : 'keep' in options || definition.keepAt !== undefined
  const method: Method = {
    name,
    label: definition.label?.(options) ?? name,
    acts: actsOf(definition, options),
    options,
    repack: typeof repack === 'function' ? repack(options) : (repack ?? false),
    looks: (shape) => [asked(shape)].flat().map((look) => complete(look as LookAsked, shape, name)),
    decide: (seen) => [definition.decide(seen, options, grant) ?? []].flat() as Decision[],
    ...(takesKeep && {
      withKeep: (other: KeepOf) =>
        definition.withKeep?.(options, other) ??
        makeMethod(definition, options, (layer, head) => other(layer, head) ?? keepOf?.(layer, head)),
    }),
    ...(ranking && { ranking }),
  }
  made.add(method)
  return Object.freeze(method)
}

function complete(look: LookAsked, shape: Shape, name: string): Look {
  if (look.at === 'session') return look
  if (look.at === 'layer') {
    checkLayer(look.layer, 1, shape, name)
    return { at: 'layer', layer: look.layer, needs: look.needs ?? [] }
  }
  const layers = look.layers ?? allLayers(shape)
  for (const layer of layers) checkLayer(layer, 0, shape, name)
  const needs = look.needs ?? []
  return look.at === 'prompt'
    ? { at: 'prompt', layers, needs }
    : { at: 'decode', every: look.every ?? 1, layers, needs }
}

/** Where a method is expected: one, or what makes it, which stands for its defaults. */
export type MethodLike = Method | MethodFactory<never>

export function isMethod(value: unknown): value is Method {
  return typeof value === 'object' && value !== null && made.has(value)
}

/** A method: one that was made, or a factory, which stands for its defaults. */
export function asMethod(value: unknown, name = 'methods'): Method {
  if (typeof value === 'function' && factories.has(value)) return (value as MethodFactory)()
  if (isMethod(value)) return value
  throw typeError('a method such as methods.snapkv()', name, value)
}
