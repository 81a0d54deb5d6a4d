// A plan as lanes: for each layer (and KV head) the tokens that are still there after the last decision.
import type { PlanEntry } from '../plan.js'

export interface Lane {
  readonly layer: number
  /** The KV head; missing where whole tokens go on. */
  readonly head?: number
  /** Indices of tokens, ascending. */
  readonly kept: readonly number[]
}

/** Tokens that a plan speaks of: no fewer than this. */
export function tokensOf(plan: readonly PlanEntry[]): number {
  let most = 0
  for (const { before, into, kept, keptPerHead } of plan) {
    for (const list of [kept ?? [], ...(keptPerHead ?? [])]) most = Math.max(most, (list.at(-1) ?? -1) + 1)
    most = Math.max(most, into?.length ?? 0, Math.floor(before / Math.max(1, keptPerHead?.length ?? 1)))
  }
  return most
}

/** Cache rows by layer and head, as the last entry for each layer has them. */
export function cacheLanes(plan: readonly PlanEntry[]): Lane[] {
  const last = new Map<number, number[][]>()
  for (const { keptPerHead, layer } of plan) if (keptPerHead) last.set(layer, keptPerHead)
  return [...last]
    .sort(([a], [b]) => a - b)
    .flatMap(([layer, heads]) => heads.map((kept, head) => ({ layer, head, kept })))
}

/** Whether rows of a prompt do not take part in a layer. */
export function isCut({ action }: PlanEntry): boolean {
  return action === 'drop' || action === 'merge' || action === 'pass'
}

/** Tokens that take part in each layer, from the first where some do not; merged ones live on in the row that holds them. */
export function tokenLanes(plan: readonly PlanEntry[], layers: number, tokens = tokensOf(plan)): Lane[] {
  const cuts = plan.filter(isCut)
  const first = Math.min(...cuts.map(({ layer }) => layer))
  const lanes: Lane[] = []
  let kept: readonly number[] = Array.from({ length: tokens }, (_, token) => token)
  for (let layer = first; layer < layers; layer++) {
    const here = cuts.filter((entry) => entry.layer === layer)
    const cut = here.find(({ action }) => action !== 'pass')
    if (cut) kept = cut.kept ?? [...new Set(cut.into)].sort((a, b) => a - b)
    lanes.push({ layer, kept: here.find(({ action }) => action === 'pass')?.kept ?? kept })
  }
  return lanes
}

/** Share of the tokens of each of `columns` even parts that a lane holds. */
export function sharesOf(kept: readonly number[], tokens: number, columns: number): Float64Array {
  const counts = new Float64Array(columns)
  const sizes = new Float64Array(columns)
  for (let token = 0; token < tokens; token++) sizes[Math.floor((token * columns) / tokens)]!++
  for (const token of kept) if (token < tokens) counts[Math.floor((token * columns) / tokens)]!++
  return counts.map((count, i) => (sizes[i] === 0 ? 0 : count / (sizes[i] as number)))
}
