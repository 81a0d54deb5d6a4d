// compare: tasks × budgets × methods, each run beside the full cache of the same case.
import { rangeError, typeError } from '../errors.js'
import { type KvTypes, parseKv } from '../kv.js'
import { kvText } from '../kv-text.js'
import { methods as all, type MethodLike } from '../methods/index.js'
import type { Model } from '../model.js'
import type { PlanEntry } from '../plan.js'
import { checkSignal } from '../sampling.js'
import type { Session } from '../session.js'
import { optionsOf } from '../settings.js'
import { type Contender, contendersOf, FULL, type Mix } from './contenders.js'
import { groupsOf } from './groups.js'
import { judge, type Measures } from './judge.js'
import { type Case, caseOf, type Query, type Run, readContext, runCase } from './run.js'
import { type Row, summarize } from './summary.js'
import { type Grid, type SamplePrompt, type Task, taskOf } from './tasks/index.js'
import { watchOf } from './watch.js'

export interface CompareOptions {
  /** Methods, or mixes of some under one name; default snapkv and h2o. 'full', 'random' and 'recent' are always there. */
  readonly methods?: readonly (MethodLike | Mix)[]
  /** Shares that every method is tried at; default .5, .25, .125, .0625. */
  readonly keep?: readonly number[]
  /** How caches are stored; the first is the full cache's. Default 'f16'. */
  readonly kv?: readonly KvTypes[]
  /** Default: needle. */
  readonly tasks?: readonly string[]
  /** Tokens of the context; default 512. */
  readonly lengths?: readonly number[]
  /** How many depths from 0 to 1, ends included; default 5. */
  readonly depths?: number
  /** Cases for each place of the grid; default 3. */
  readonly seeds?: number
  /** Whether methods choose rows before they see the question ('after': it comes after) or when they have seen it ('before'); default 'both'. */
  readonly question?: 'after' | 'before' | 'both'
  /** For the task 'text'. */
  readonly text?: string
  /** For the task 'prompts'. */
  readonly prompts?: readonly SamplePrompt[]
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly what: string }) => void
  readonly signal?: AbortSignal
}

/** One case with one contender. */
export interface CaseResult extends Measures {
  readonly task: string
  readonly query: Query
  readonly length: number
  readonly depth: number
  readonly seed: number
  /** Of the context, as it came out. */
  readonly tokens: number
  readonly characters: number
  readonly method: string
  readonly keep: number | null
  readonly kv: string
  readonly bytes: number
  /** Of the full cache's bytes. */
  readonly share: number
  /** Whether the full cache gave the answer, so that the case says something. */
  readonly counted: boolean
}

/** What a method kept of one case. */
export interface KeptRows {
  readonly task: string
  readonly query: Query
  readonly method: string
  readonly keep: number | null
  readonly kv: string
  readonly tokens: number
  readonly span?: readonly [number, number]
  readonly plan: readonly PlanEntry[]
}

export interface Comparison {
  readonly kind: 'tokensieve-compare'
  readonly version: 1
  readonly model: { readonly name: string; readonly layers: number; readonly kvHeads: number; readonly isa: string }
  readonly tasks: readonly { readonly name: string; readonly title: string }[]
  readonly rows: readonly Row[]
  readonly cases: readonly CaseResult[]
  readonly kept: readonly KeptRows[]
}

interface Wanted {
  readonly tasks: readonly Task[]
  readonly grid: Grid
  readonly queries: readonly Query[]
  readonly contenders: readonly Contender[]
  readonly full: KvTypes
}

/** Quality of methods against the full cache, chance and the newest rows, on tasks that are made from seeds. */
export async function compare(model: Model, options: CompareOptions = {}): Promise<Comparison> {
  const wanted = wantedOf(options)
  const jobs = wanted.tasks.flatMap((task) =>
    task.places(wanted.grid).flatMap((place) => {
      const queries = (task.asks?.(place) ?? true) ? wanted.queries : ['none' as const]
      return queries.map((query) => ({ task, place, query }))
    }),
  )
  const each = 1 + wanted.contenders.length
  const found: Found = { cases: [], kept: [], pictured: new Set() }
  for (const [i, { place, query, task }] of jobs.entries()) {
    options.signal?.throwIfAborted()
    const one = await caseOf(model, task, place, query, options.signal)
    let done = i * each
    const tell = (what: string) => options.onProgress?.({ done: done++, total: jobs.length * each, what })
    await runAll(model, one, wanted, found, tell, options.signal)
  }
  options.onProgress?.({ done: jobs.length * each, total: jobs.length * each, what: '' })
  const { config, isa } = model
  return {
    kind: 'tokensieve-compare',
    version: 1,
    model: { name: config.name ?? config.architecture, layers: config.layers, kvHeads: config.kvHeads, isa },
    tasks: wanted.tasks.map(({ name, title }) => ({ name, title })),
    rows: summarize(found.cases),
    cases: found.cases,
    kept: found.kept,
  }
}

interface Found {
  readonly cases: CaseResult[]
  readonly kept: KeptRows[]
  /** Tasks whose picture is there. */
  readonly pictured: Set<string>
}

/** One case with the full cache, which stays open so that the others have its rows; where it finds the answer, then with every contender. */
async function runAll(
  model: Model,
  one: Case,
  wanted: Wanted,
  found: Found,
  tell: (what: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { contenders, full: kv } = wanted
  const { cases, kept, pictured } = found
  tell(`${one.task}, the full cache`)
  const holder = await readContext(model, one, { kv, methods: [], signal })
  try {
    const full = await runCase(model, one, { kv, methods: [], signal })
    const counted = !one.gated || judge(full.reading, full.reading, one.answer).exact === 1
    cases.push(resultOf(one, { method: FULL, keep: 1, kv: kvText(kv) }, full, full, counted))
    if (!counted) return
    // The first case whose answer is neither at the beginning nor at the end shows which rows were kept.
    const key = `${one.task} ${one.query}`
    const shown = !pictured.has(key) && Math.abs(one.depth - 0.5) < 0.26
    if (shown) pictured.add(key)
    const drawn = contenders.map(({ keep }) => keep).reduce(nearer, null)
    const see = (contender: Contender, run: Run) => {
      cases.push(resultOf(one, contender, run, full, true))
      if (shown && isDrawn(contender, run, drawn)) kept.push(keptOf(one, contender, run))
    }
    for (const group of groupsOf(contenders, ({ kv, method }) => `${kv} ${method}`).values())
      await runBudgets(model, one, group, { see, tell, signal })
  } finally {
    await holder.close()
  }
}

interface Watching {
  see(contender: Contender, run: Run): void
  tell(what: string): void
  readonly signal: AbortSignal | undefined
}

/** One method at all of its budgets, by one reading of the context where it decides at the end. */
async function runBudgets(model: Model, one: Case, group: readonly Contender[], watching: Watching): Promise<void> {
  const { see, signal, tell } = watching
  const lists = group.map(({ methods }) => methods(one.seed))
  const watch = watchOf(lists, { ...model.config, rowBytes: 0 })
  let watched: Session | undefined
  try {
    for (const [i, contender] of group.entries()) {
      signal?.throwIfAborted()
      const { keep, method, types: kv } = contender
      tell(`${one.task}, ${method}${keep === null ? '' : ` keep ${keep}`}`)
      if (watch && !watched) watched = await readContext(model, one, { kv, methods: [watch.watcher], signal })
      const methods = watch ? watch.replays.slice(i, i + 1) : (lists[i] ?? [])
      see(contender, await runCase(model, one, { kv, methods, summed: watch?.summed, signal }))
    }
  } finally {
    await watched?.close()
  }
}

function isDrawn({ keep }: Contender, { plan }: Run, drawn: number | null): boolean {
  return plan.some(({ action }) => action !== 'quantize') && (keep === null || keep === drawn)
}

/** The budget whose pictures are kept: the one nearest to a quarter. */
function nearer(best: number | null, keep: number | null): number | null {
  const away = (share: number) => Math.abs(Math.log(share * 4))
  if (best === null || keep === null) return best ?? keep
  return away(keep) < away(best) ? keep : best
}

function resultOf(
  { characters, depth, length, query, seed, task, tokens, answer }: Case,
  { keep, kv, method }: Pick<Contender, 'method' | 'keep' | 'kv'>,
  run: Run,
  full: Run,
  counted: boolean,
): CaseResult {
  const place = { task, query, length: length === 0 ? tokens : length, depth, seed, tokens, characters }
  const cost = { bytes: run.bytes, share: run.bytes / full.bytes }
  return { ...place, method, keep, kv, ...cost, ...judge(full.reading, run.reading, answer), counted }
}

function keptOf({ query, span, task, first }: Case, { keep, kv, method }: Contender, { plan }: Run): KeptRows {
  return { task, query, method, keep, kv, tokens: first.length, ...(span && { span }), plan }
}

const OPTIONS = [
  'methods',
  'keep',
  'kv',
  'tasks',
  'lengths',
  'depths',
  'seeds',
  'question',
  'text',
  'prompts',
  'onProgress',
  'signal',
]

function wantedOf(options: CompareOptions): Wanted {
  optionsOf(options, OPTIONS)
  const { depths = 5, keep, kv, lengths = [512], methods, question = 'both', seeds = 3, tasks = ['needle'] } = options
  checkSignal(options.signal)
  const kvs = listOf<KvTypes>(kv ?? ['f16'], 'kv')
  for (const types of kvs) parseKv(types, 'kv')
  const keeps = listOf(keep ?? [0.5, 0.25, 0.125, 0.0625], 'keep')
  for (const one of keeps) if (!(one > 0 && one < 1)) throw rangeError('shares above 0 and below 1', 'keep', one)
  for (const one of listOf(lengths, 'lengths')) whole(one, 'lengths', 16)
  whole(depths, 'depths', 1)
  whole(seeds, 'seeds', 1)
  const places = Array.from({ length: depths }, (_, i) => (depths === 1 ? 0.5 : i / (depths - 1)))
  return {
    tasks: listOf(tasks, 'tasks').map((name) => taskOf(name, options)),
    grid: { lengths, depths: places, seeds },
    queries: queriesOf(question),
    contenders: contendersOf(methods ?? [all.snapkv(), all.h2o()], keeps, kvs),
    full: kvs[0] as KvTypes,
  }
}

function queriesOf(question: unknown): Query[] {
  if (question === 'both') return ['after', 'before']
  if (question === 'after' || question === 'before') return [question]
  throw typeError("'after', 'before' or 'both'", 'question', question)
}

function listOf<T>(list: readonly T[], name: string): readonly T[] {
  if (!Array.isArray(list) || list.length === 0) throw typeError('a list that is not empty', name, list)
  return list
}

function whole(value: unknown, name: string, least: number): void {
  if (typeof value !== 'number') throw typeError('a whole number', name, value)
  if (!(Number.isInteger(value) && value >= least)) throw rangeError(`a whole number from ${least}`, name, value)
}
