// Pictures that are one crop: pressed into a square, cut to one, or padded to one.
import { TokensieveError } from '../errors.js'
import { MOST_PIXELS } from './image.js'
import { type Grid, type Layout, type Plan, rowsOf, wholeCrop } from './layout.js'
import { cut, onGround } from './pixels.js'

function single(grid: Grid, width: number, height: number, box: readonly [number, number, number, number]): Layout {
  return { width, height, crops: [wholeCrop(grid, 'whole', box)], items: [{ rows: rowsOf(0, grid) }] }
}

/** Both sides resized by themselves. */
export function pressed(grid: Grid): Plan {
  return {
    layout: (width, height) => single(grid, width, height, [0, 0, width, height]),
    draw: async (pixels, resize) => (await resize(pixels, grid.size, grid.size)).data,
  }
}

/** The shortest side resized, the middle kept: CLIP. */
export function centred(grid: Grid, shortest: number): Plan {
  const { size } = grid
  const sizes = (width: number, height: number) => {
    const [short, long] = width < height ? [width, height] : [height, width]
    const longer = Math.trunc((shortest * long) / short)
    if (longer * shortest > MOST_PIXELS)
      throw new TokensieveError(
        'ERR_UNSUPPORTED',
        `[image] expected a picture that is not as long and narrow as ${width} × ${height}`,
      )
    return width < height ? { w: shortest, h: longer } : { w: longer, h: shortest }
  }
  const corner = ({ h, w }: { w: number; h: number }) => ({
    left: Math.floor((w - size) / 2),
    top: Math.floor((h - size) / 2),
  })
  return {
    layout(width, height) {
      const small = sizes(width, height)
      const { left, top } = corner(small)
      const [x, y] = [width / small.w, height / small.h]
      return single(grid, width, height, [left * x, top * y, (left + size) * x, (top + size) * y])
    },
    async draw(pixels, resize) {
      const small = sizes(pixels.width, pixels.height)
      const resized = await resize(pixels, small.w, small.h)
      const { left, top } = corner(small)
      if (left < 0 || top < 0)
        return (await onGround(resized, { width: size, height: size, left: -left, top: -top, colour: [0, 0, 0] })).data
      const out = new Uint8Array(size * size * 3)
      cut(resized, left, top, size, out, 0)
      return out
    },
  }
}

/** Sides that a picture has at most before it is padded, where the square would have too many pixels. */
const SHRUNK = 4096

/** Padded to a square with a colour, then resized: LLaVA 1.5. */
export function padded(grid: Grid, colour: readonly number[]): Plan {
  const { size } = grid
  return {
    layout(width, height) {
      const side = Math.max(width, height)
      const [left, top] = [Math.floor((side - width) / 2), Math.floor((side - height) / 2)]
      return single(grid, width, height, [-left, -top, side - left, side - top])
    },
    async draw(pixels, resize) {
      const { height, width } = pixels
      const most = Math.max(width, height)
      const fits = most * most <= MOST_PIXELS
      const share = SHRUNK / most
      const small = (length: number) => Math.max(1, Math.round(length * share))
      const given = fits ? pixels : await resize(pixels, small(width), small(height))
      const side = Math.max(given.width, given.height)
      const [left, top] = [Math.floor((side - given.width) / 2), Math.floor((side - given.height) / 2)]
      const square =
        given.width === given.height ? given : await onGround(given, { width: side, height: side, left, top, colour })
      return (await resize(square, size, size)).data
    },
  }
}
