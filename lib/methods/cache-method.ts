// Cache methods from one function: score -> select -> evict, at the end of a prompt and, with `every`, while decoding.
import { keepsAll } from '../budget.js'
import { type Definition, defineMethod, type LookAsked, type MethodFactory } from './define.js'
import { allLayers, type Grant } from './grant.js'
import type { Acts, CacheNeed, CacheSeen, Decision, Fold, Match, Ranking, Rule, Seen, Shape } from './method.js'
import { type Declared, keep, type Values } from './options.js'
import { type Protected, selectRows } from './select.js'

export interface CacheDefinition<D extends Declared> {
  readonly name: string
  readonly title: string
  readonly paper: string
  /** Beside `keep`. One called `every` is the number of decode steps between evictions, 0 for none; one called `positions` says what becomes of RoPE. */
  readonly options: D
  readonly acts?: Acts
  check?(options: Values<D>): void
  /** Told of the model that the method is to work on: a chance to throw, or to warn. */
  suits?(shape: Shape): void
  /** Fewer tokens are left alone. */
  least?(options: Values<D>): number
  needs?(options: Values<D>): CacheNeed[]
  /** [rows] of a head: higher stays. `budget` is the one that `protect` is asked with. */
  score(seen: CacheSeen, head: number, options: Values<D>, budget: number): ArrayLike<number>
  protect?(options: Values<D>, budget: number, rows: number): Protected
  /** Spreads the budgets anew over the heads of a layer; `seen` says which layer, for those that spread over layers too. */
  allocate?(heads: readonly HeadRows[], options: Values<D>, seen: CacheSeen): readonly number[]
  /** What the rows of a head that go leave to those that stay, or which of them look for one like them; keys and sizes: see Folding. */
  readonly folding?: {
    fold?(seen: CacheSeen, head: HeadKept, options: Values<D>): Fold
    match?(seen: CacheSeen, head: HeadKept, options: Values<D>): Match
    readonly keys?: boolean
    readonly sizes?: boolean
  }
  /** The standing rule that does at every decode step what the method does after a prompt. */
  rule?(options: Values<D>): RuleKind
}

/** A {@link Rule} without its budget. */
export type RuleKind = { kind: 'window'; sinks: number } | { kind: 'mass'; recent: number }

/** One head on the way to a decision. The budget may be more than its rows. */
export interface HeadRows {
  readonly rows: number
  readonly budget: number
  readonly safe: Protected
  scores(): ArrayLike<number>
}

/** A head whose rows are chosen: places among its rows that stay, ascending, and what its rows scored. */
export interface HeadKept {
  readonly head: number
  readonly rows: number
  readonly kept: Int32Array
  scores(): ArrayLike<number>
}

/** What a method does beside ranking rows. */
interface Extras {
  allocate?(heads: readonly HeadRows[], seen: CacheSeen): readonly number[]
  fold?(seen: CacheSeen, head: HeadKept): Fold
  match?(seen: CacheSeen, head: HeadKept): Match
  readonly keys?: boolean | undefined
  readonly sizes?: boolean | undefined
}

const NOTHING: Protected = Object.freeze({ sinks: 0, recent: 0 })

export function cacheMethod<const D extends Declared>(
  spec: CacheDefinition<D>,
): MethodFactory<D & { keep: typeof keep }> {
  type All = D & { keep: typeof keep }
  const rank = (options: Values<D>): Ranking => ({
    needs: spec.needs?.(options) ?? [],
    score: (seen, head, budget) => spec.score(seen, head, options, budget),
    protect: (rows, budget) => spec.protect?.(options, budget, rows) ?? NOTHING,
  })
  const definition: Definition<All> = {
    name: spec.name,
    title: spec.title,
    paper: spec.paper,
    acts: spec.acts ?? 'cache',
    options: { keep, ...spec.options },
    ...(spec.check && { check: (options) => spec.check?.(options as Values<D>) }),
    repack: (options) => (options as { positions?: string }).positions === 'repack',
    ranking: (options) => rank(options as Values<D>),
    looks(shape, options, grant) {
      const own = options as Values<D>
      spec.suits?.(shape)
      return cacheLooks(shape, grant, rank(own), { every: everyOf(options), ruled: spec.rule !== undefined })
    },
    decide(seen, options, grant) {
      const own = options as Values<D>
      if (seen.at === 'session') return spec.rule ? standing(seen.shape, grant, spec.rule(own)) : []
      if ((seen as CacheSeen).tokens < (spec.least?.(own) ?? 0)) return null
      const { allocate } = spec
      const { fold, keys, match, sizes } = spec.folding ?? {}
      return evict(seen, grant, rank(own), {
        ...(allocate && { allocate: (heads, at) => allocate(heads, own, at) }),
        ...(fold && { fold: (at, head) => fold(at, head, own) }),
        ...(match && { match: (at, head) => match(at, head, own) }),
        keys,
        sizes,
      })
    },
  }
  return defineMethod(definition)
}

function everyOf(options: object): number {
  return (options as { every?: number }).every ?? 0
}

/** How a method goes on while decoding; ruled: a rule of native can do it. */
interface Goes {
  readonly every: number
  readonly ruled: boolean
}

/** Where a cache method looks: nowhere in layers that keep all. What native's rules cannot do (every other step, unlike budgets in one layer) is decided step by step. */
function cacheLooks(shape: Shape, grant: Grant, { needs }: Ranking, { every, ruled }: Goes): LookAsked[] {
  const layers = allLayers(shape).filter((layer) =>
    heads(shape).some((head) => !keepsAll(grant.keep(shape, layer, head))),
  )
  if (layers.length === 0) return []
  const looks: LookAsked[] = [{ at: 'prompt', layers, needs }]
  if (every === 0) return looks
  const stepwise = layers.filter((layer) => !ruled || every > 1 || !isUniform(shape, grant, layer))
  if (stepwise.length > 0) looks.push({ at: 'decode', every, layers: stepwise, needs })
  if (stepwise.length < layers.length) looks.push({ at: 'session' })
  return looks
}

function heads(shape: Shape): number[] {
  return Array.from({ length: shape.kvHeads }, (_, head) => head)
}

function isUniform(shape: Shape, grant: Grant, layer: number): boolean {
  return new Set(heads(shape).map((head) => JSON.stringify(grant.keep(shape, layer, head)))).size === 1
}

function standing(shape: Shape, grant: Grant, kind: RuleKind): Decision[] {
  const layers = allLayers(shape).filter(
    (layer) => isUniform(shape, grant, layer) && !keepsAll(grant.keep(shape, layer)),
  )
  return layers.map((layer) => {
    const budget = grant.keep(shape, layer)
    const share = typeof budget === 'number' ? budget : 0
    const none = { at: 'prompt', shape, layer, tokens: 0 } as Seen
    const rule: Rule = { ...kind, tokens: share > 0 ? 0 : grant.rows(none), share }
    return { action: 'rule', layer, rule }
  })
}

/** Keeps what its budget grants each head of the layer; null where nothing goes. */
export function evict(
  seen: Seen,
  grant: Grant,
  ranking: Ranking,
  { allocate, fold, keys, match, sizes }: Extras = {},
): Decision | null {
  if (seen.at !== 'prompt' && seen.at !== 'decode') return null
  const scores: ArrayLike<number>[] = []
  const rows = heads(seen.shape).map((head) => {
    const budget = grant.rows(seen, head)
    const sources = seen.sources(head)
    const { length } = sources
    return {
      rows: length,
      budget: keepsAll(grant.keep(seen.shape, seen.layer, head)) ? length : budget,
      safe: withRoom(ranking.protect(length, budget), sources, budget, seen.safe),
      scores: () => (scores[head] ??= lifted(ranking.score(seen, head, budget), sources, seen.safe)),
    }
  })
  const budgets = allocate?.(rows, seen) ?? rows.map(({ budget }) => budget)
  if (rows.every((head, h) => (budgets[h] ?? 0) >= head.rows)) return null
  const places = rows.map((head, h) => selectRows(head.rows, budgets[h] ?? 0, head.safe, head.scores))
  const keptPerHead = places.map((kept, h) => {
    const sources = seen.sources(h)
    const named = new Int32Array(kept.length)
    for (let i = 0; i < named.length; i++) named[i] = sources[kept[i] as number] as number
    return named
  })
  const chosen = (kept: Int32Array, h: number): HeadKept => {
    return { head: h, kept, rows: rows[h]?.rows ?? 0, scores: rows[h]?.scores ?? (() => []) }
  }
  const folding = {
    ...(fold && { folds: places.map((kept, h) => fold(seen, chosen(kept, h))) }),
    ...(match && { matches: places.map((kept, h) => match(seen, chosen(kept, h))) }),
    ...((fold ?? match) && { keys, sizes }),
  }
  const decision: Decision = { action: 'evict', layer: seen.layer, keptPerHead, ...folding }
  return scores.length > 0 ? { ...decision, scores: rows.map((_, h) => scores[h] ?? []) } : decision
}

/** What a method protects, with room for tokens that are safe: newest rows but one give way to them. */
function withRoom(own: Protected, sources: Int32Array, budget: number, safe: CacheSeen['safe']): Protected {
  if (safe === undefined) return own
  const between = sources.subarray(own.sinks, Math.max(own.sinks, sources.length - own.recent))
  const count = between.reduce((sum, source) => sum + Number(safe.has(source)), 0)
  const recent = Math.max(Math.min(own.recent, 1), Math.min(own.recent, budget - own.sinks - count))
  return count === 0 ? own : { sinks: own.sinks, recent }
}

/** Scores by which rows of tokens that are safe stay before all others. */
function lifted(scores: ArrayLike<number>, sources: Int32Array, safe: CacheSeen['safe']): ArrayLike<number> {
  if (safe === undefined) return scores
  return Float64Array.from(scores, (score, place) => (safe.has(sources[place] as number) ? Number.MAX_VALUE : score))
}
