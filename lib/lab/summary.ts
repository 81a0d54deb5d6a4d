// Cases become rows: one for each task, question, method, budget and cache type.
import type { CaseResult } from './compare.js'
import { CHANCE, FULL } from './contenders.js'
import { groupsOf } from './groups.js'
import { bootstrap, type Estimate, meanOf } from './statistics.js'

/** Means over the cases that the full cache answers. */
export interface Row {
  readonly task: string
  readonly query: CaseResult['query']
  readonly method: string
  readonly keep: number | null
  readonly kv: string
  /** Cases that there are, and those that the full cache answers. Methods have been tried on these alone. */
  readonly cases: number
  readonly counted: number
  /** Means over all cases that were tried. */
  readonly bytes: number
  readonly share: number
  readonly logprob: Estimate
  readonly kl: Estimate
  readonly top1: Estimate
  readonly exact: Estimate
  /** Mean of logprob less that of chance at the same budget, case by case; missing for the full cache, for chance, and without a budget. */
  readonly overRandom?: Estimate
  /** The longest context, in tokens, up to which three of four answers come out exactly; 0 where none. */
  readonly effectiveLength: number
}

const PASS = 0.75

type Key = Pick<CaseResult, 'task' | 'query' | 'method' | 'keep' | 'kv'>

const keyOf = ({ keep, kv, method, query, task }: Key) => JSON.stringify([task, query, method, keep, kv])
const spotOf = ({ depth, length, seed }: CaseResult) => JSON.stringify([depth, length, seed])

export function summarize(cases: readonly CaseResult[]): Row[] {
  const groups = groupsOf(cases, keyOf)
  const asked = groupsOf(cases, ({ query, task }) => JSON.stringify([task, query]))
  return [...groups.values()].map((group) => {
    const first = group[0] as CaseResult
    const places = [
      ...groupsOf(asked.get(JSON.stringify([first.task, first.query])) as CaseResult[], spotOf).values(),
    ].map(([one]) => one as CaseResult)
    return rowOf(group, places, groups.get(keyOf({ ...first, method: CHANCE })))
  })
}

/** places: one result of each case that there is. */
function rowOf(
  group: readonly CaseResult[],
  places: readonly CaseResult[],
  chance: readonly CaseResult[] | undefined,
): Row {
  const { keep, kv, method, query, task } = group[0] as CaseResult
  const counted = group.filter((one) => one.counted)
  const of = (measure: 'logprob' | 'kl' | 'top1' | 'exact') => bootstrap(counted.map((one) => one[measure]))
  const over = method === FULL || method === CHANCE ? undefined : overChance(counted, chance)
  return {
    task,
    query,
    method,
    keep,
    kv,
    cases: places.length,
    counted: counted.length,
    bytes: Math.round(meanOf(group.map(({ bytes }) => bytes))),
    share: meanOf(group.map(({ share }) => share)),
    logprob: of('logprob'),
    kl: of('kl'),
    top1: of('top1'),
    exact: of('exact'),
    ...(over && { overRandom: over }),
    effectiveLength: effectiveLength(group, places),
  }
}

function overChance(counted: readonly CaseResult[], chance: readonly CaseResult[] | undefined): Estimate | undefined {
  if (!chance) return undefined
  const floor = new Map(chance.map((one) => [spotOf(one), one.logprob]))
  return bootstrap(counted.map((one) => one.logprob - (floor.get(spotOf(one)) ?? Number.NaN)))
}

/** An answer that the full cache does not give is none. */
function effectiveLength(group: readonly CaseResult[], places: readonly CaseResult[]): number {
  let reached = 0
  for (const length of [...new Set(places.map((one) => one.length))].sort((a, b) => a - b)) {
    const at = (list: readonly CaseResult[]) => list.filter((one) => one.length === length)
    const exact = at(group).reduce((sum, one) => sum + one.exact, 0)
    if (exact < PASS * at(places).length) return reached
    reached = length
  }
  return reached
}
