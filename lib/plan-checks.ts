// What the checks of plans share.
import { TokensieveError } from './errors.js'

export function planError(who: string, what: string, received: unknown): TokensieveError {
  return new TokensieveError('ERR_PLAN', `[${who}] expected ${what} but received ${String(received)}`)
}

export function checkWord(word: string, known: readonly string[], action: string, who: string): void {
  if (!known.includes(word)) throw planError(who, `one of ${known.join(', ')} for '${action}'`, JSON.stringify(word))
}

/** Indices ascending, each of them among `sources` (ascending too), at least one. */
export function checkKept(kept: ArrayLike<number>, sources: Int32Array, where: string, who: string): void {
  if (typeof kept?.length !== 'number') throw planError(who, `indices of rows ${where}`, typeof kept)
  if (kept.length === 0) throw planError(who, `at least one row ${where}`, 'none')
  for (let i = 0, at = 0; i < kept.length; i++) {
    const source = kept[i] as number
    if (i > 0 && !(source > (kept[i - 1] as number)))
      throw planError(who, `ascending rows ${where}`, `${source} after ${kept[i - 1]}`)
    while (at < sources.length && (sources[at] as number) < source) at++
    if (sources[at] !== source) throw planError(who, `rows that are there ${where}`, source)
  }
}

/** For each of `sources` the place of the row that it folds into, which holds itself. */
export function checkInto(into: ArrayLike<number>, sources: Int32Array, where: string, who: string): Int32Array {
  if (into?.length !== sources.length) throw planError(who, `${sources.length} rows ${where}`, into?.length)
  const placeOf = new Map(Array.from(sources, (source, place) => [source, place]))
  return sources.map((_, place) => {
    const target = placeOf.get(into[place] as number)
    if (target === undefined || into[target] !== into[place])
      throw planError(who, `rows that hold themselves ${where}`, into[place])
    return target
  })
}

/** Array.from walks a typed array by its iterator, ten times slower. */
export function listOf(values: ArrayLike<number>): number[] {
  const list = new Array<number>(values.length)
  for (let i = 0; i < list.length; i++) list[i] = values[i] as number
  return list
}
