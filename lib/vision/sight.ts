// Between a session and the tower: the pictures of a prompt, the rows that stand for them in a call, and what becomes of them when ids come and go.
import type { Patch } from '../methods/method.js'
import type { Features } from '../native.js'
import type { PlanEntry } from '../plan.js'
import { type Pictures, type Placed, type Prompt, pictureParts } from '../prompt.js'
import { type Encoding, encode } from './encode.js'
import { type Announced, announceImage, announceVideo, type Picture } from './picture.js'
import type { Tower } from './tower.js'

/** The pictures of a prompt, one after another. fits: throws where so many rows are too many; asked before a picture is decoded. */
export async function picturesOf(
  prompt: Prompt,
  tower: Tower | undefined,
  { check, fits }: { check(): void; fits(rows: number): void },
): Promise<Pictures> {
  const made = new Map<object, Picture>()
  if (!tower) return made
  const announced = new Map<object, Announced>()
  let rows = 0
  for (const part of pictureParts(prompt)) {
    check()
    const { grid, plans } = tower
    const one = 'image' in part ? announceImage(part.image, plans, grid) : announceVideo(part.video, plans, grid)
    announced.set(part, await one)
    rows += (await one).rows
    fits(rows)
  }
  for (const [part, one] of announced) {
    check()
    made.set(part, await one.make(tower.resize))
  }
  check()
  return made
}

/** What a call is given for its pictures. */
export interface Sight {
  readonly features?: Features
  /** Places in the call's ids of rows that methods have taken away. */
  readonly gone: readonly number[]
  readonly plan: readonly PlanEntry[]
  /** Place in the call's ids -> what the tower's class token gave it, where somebody asks. */
  readonly looked?: ReadonlyMap<number, number>
  /** Milliseconds, those of methods apart. */
  readonly time: number
  readonly decided: number
}

/** Where there are no pictures. */
export const UNSEEN: Sight = { gone: [], plan: [], time: 0, decided: 0 }

/** pictures: their places in the call's ids. before: ids of the session before the call's. */
export async function see(
  pictures: readonly Placed[],
  before: number,
  work: Omit<Encoding, 'image' | 'place' | 'decided'>,
): Promise<Sight> {
  const { outputSize } = work.tower.config
  const start = performance.now()
  let decided = 0
  const count = (time: number) => {
    decided += time
  }
  const gone: number[] = []
  const plan: PlanEntry[] = []
  const looked = new Map<number, number>()
  const lines: { place: number; row: Float32Array }[] = []
  for (const [image, { picture, places }] of pictures.entries()) {
    const place = (row: number) => (row < places.length ? before + (places[row] as number) : undefined)
    const encoded = await encode(picture, { ...work, image, place, decided: count })
    plan.push(...encoded.plan)
    const left = new Set(encoded.rows)
    for (const [row, at] of places.entries()) if (at >= 0 && !left.has(row)) gone.push(at)
    for (const [i, row] of encoded.rows.entries()) {
      const at = places[row]
      if (at === undefined || at < 0) continue
      if (encoded.looked) looked.set(at, encoded.looked[i] as number)
      lines.push({ place: at, row: encoded.features.subarray(i * outputSize, (i + 1) * outputSize) })
    }
  }
  const rest = () => ({ gone, plan, looked, time: performance.now() - start - decided, decided })
  if (lines.length === 0) return rest()
  lines.sort((a, b) => a.place - b.place)
  const rows = new Float32Array(lines.length * outputSize)
  for (const [i, { row }] of lines.entries()) rows.set(row, i * outputSize)
  return { features: { places: Int32Array.from(lines, ({ place }) => place), rows }, ...rest() }
}

/** The pictures with rows in ids from `begin` to `end`, their places counted from `begin`; those before it are below 0. */
export function picturesIn(pictures: readonly Placed[], begin: number, end = Number.POSITIVE_INFINITY): Placed[] {
  return pictures.flatMap(({ picture, places }) => {
    const inside = places.filter((place) => place < end)
    return (inside.at(-1) ?? -1) >= begin ? [{ picture, places: inside.map((place) => place - begin) }] : []
  })
}

/** Where a patch comes from, by its place in session.ids. */
export function patchesOf(pictures: readonly Placed[], tower: Tower): (source: number) => Patch | undefined {
  let known: Map<number, Patch> | undefined
  const read = () => {
    const found = new Map<number, Patch>()
    const side = tower.grid.rows
    for (const [image, { picture, places }] of pictures.entries()) {
      const crops = picture.layout.crops.map(({ box, ...crop }) => ({ ...crop, image, rows: side, columns: side }))
      for (const [row, place] of places.entries()) {
        const source = picture.rows[row] as number
        const crop = crops[Math.floor(source / (side * side))]
        if (source < 0 || !crop) continue
        found.set(place, { crop, row: Math.floor((source % (side * side)) / side), column: source % side })
      }
    }
    return found
  }
  return (source) => {
    known ??= read()
    return known.get(source)
  }
}
