// How a picture is laid out: what the tower reads of it, and in which order its rows come to the decoder.
import type { Crop } from '../methods/method.js'
import type { Pixels } from './decode.js'
import type { Resize } from './pixels.js'

/** A crop of a picture, and the part of the picture that it shows: [left, top, right, bottom] in the picture's own pixels; beyond its edges where it was padded. */
export interface LaidCrop extends Omit<Crop, 'image'> {
  readonly box: readonly [number, number, number, number]
}

/** The row behind each row of a picture in tiles. */
export const NEWLINE = -1

/** Text between the rows; or rows, each the source of a patch behind the projector, or NEWLINE. */
export type Item = { readonly text: string } | { readonly rows: Int32Array }

export interface Layout {
  readonly width: number
  readonly height: number
  readonly crops: readonly LaidCrop[]
  readonly items: readonly Item[]
}

/** Sizes of a tower that a layout hangs on. */
export interface Grid {
  /** Pixels of a side of a crop. */
  readonly size: number
  /** Patches of a side of a crop, and behind the projector. */
  readonly side: number
  readonly rows: number
}

/** How pictures become crops: where everything lies, and the crops themselves, [crops × size × size × 3] bytes. */
export interface Plan {
  layout(width: number, height: number): Layout
  draw(pixels: Pixels, resize: Resize): Promise<Uint8Array>
}

/** All rows of a crop, in order. */
export function rowsOf(crop: number, { rows }: Grid): Int32Array {
  return Int32Array.from({ length: rows * rows }, (_, i) => crop * rows * rows + i)
}

/** The rows that a picture gives: sources behind the projector, or NEWLINE. */
export function allRows({ items }: Pick<Layout, 'items'>): Int32Array {
  const parts = items.flatMap((item) => ('rows' in item ? [item.rows] : []))
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

export function wholeCrop(grid: Grid, kind: Crop['kind'], box: LaidCrop['box'], row = 0, column = 0): LaidCrop {
  return { kind, row, column, rows: grid.side, columns: grid.side, box }
}
