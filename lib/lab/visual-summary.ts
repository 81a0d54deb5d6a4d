// Answers about pictures become rows: one for each method and budget.
import { CHANCE, FULL } from './contenders.js'
import { groupsOf } from './groups.js'
import { bootstrap, type Estimate, meanOf, quantile } from './statistics.js'
import type { VisualCase } from './visual.js'

export interface VisualRow {
  readonly method: string
  readonly keep: number | null
  readonly acts?: VisualCase['acts']
  readonly cases: number
  /** Share of right answers: of all questions, and by type. */
  readonly right: Estimate
  readonly byType: Readonly<Record<string, Estimate>>
  /** Right answers more than chance at the same budget, question by question; missing for what is compared with it. */
  readonly overRandom?: Estimate
  /** Patches that run in a layer of the decoder, a mean over layers and questions; and their share. */
  readonly visual: number
  readonly share: number
  readonly bytes: number
  /** Milliseconds, medians. */
  readonly vision: number
  readonly prefill: number
  readonly decode: number
  /** Of the prompt in the decoder: what was measured, and what the rows that do not run would save if all else were free. */
  readonly speedup: { readonly measured: number; readonly ideal: number }
}

const keyOf = ({ keep, method }: Pick<VisualCase, 'method' | 'keep'>) => JSON.stringify([method, keep])

export function summarizeVisual(cases: readonly VisualCase[]): VisualRow[] {
  const groups = groupsOf(cases, keyOf)
  const full = groups.get(keyOf({ method: FULL, keep: 1 })) ?? cases
  return [...groups.values()].map((group) => {
    const { keep } = group[0] as VisualCase
    return rowOf(group, full, groups.get(keyOf({ method: CHANCE, keep })))
  })
}

const exact = (list: readonly VisualCase[]): Estimate => bootstrap(list.map(({ right }) => Number(right)))

function rowOf(
  group: readonly VisualCase[],
  full: readonly VisualCase[],
  chance: readonly VisualCase[] | undefined,
): VisualRow {
  const { acts, keep, method } = group[0] as VisualCase
  const mean = (of: (one: VisualCase) => number, list = group) => meanOf(list.map(of))
  const patches = mean((one) => one.patches)
  const visual = mean((one) => one.visual)
  const over = method === FULL || method === CHANCE ? undefined : overChance(group, chance)
  const types = [...groupsOf(group, ({ type }) => type)]
  return {
    method,
    keep,
    ...(acts && { acts }),
    cases: group.length,
    right: exact(group),
    byType: Object.fromEntries(types.map(([type, own]) => [type, exact(own)])),
    ...(over && { overRandom: over }),
    visual,
    share: patches > 0 ? visual / patches : 1,
    bytes: Math.round(mean((one) => one.bytes)),
    vision: visionOf(group) ?? visionOf(full) ?? Number.NaN,
    prefill: middle(group.map((one) => one.prefill)),
    decode: middle(group.map((one) => one.decode)),
    speedup: {
      measured: middle(full.map((one) => one.prefill)) / middle(group.map((one) => one.prefill)),
      ideal: mean((one) => one.seen, full) / mean((one) => one.seen),
    },
  }
}

const middle = (values: readonly number[]): number =>
  quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  )

/** Where pictures were new; undefined where none was, as they were encoded for all patches before. */
function visionOf(group: readonly VisualCase[]): number | undefined {
  const times = group.flatMap(({ vision }) => (vision === null ? [] : [vision]))
  return times.length > 0 ? middle(times) : undefined
}

function overChance(group: readonly VisualCase[], chance: readonly VisualCase[] | undefined): Estimate | undefined {
  if (!chance) return undefined
  const floor = new Map(chance.map(({ right, task }) => [task, Number(right)]))
  return bootstrap(group.map(({ right, task }) => Number(right) - (floor.get(task) ?? Number.NaN)))
}
