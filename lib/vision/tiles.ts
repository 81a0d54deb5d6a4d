// Idefics 3 and SmolVLM: a picture in tiles of the tower's size, row by row with markers between, then small as a whole.
import { type Grid, type Item, type LaidCrop, type Layout, type Plan, rowsOf, wholeCrop } from './layout.js'
import { cut } from './pixels.js'

/** Sides of a picture that nothing makes larger. */
const MOST_SIDE = 4096
const AROUND = '<fake_token_around_image>'
const WHOLE = '<global-img>'

interface Fit {
  /** Longest side first, then both to multiples of a tile. */
  readonly first: { readonly width: number; readonly height: number }
  readonly width: number
  readonly height: number
}

/** longest: pixels that the longer side gets before it is cut. split: whether it is cut at all. */
export function tiles(grid: Grid, longest: number, split = true): Plan {
  const { size } = grid
  return {
    layout: (width, height) => layoutOf(grid, width, height, split ? fitOf(width, height, longest, size) : undefined),
    async draw(pixels, resize) {
      const { first, height, width } = fitOf(pixels.width, pixels.height, longest, size)
      const once = await resize(pixels, first.width, first.height)
      if (!split) return (await resize(once, size, size)).data
      const canvas = await resize(once, width, height)
      const [down, across] = [height / size, width / size]
      if (down * across === 1) return canvas.data
      const out = new Uint8Array((1 + down * across) * size * size * 3)
      for (let row = 0; row < down; row++)
        for (let column = 0; column < across; column++)
          cut(canvas, column * size, row * size, size, out, row * across + column)
      cut(await resize(canvas, size, size), 0, 0, size, out, down * across)
      return out
    },
  }
}

function fitOf(width: number, height: number, longest: number, size: number): Fit {
  const first = below(toLongest(width, height, longest))
  const ratio = first.width / first.height
  const up = (length: number) => Math.ceil(length / size) * size
  if (first.width >= first.height) {
    const wide = up(first.width)
    return { first, width: wide, height: up(Math.trunc(wide / ratio)) || size }
  }
  const high = up(first.height)
  return { first, width: up(Math.trunc(high * ratio)) || size, height: high }
}

interface Sides {
  readonly width: number
  readonly height: number
}

/** The longer side as asked, the other one even. */
function toLongest(width: number, height: number, longest: number): Sides {
  const ratio = width / height
  const even = (length: number) => Math.max(1, Math.trunc(length) + (Math.trunc(length) % 2))
  return width >= height
    ? { width: longest, height: even(longest / ratio) }
    : { width: even(longest * ratio), height: longest }
}

function below({ height, width }: Sides): Sides {
  if (Math.max(width, height) <= MOST_SIDE) return { width, height }
  const ratio = width / height
  return width >= height
    ? { width: MOST_SIDE, height: Math.max(1, Math.trunc(MOST_SIDE / ratio)) }
    : { width: Math.max(1, Math.trunc(MOST_SIDE * ratio)), height: MOST_SIDE }
}

function layoutOf(grid: Grid, width: number, height: number, fit: Fit | undefined): Layout {
  const { size } = grid
  const [down, across] = fit ? [fit.height / size, fit.width / size] : [1, 1]
  const all = [0, 0, width, height] as const
  const end = { text: AROUND }
  if (down * across === 1)
    return {
      width,
      height,
      crops: [wholeCrop(grid, 'whole', all)],
      items: [{ text: `${AROUND}${WHOLE}` }, { rows: rowsOf(0, grid) }, end],
    }
  const crops: LaidCrop[] = []
  const items: Item[] = []
  const [x, y] = [width / across, height / down]
  for (let row = 0; row < down; row++)
    for (let column = 0; column < across; column++) {
      const before = column === 0 && row > 0 ? '\n' : ''
      items.push({ text: `${before}${AROUND}<row_${row + 1}_col_${column + 1}>` }, { rows: rowsOf(crops.length, grid) })
      crops.push(wholeCrop(grid, 'tile', [column * x, row * y, (column + 1) * x, (row + 1) * y], row, column))
    }
  items.push({ text: `\n\n${AROUND}${WHOLE}` }, { rows: rowsOf(crops.length, grid) }, end)
  crops.push(wholeCrop(grid, 'thumbnail', all))
  return { width, height, crops, items }
}
