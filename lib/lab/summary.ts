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
  /** Cases that were run, and those that the full cache answers. */
  readonly cases: number
  readonly counted: number
  /** Means over all cases. */
  readonly bytes: number
  readonly share: number
  readonly speed: number
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
  return [...groups.values()].map((group) => {
    const first = group[0] as CaseResult
    return rowOf(group, groups.get(keyOf({ ...first, method: CHANCE })))
  })
}

function rowOf(group: readonly CaseResult[], chance: readonly CaseResult[] | undefined): Row {
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
    cases: group.length,
    counted: counted.length,
    bytes: Math.round(meanOf(group.map(({ bytes }) => bytes))),
    share: meanOf(group.map(({ share }) => share)),
    speed: meanOf(group.map(({ speed }) => speed)),
    logprob: of('logprob'),
    kl: of('kl'),
    top1: of('top1'),
    exact: of('exact'),
    ...(over && { overRandom: over }),
    effectiveLength: effectiveLength(group),
  }
}

function overChance(counted: readonly CaseResult[], chance: readonly CaseResult[] | undefined): Estimate | undefined {
  if (!chance) return undefined
  const floor = new Map(chance.map((one) => [spotOf(one), one.logprob]))
  return bootstrap(counted.map((one) => one.logprob - (floor.get(spotOf(one)) ?? Number.NaN)))
}

function effectiveLength(group: readonly CaseResult[]): number {
  let reached = 0
  for (const length of [...new Set(group.map((one) => one.length))].sort((a, b) => a - b)) {
    if (meanOf(group.filter((one) => one.length === length).map(({ exact }) => exact)) < PASS) return reached
    reached = length
  }
  return reached
}
