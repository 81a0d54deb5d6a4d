// A picture as the tower will read it: decoded, laid out, cut into crops, and named by a hash of all that.
import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { type Opened, openImage, openVideo } from './decode.js'
import type { ImageGiven, VideoGiven } from './image.js'
import { allRows, type Grid, type Item, type LaidCrop, type Layout } from './layout.js'
import type { Resize } from './pixels.js'
import type { Plans } from './processor.js'

export interface Picture {
  readonly kind: 'image' | 'video'
  readonly layout: Layout
  /** [crops × side × side × 3] bytes. */
  readonly crops: Uint8Array
  /** SHA-256 over the crops and how they are laid out, in hexadecimal digits. */
  readonly hash: string
  /** What its rows are: sources behind the projector, or NEWLINE. */
  readonly rows: Int32Array
  /** An id below 0 for each row. */
  readonly ids: Int32Array
}

/** A picture whose layout is known; nothing is decoded yet. */
export interface Announced {
  readonly rows: number
  make(resize: Resize): Promise<Picture>
}

export async function announceImage(image: ImageGiven, plans: Plans, grid: Grid): Promise<Announced> {
  const opened = await openImage(image)
  const { height, width } = opened.size
  const layout = plans.image.layout(width, height)
  return {
    rows: allRows(layout).length,
    async make(resize) {
      const crops = await plans.image.draw(await opened.pixels(), resize)
      return pictureOf('image', layout, crops, grid)
    },
  }
}

export async function announceVideo(video: VideoGiven, plans: Plans, grid: Grid): Promise<Announced> {
  const frames = await openVideo(video)
  const layout = filmOf(
    frames.map(({ size }) => plans.frame.layout(size.width, size.height)),
    grid,
  )
  return {
    rows: allRows(layout).length,
    make: async (resize) => pictureOf('video', layout, await drawFrames(frames, plans, grid, resize), grid),
  }
}

async function drawFrames(frames: readonly Opened[], plans: Plans, grid: Grid, resize: Resize): Promise<Uint8Array> {
  const each = grid.size * grid.size * 3
  const crops = new Uint8Array(frames.length * each)
  for (const [i, frame] of frames.entries()) crops.set(await plans.frame.draw(await frame.pixels(), resize), i * each)
  return crops
}

/** Frames one after another, as one layout. */
function filmOf(frames: readonly Layout[], { rows }: Grid): Layout {
  const crops: LaidCrop[] = []
  const items: Item[] = []
  for (const [number, frame] of frames.entries()) {
    const first = number * rows * rows
    if (number > 0 && frame.items.some((item) => 'text' in item)) items.push({ text: '\n' })
    for (const item of frame.items)
      items.push('text' in item ? item : { rows: item.rows.map((source) => source + first) })
    const [crop] = frame.crops
    crops.push({ ...(crop as LaidCrop), kind: 'frame', row: number, column: 0 })
  }
  const { height, width } = frames[0] as Layout
  return { width, height, crops, items }
}

export async function pictureOf(
  kind: Picture['kind'],
  layout: Layout,
  crops: Uint8Array,
  grid: Grid,
): Promise<Picture> {
  const rows = allRows(layout)
  const hash = await hashOf(layout, crops, grid)
  return { kind, layout, crops, rows, hash: hash.toString('hex'), ids: idsOf(hash, rows.length) }
}

const SLICE = 2 ** 21

/** A slice at a time: the event loop is not ours for long. */
async function hashOf({ crops: laid, height, items, width }: Layout, crops: Uint8Array, grid: Grid): Promise<Buffer> {
  const shape = items.map((item) => ('text' in item ? item.text : Array.from(item.rows)))
  const kinds = laid.map(({ column, kind, row }) => [kind, row, column])
  const hash = createHash('sha256').update(JSON.stringify([grid, width, height, kinds, shape]))
  for (let at = 0; at < crops.length; at += SLICE) {
    hash.update(crops.subarray(at, at + SLICE))
    if (crops.length > SLICE) await turn()
  }
  return hash.digest()
}

/** Below 0, from the words of the hash by turns: where eight rows agree, the pictures do. */
export function idsOf(hash: Buffer, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => -1 - (hash.readUInt32LE((i % 8) * 4) >>> 1))
}
