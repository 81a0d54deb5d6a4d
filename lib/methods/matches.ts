// Rows that look for the row most like them: from what native finds to what folds into what.
import type { Fold, Match, Partners } from './method.js'

/** The fold of a match: weights are shares of the mass that a row holds in the end, its own included. `partner`: by place in `into`. */
export function foldOfMatch({ from, into, least, mass }: Match, { partner, similarity }: Partners): Fold {
  const pairs: { row: number; at: number; mass: number }[] = []
  const held = new Map<number, number>()
  for (let i = 0; i < partner.length; i++) {
    const at = partner[i] as number
    if ((similarity[i] as number) < least) continue
    pairs.push({ row: from[i] as number, at, mass: mass.from[i] as number })
    held.set(at, (held.get(at) ?? (mass.into[at] as number)) + (mass.from[i] as number))
  }
  for (const at of held.keys()) pairs.push({ row: into[at] as number, at, mass: mass.into[at] as number })
  return {
    from: pairs.map(({ row }) => row),
    into: pairs.map(({ at }) => into[at] as number),
    weights: pairs.map(({ at, mass: own }) => own / (held.get(at) || 1)),
  }
}
