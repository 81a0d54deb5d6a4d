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

/** Tokens that reach each layer, from the first layer where some do not; merged ones live on in the row that holds them. */
export function tokenLanes(plan: readonly PlanEntry[], layers: number): Lane[] {
  const cuts = plan.filter(({ action }) => action === 'drop' || action === 'merge')
  const first = Math.min(...cuts.map(({ layer }) => layer))
  const lanes: Lane[] = []
  let kept: readonly number[] = []
  for (let layer = first; layer < layers; layer++) {
    const cut = cuts.find((entry) => entry.layer === layer)
    if (cut) kept = cut.kept ?? [...new Set(cut.into)].sort((a, b) => a - b)
    lanes.push({ layer, kept })
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
