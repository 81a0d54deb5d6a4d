// What was observed of some rows, of those of them that are left.
import type { Crop, VisionWhat } from './method.js'

/** Places of those of `kept` that are among `sources`, both ascending. */
export function placesOf(sources: Int32Array, kept: ArrayLike<number>): Int32Array {
  const places = new Int32Array(kept.length)
  let filled = 0
  for (let i = 0, place = 0; i < kept.length; i++) {
    while (place < sources.length && (sources[place] as number) < (kept[i] as number)) place++
    if (sources[place] === kept[i]) places[filled++] = place
  }
  return places.subarray(0, filled)
}

/** Lines of [rows × size] values, whatever the size. */
export function gather<A extends Float32Array | Int32Array>(values: A, places: Int32Array, rows: number): A {
  const size = rows > 0 ? values.length / rows : 0
  const kept = values.slice(0, places.length * size) as A
  for (let i = 0; i < places.length; i++) {
    const from = (places[i] as number) * size
    if (size === 1) kept[i] = values[from] as number
    else kept.set(values.subarray(from, from + size), i * size)
  }
  return kept
}

/** Patches of one crop, all of them; crops of a tower have one size. */
export function patchesOf(crops: readonly Crop[]): number {
  return (crops[0]?.rows ?? 1) * (crops[0]?.columns ?? 1)
}

/** Where the rows of each crop begin in `sources`, and where the last one's end. */
export function cropStarts(sources: Int32Array, crops: readonly Crop[]): Int32Array {
  const patches = patchesOf(crops)
  const starts = new Int32Array(crops.length + 1)
  for (let crop = 0, place = 0; crop <= crops.length; crop++) {
    while (place < sources.length && (sources[place] as number) < crop * patches) place++
    starts[crop] = place
  }
  return starts
}

/** What crops that are joined are to whoever goes through rows crop by crop. */
export function asOne(crops: readonly Crop[], joined: number): readonly Crop[] {
  if (joined === 1) return crops
  return crops.filter((_, i) => i % joined === 0).map((crop) => ({ ...crop, rows: crop.rows * joined }))
}

/** What was observed in a block of the rows that it `had`, of those `left`: zeros of rows that came later. Pairs lose lines and columns, crop by crop. */
export function ofPatches(
  what: VisionWhat,
  values: Float32Array,
  { had, left, crops }: { had: Int32Array; left: Int32Array; crops: readonly Crop[] },
): Float32Array {
  if (had.length === left.length && had.every((source, i) => source === left[i])) return values
  const places = placesIn(had, left)
  if (what !== 'pairs' && what !== 'cosines' && what !== 'keyCosines') return lines(values, places, had.length)
  const [before, after] = [cropStarts(had, crops), cropStarts(left, crops)]
  const counts = Array.from(crops, (_, crop) => (after[crop + 1] as number) - (after[crop] as number))
  const kept = new Float32Array(counts.reduce((sum, count) => sum + count * count, 0))
  let from = 0
  let to = 0
  for (let crop = 0; crop < crops.length; crop++) {
    const first = before[crop] as number
    const rows = (before[crop + 1] as number) - first
    const own = places.subarray(after[crop] as number, after[crop + 1] as number)
    for (const row of own)
      for (const column of own)
        kept[to++] = row < 0 || column < 0 ? 0 : (values[from + (row - first) * rows + column - first] as number)
    from += rows * rows
  }
  return kept
}

/** Where each of `left` is in `had`, both ascending; -1 for what came later. */
function placesIn(had: Int32Array, left: Int32Array): Int32Array {
  let place = 0
  return left.map((source) => {
    while (place < had.length && (had[place] as number) < source) place++
    return had[place] === source ? place : -1
  })
}

/** Lines of [rows × size] values, zeros where there is none. */
function lines(values: Float32Array, places: Int32Array, rows: number): Float32Array {
  const size = rows > 0 ? values.length / rows : 0
  const out = new Float32Array(places.length * size)
  for (const [i, place] of places.entries())
    if (place >= 0) out.set(values.subarray(place * size, (place + 1) * size), i * size)
  return out
}
