// What defineMethod takes and gives.
import type { Budget } from '../budget.js'
import type { Grant } from './grant.js'
import type { LookAsked } from './looks.js'
import type { Acts, Decision, KeepOf, Method, MethodInfo, Ranking, Seen, Shape } from './method.js'
import type { Declared, Values } from './options.js'

export interface Definition<D extends Declared> {
  readonly name: string
  readonly title?: string
  /** arXiv id of the source, or where it came out. */
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
  /** For wrappers: whether budgets can be changed, and how they are passed on. Otherwise an option `keep` says so. */
  readonly takesKeep?: boolean
  withKeep?(options: Values<D>, keepOf: KeepOf): Method | undefined
}

/** What makes a method from options; stands for itself with the defaults where a method is expected. */
export interface MethodFactory<D extends Declared = Declared> {
  (options?: { readonly [K in keyof Values<D>]?: Values<D>[K] | undefined }): Method
  readonly info: MethodInfo
}

/** Where a method is expected: one, or what makes it, which stands for its defaults. */
export type MethodLike = Method | MethodFactory<never>
