// Methods that merge patches: into how many rows, step by step, and which row finds which.
import type { Decision, VisionSeen } from './method.js'
import { type CropRows, cropRows, largest, pick, products, unitRows } from './similar.js'
import { evenly } from './vision-method.js'

/** What folds in one crop: `into`, by place what each row's source becomes. As many as `remove` says go. */
export type Folder = (rows: CropRows, remove: number, into: Int32Array) => void

/** Leaves `target` rows, of each crop its share; null where no more are there. */
export function mergeTo(
  seen: VisionSeen,
  target: number,
  fold: Folder,
  more: { proportional?: boolean; weights?: ArrayLike<number>; scores?: ArrayLike<number> } = {},
): Decision | null {
  if (target >= seen.sources.length) return null
  const counts = evenly(seen, target)
  const into = seen.sources.slice()
  for (const rows of cropRows(seen)) {
    const remove = rows.to - rows.from - (counts[rows.crop] ?? 0)
    if (remove > 0) fold(rows, remove, into)
  }
  return { action: 'mergePatches', layer: seen.layer, into, ...more }
}

/** Rows that are to be left behind each of `count` steps from `given` to `target`: as many go in each, with an inflection of -1 all the more in the first ones, with 1 in the last. */
export function linearSteps(count: number, given: number, target: number, inflection = 0): number[] {
  const each = (given - target) / count
  const [low, high] = [each * (1 - inflection), each * (1 + inflection)]
  let gone = 0
  return Array.from({ length: count }, (_, i) => {
    gone += count > 1 ? low + (i * (high - low)) / (count - 1) : each
    return i === count - 1 ? target : given - Math.round(gone)
  })
}

/** The same where each step leaves the same share. */
export function geometricSteps(count: number, given: number, target: number): number[] {
  return Array.from({ length: count }, (_, i) =>
    i === count - 1 ? target : Math.round(given * (target / given) ** ((i + 1) / count)),
  )
}

/** Two halves of the rows of a crop, and for each of `a` the place in `b` of the row most like it. */
export interface Halves {
  readonly a: readonly number[]
  readonly b: readonly number[]
  readonly partner: Int32Array
  readonly similarity: Float32Array
}

/** Matches rows `a` with rows `b` of [rows × size] values. */
export function matchRows(values: Float32Array, size: number, a: readonly number[], b: readonly number[]): Halves {
  const units = (places: readonly number[]) => unitRows(pick(values, size, places), size)
  return { a, b, ...largest(products(units(a), units(b), size), b.length) }
}

/** The same from [n × n] cosines of the rows of the crop. */
export function matchIn(
  alike: Float32Array,
  { from, to }: CropRows,
  a: readonly number[],
  b: readonly number[],
): Halves {
  const n = to - from
  const lines = new Float32Array(a.length * b.length)
  let at = 0
  for (const row of a) for (const other of b) lines[at++] = alike[(row - from) * n + other - from] as number
  return { a, b, ...largest(lines, b.length) }
}

/** The rows in turn: in the order of the tower, where class tokens stand first, every second goes to A. */
export function inTurn({ vision }: VisionSeen, { from, to }: CropRows, classes = 1): [number[], number[]] {
  const places = Array.from({ length: to - from }, (_, i) => from + i)
  const first = vision.classToken ? classes % 2 : 0
  return [places.filter((_, i) => i % 2 === first), places.filter((_, i) => i % 2 !== first)]
}

/** The rows of A with the largest `rank` (of equals the first) fold into their partners. */
export function foldBest(
  { a, b, partner }: Halves,
  best: Iterable<number>,
  into: Int32Array,
  sources: Int32Array,
): void {
  for (const i of best) into[a[i] as number] = sources[b[partner[i] as number] as number] as number
}
