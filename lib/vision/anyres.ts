// LLaVA 1.6: a picture small as a whole, then in tiles of the resolution that wastes least, without the rows that only padding would fill, a newline behind each row.
import { type Grid, type Item, type LaidCrop, type Layout, NEWLINE, type Plan, rowsOf, wholeCrop } from './layout.js'
import { cut, onGround } from './pixels.js'

/** [height, width] of a picture in tiles. */
export type Resolution = readonly [height: number, width: number]

interface Fit {
  readonly height: number
  readonly width: number
  /** The picture inside, resized with its ratio kept, and its corner. */
  readonly inside: { readonly width: number; readonly height: number; readonly left: number; readonly top: number }
}

export function anyres(grid: Grid, resolutions: readonly Resolution[]): Plan {
  const { size } = grid
  return {
    layout: (width, height) => layoutOf(grid, width, height, fitOf(width, height, resolutions)),
    async draw(pixels, resize) {
      const { height, inside, width } = fitOf(pixels.width, pixels.height, resolutions)
      const [down, across] = [height / size, width / size]
      const out = new Uint8Array((1 + down * across) * size * size * 3)
      cut(await resize(pixels, size, size), 0, 0, size, out, 0)
      const resized = await resize(pixels, inside.width, inside.height)
      const canvas = await onGround(resized, { width, height, left: inside.left, top: inside.top, colour: [0, 0, 0] })
      for (let row = 0; row < down; row++)
        for (let column = 0; column < across; column++)
          cut(canvas, column * size, row * size, size, out, 1 + row * across + column)
      return out
    },
  }
}

/** The resolution that holds most of the picture's pixels, of equals the one that wastes fewest, of equals the first. */
export function bestResolution(width: number, height: number, resolutions: readonly Resolution[]): Resolution {
  let best: { resolution: Resolution; held: number; wasted: number } | undefined
  for (const resolution of resolutions) {
    const [h, w] = resolution
    const scale = Math.min(w / width, h / height)
    const held = Math.min(Math.trunc(width * scale) * Math.trunc(height * scale), width * height)
    const wasted = w * h - held
    if (!best || held > best.held || (held === best.held && wasted < best.wasted)) best = { resolution, held, wasted }
  }
  return (best as { resolution: Resolution }).resolution
}

function fitOf(width: number, height: number, resolutions: readonly Resolution[]): Fit {
  const [h, w] = bestResolution(width, height, resolutions)
  const [across, down] = [w / width, h / height]
  const small =
    across < down
      ? { width: w, height: Math.min(Math.ceil(height * across), h) }
      : { width: Math.min(Math.ceil(width * down), w), height: h }
  const left = Math.floor((w - small.width) / 2)
  return { height: h, width: w, inside: { ...small, left, top: Math.floor((h - small.height) / 2) } }
}

function layoutOf(grid: Grid, width: number, height: number, fit: Fit): Layout {
  const { size } = grid
  const [down, across] = [fit.height / size, fit.width / size]
  const scale = { x: width / fit.inside.width, y: height / fit.inside.height }
  const x = (column: number) => (column * size - fit.inside.left) * scale.x
  const y = (row: number) => (row * size - fit.inside.top) * scale.y
  const tiles: LaidCrop[] = []
  for (let row = 0; row < down; row++)
    for (let column = 0; column < across; column++)
      tiles.push(wholeCrop(grid, 'tile', [x(column), y(row), x(column + 1), y(row + 1)], row, column))
  const crops = [wholeCrop(grid, 'thumbnail', [0, 0, width, height]), ...tiles]
  const items: Item[] = [{ rows: rowsOf(0, grid) }, { rows: canvasRows(grid, width, height, down, across) }]
  return { width, height, crops, items }
}

/** Rows of the tiles side by side, line after line, those left out that hold nothing but padding. */
function canvasRows({ rows: side }: Grid, width: number, height: number, down: number, across: number): Int32Array {
  const [lines, columns] = [down * side, across * side]
  const cutLines = width / height > columns / lines
  const pad = cutLines
    ? Math.floor((lines - wholePart(height * (columns / width))) / 2)
    : Math.floor((columns - wholePart(width * (lines / height))) / 2)
  const [top, left] = cutLines ? [pad, 0] : [0, pad]
  const rows: number[] = []
  for (let line = top; line < lines - top; line++) {
    for (let column = left; column < columns - left; column++) {
      const tile = Math.floor(line / side) * across + Math.floor(column / side)
      rows.push((1 + tile) * side * side + (line % side) * side + (column % side))
    }
    rows.push(NEWLINE)
  }
  return Int32Array.from(rows)
}

/** What is left of a number, after errors behind its seventh digit are rounded away. */
function wholePart(value: number): number {
  return Math.trunc(Number(value.toFixed(7)))
}
