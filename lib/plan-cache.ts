// Decisions on the rows of the cache: what they must hold, and the entries that tell of them.
import type { CacheSeen, Decision, Fold, Folding, Match } from './methods/method.js'
import type { PlanEntry } from './plan.js'
import { checkKept, listOf, planError } from './plan-checks.js'

export function checkEvict(
  { folds, keptPerHead, layer, matches, storedPerHead }: Evict,
  seen: CacheSeen,
  who: string,
): void {
  const heads = seen.shape.kvHeads
  for (const [what, lists] of Object.entries({ rows: keptPerHead, 'stored rows': storedPerHead ?? keptPerHead }))
    if (lists?.length !== heads)
      throw planError(who, `the ${what} of ${heads} KV heads of layer ${layer}`, lists?.length)
  for (let head = 0; head < heads; head++) {
    const where = `of layer ${layer} head ${head}`
    const kept = keptPerHead[head] as ArrayLike<number>
    checkKept(kept, storedPerHead ? heldOrStored(seen, head) : seen.sources(head), where, who)
    if (storedPerHead) checkStored(storedPerHead[head] as ArrayLike<number>, kept, heldOrStored(seen, head), where, who)
  }
  const all = folds ?? matches?.map((match, head) => asFold(match, keptPerHead[head] as ArrayLike<number>, who))
  if (all === undefined) return
  if (all.length !== heads) throw planError(who, `folds of ${heads} KV heads of layer ${layer}`, all.length)
  for (const [head, fold] of all.entries())
    checkFold(fold, seen.sources(head), keptPerHead[head] as ArrayLike<number>, `of layer ${layer} head ${head}`, who)
}

/** Rows that are there, in a layer where rows may have two precisions. */
export function checkCoarsen(
  { coarsePerHead, layer }: Decision & { action: 'coarsen' },
  { shape, sources }: CacheSeen,
  who: string,
): void {
  if (coarsePerHead?.length !== shape.kvHeads)
    throw planError(who, `the coarse rows of ${shape.kvHeads} KV heads of layer ${layer}`, coarsePerHead?.length)
  if (shape.windows[layer])
    throw planError(who, `a layer without a window for coarse rows`, `layer ${layer} of ${shape.windows[layer]} rows`)
  for (const [head, coarse] of coarsePerHead.entries())
    if (coarse?.length !== 0) checkKept(coarse, sources(head), `of layer ${layer} head ${head}`, who)
}

function heldOrStored(seen: CacheSeen, head: number): Int32Array {
  return Int32Array.from([...seen.sources(head), ...seen.stored(head)]).sort()
}

/** What is set aside was there or set aside before, and does not stay. */
function checkStored(
  stored: ArrayLike<number>,
  kept: ArrayLike<number>,
  sources: Int32Array,
  where: string,
  who: string,
): void {
  if (stored?.length === 0) return
  checkKept(stored, sources, `${where} to set aside`, who)
  const stays = new Set(Array.from(kept))
  const both = Array.from(stored).find((source) => stays.has(source))
  if (both !== undefined) throw planError(who, `rows ${where} either to stay or to be set aside`, `${both} for both`)
}

/** What could come of a match, for the same checks: each row into one that may hold it, and each of these into itself. */
function asFold({ from, into, mass }: Match, kept: ArrayLike<number>, who: string): Fold {
  if (mass.from.length !== from.length || mass.into.length !== into.length)
    throw planError(who, 'as many masses as rows', `${mass.from.length} and ${mass.into.length}`)
  const targets = Array.from(into)
  return {
    from: [...Array.from(from), ...targets],
    into: [...Array.from(from, () => kept[0] as number), ...targets],
    weights: [...Array.from(mass.from), ...Array.from(mass.into)],
  }
}

type Evict = Decision & { action: 'evict' }

/** Rows that go, or keep less of themselves, into rows that stay, with finite weights. */
function checkFold(
  { from, into, weights }: Fold,
  sources: Int32Array,
  kept: ArrayLike<number>,
  where: string,
  who: string,
): void {
  if (from.length !== into.length || from.length !== weights.length)
    throw planError(
      who,
      `as many rows, targets and weights ${where}`,
      `${from.length}, ${into.length}, ${weights.length}`,
    )
  const held = new Set(sources)
  const stays = new Set(Array.from(kept))
  for (let i = 0; i < from.length; i++) {
    const [row, target] = [from[i] as number, into[i] as number]
    if (!stays.has(target)) throw planError(who, `folds into rows that stay ${where}`, target)
    if (!held.has(row) || (stays.has(row) && row !== target)) throw planError(who, `rows that go to fold ${where}`, row)
    if (!Number.isFinite(weights[i])) throw planError(who, `finite weights ${where}`, weights[i])
  }
}

type Head = Pick<PlanEntry, 'phase' | 'step' | 'layer' | 'method'>

export function evictionOf(decision: Evict, seen: CacheSeen, head: Head, more: Partial<PlanEntry>): PlanEntry | null {
  const keptPerHead = decision.keptPerHead.map(listOf)
  const storedPerHead = decision.storedPerHead?.map(listOf)
  const before = keptPerHead.reduce((sum, _, h) => sum + seen.sources(h).length, 0)
  const after = keptPerHead.reduce((sum, kept) => sum + kept.length, 0)
  const back = storedPerHead !== undefined && keptPerHead.some((kept, h) => bringsBack(kept, seen.stored(h)))
  if (before === after && !back) return null
  const action = back ? 'restore' : 'evict'
  const aside = storedPerHead && { storedPerHead }
  return { ...head, action, before, after, keptPerHead, ...aside, ...foldsOf(decision), ...more }
}

export function coarseningOf(
  decision: Decision & { action: 'coarsen' },
  seen: CacheSeen,
  head: Head & Pick<PlanEntry, 'scores'>,
): PlanEntry | null {
  const coarsePerHead = decision.coarsePerHead.map(listOf)
  const before = coarsePerHead.reduce((sum, _, h) => sum + seen.sources(h).length, 0)
  const coarse = coarsePerHead.reduce((sum, rows) => sum + rows.length, 0)
  return coarse === 0 ? null : { ...head, action: 'coarsen', before, after: before - coarse, coarsePerHead }
}

function bringsBack(kept: readonly number[], stored: Int32Array): boolean {
  const aside = new Set(stored)
  return kept.some((source) => aside.has(source))
}

/** As they stand in an entry. */
export function foldsOf({ folds, keys, sizes }: Folding): Pick<PlanEntry, 'folds' | 'keys' | 'sizes'> {
  if (folds === undefined) return {}
  const plain = folds.map(({ from, into, weights }) => ({
    from: listOf(from),
    into: listOf(into),
    weights: Array.from(weights, Math.fround), // what native adds
  }))
  return { folds: plain, ...(keys && { keys }), ...(sizes && { sizes }) }
}
