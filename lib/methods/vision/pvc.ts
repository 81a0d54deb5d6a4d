// PVC: a picture first coarse, then what that misses; of a film what has changed. After arXiv 2412.09613, whose temporal attention, norms and compressor are trained and not here
import { keepsAll } from '../../budget.js'
import { type Cells, cellsWithin, meanRow, membersOf, middleOf } from '../cells.js'
import { defineMethod } from '../define.js'
import type { Crop, Decision, VisionSeen } from '../method.js'
import { keep, real, whole } from '../options.js'
import { type CropRows, cropRows } from '../similar.js'
import { evenly } from '../vision-method.js'

/**
 * The paper's idea without its weights, before the projector. A picture sends the means of cells, about a round's part of the budget, then round by round the patches farthest from
 * the mean of what of their cell was not sent. Of a film the first frame sends the means of its cells, each later one those whose cosine with what was last sent of that cell is
 * less than 1 - `threshold`, the most changed first, as many as the budget has for a frame: a film that stands still sends fewer.
 */
export const pvc = defineMethod({
  name: 'pvc',
  title: 'sends a picture coarse first and then what that misses, and of a film what changes',
  paper: '2412.09613',
  acts: 'vision',
  options: {
    keep,
    rounds: whole(4, 'rounds of a picture, the coarse one among them', 2),
    threshold: real(0.1, 'change of a cell from which a frame sends it: 1 less the cosine', 0, 2),
    cell: whole(0, 'side of the cells of films, in patches; 0: as the budget wants it'),
  },
  looks(shape, _, grant) {
    const { vision } = shape
    if (vision === undefined || keepsAll(grant.keep(shape, vision.layers))) return []
    return { at: 'vision', part: 'projector' }
  },
  decide(seen, { cell, rounds, threshold }, grant) {
    if (seen.at !== 'vision') return null
    const target = grant.rows(seen)
    if (target >= seen.sources.length) return null
    const film = seen.crops.length > 1 && seen.crops.every(({ kind }) => kind === 'frame')
    const groups = film ? changes(seen, target, { cell, threshold }) : coarseToFine(seen, target, rounds)
    const into = seen.sources.slice()
    const kept: number[] = []
    for (const [head, places] of groups) {
      for (const place of places) into[place] = seen.sources[head] as number
      kept.push(seen.sources[head] as number)
    }
    const decisions: Decision[] = [{ action: 'mergePatches', layer: seen.layer, into }]
    if (new Set(into).size > kept.length)
      decisions.push({ action: 'dropPatches', layer: seen.layer, kept: kept.sort((a, b) => a - b) })
    return decisions
  },
})

/** What becomes one row: the place that stands for it, and all of its places. */
type Groups = [head: number, places: readonly number[]][]

function changes(
  seen: VisionSeen,
  target: number,
  { cell, threshold }: { readonly cell: number; readonly threshold: number },
): Groups {
  const hidden = seen.hidden()
  const size = hidden.length / seen.sources.length
  const crop = seen.crops[0] as Crop
  const grid: Cells =
    cell > 0 ? { height: cell, width: cell } : cellsWithin(crop, Math.max(1, Math.floor(target / seen.crops.length)))
  const groups: Groups = []
  const last = new Map<number, Float64Array>()
  const each = Math.ceil(crop.rows / grid.height) * Math.ceil(crop.columns / grid.width)
  const most = Math.max(0, Math.floor((target - each) / (seen.crops.length - 1)))
  for (const [frame, rows] of cropRows(seen).entries()) {
    const { cells } = membersOf(seen, rows, grid)
    const found = cells.flatMap((places, at) => {
      if (places.length === 0) return []
      const mean = meanRow(hidden, size, places)
      const sent = last.get(at)
      return [{ at, mean, places, change: sent ? 1 - cosine(mean, sent) : Number.POSITIVE_INFINITY }]
    })
    const changed = found.filter(({ change }) => change > threshold).sort((a, b) => b.change - a.change || a.at - b.at)
    for (const { at, mean, places } of frame === 0 ? changed : changed.slice(0, most)) {
      last.set(at, mean)
      groups.push([middleOf(places), places])
    }
  }
  return groups
}

function cosine(a: Float64Array, b: Float64Array): number {
  let [ab, aa, bb] = [0, 0, 0]
  for (const [i, x] of a.entries()) {
    const y = b[i] as number
    ab += x * y
    aa += x * x
    bb += y * y
  }
  return ab / (Math.sqrt(aa * bb) || 1)
}

function coarseToFine(seen: VisionSeen, target: number, rounds: number): Groups {
  const counts = evenly(seen, target)
  return cropRows(seen).flatMap((rows) => {
    const count = counts[rows.crop] ?? 0
    return count > 0 ? oneCrop(seen, rows, count, rounds) : []
  })
}

function oneCrop(seen: VisionSeen, rows: CropRows, count: number, rounds: number): Groups {
  const hidden = seen.hidden()
  const size = hidden.length / seen.sources.length
  const grid = cellsWithin(seen.crops[rows.crop] as Crop, Math.max(1, Math.floor(count / rounds)))
  const cells = membersOf(seen, rows, grid).cells.filter((places) => places.length > 0)
  const rest = cells.map((places) => new Set(places))
  const alone: number[] = []
  for (let round = 1; round < rounds; round++) {
    const goal = Math.round(((count - cells.length) * round) / (rounds - 1))
    const errors = rest.flatMap((places, cell) => errorsOf(hidden, size, [...places]).map((one) => ({ ...one, cell })))
    for (const { cell, place } of errors.sort((a, b) => b.error - a.error || a.place - b.place)) {
      if (alone.length >= goal) break
      // Somebody has to stand for the others.
      if (rest[cell]?.size === 1) continue
      rest[cell]?.delete(place)
      alone.push(place)
    }
  }
  const nearest = (places: readonly number[]) =>
    errorsOf(hidden, size, places).reduce((best, one) => (one.error < best.error ? one : best)).place
  return [
    ...rest.map((places): Groups[number] => [nearest([...places]), [...places]]),
    ...alone.map((place): Groups[number] => [place, [place]]),
  ]
}

/** Squared distances from the mean. */
function errorsOf(
  hidden: Float32Array,
  size: number,
  places: readonly number[],
): { readonly place: number; readonly error: number }[] {
  const mean = meanRow(hidden, size, places)
  return places.map((place) => {
    let error = 0
    for (let c = 0; c < size; c++) error += ((hidden[place * size + c] as number) - (mean[c] as number)) ** 2
    return { place, error }
  })
}
