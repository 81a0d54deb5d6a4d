// Resampling as Pillow does it, in plain loops: filters stretched where a picture shrinks, coefficients of 22 bits, each pass rounded to 8 bits.
// From version 13 on it goes down first where the height loses more than twice what the width does.
import type { Resample } from '../lib/vision/pixels.js'

const BITS = 22

const filters = {
  bilinear: { support: 1, at: (x: number) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    at(value: number) {
      const [a, x] = [-0.5, Math.abs(value)]
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
    },
  },
  lanczos: {
    support: 3,
    at: (x: number) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0),
  },
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI)
}

interface Line {
  readonly first: number
  readonly weights: readonly number[]
}

function linesOf(from: number, to: number, { at, support }: (typeof filters)['bicubic']): Line[] {
  const scale = from / to
  const stretch = Math.max(scale, 1)
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale
    const first = Math.max(0, Math.trunc(centre - support * stretch + 0.5))
    const end = Math.min(from, Math.trunc(centre + support * stretch + 0.5))
    const raw = Array.from({ length: end - first }, (_, j) => at((j + first - centre + 0.5) * (1 / stretch)))
    const sum = raw.reduce((all, one) => all + one, 0)
    const weights = raw.map((one) => {
      const weight = sum === 0 ? one : one / sum
      return Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * 2 ** BITS)
    })
    return { first, weights }
  })
}

/** One pass: `lines` says what each place of the output is made of, `read` where the input is. */
function pass(
  out: Uint8Array,
  lines: readonly Line[],
  count: number,
  place: (line: number, other: number) => number,
  read: (line: number, other: number, c: number) => number,
): void {
  for (const [i, { first, weights }] of lines.entries())
    for (let other = 0; other < count; other++)
      for (let c = 0; c < 3; c++) {
        let sum = 2 ** (BITS - 1)
        for (const [j, weight] of weights.entries()) sum += weight * read(first + j, other, c)
        out[place(i, other) + c] = Math.max(0, Math.min(255, Math.floor(sum / 2 ** BITS)))
      }
}

export const resample: Resample = async (pixels, width, height, to) => {
  const filter = filters[to.filter]
  const across = (source: Uint8Array, rows: number) => {
    if (to.width === width) return source
    const out = new Uint8Array(to.width * rows * 3)
    pass(
      out,
      linesOf(width, to.width, filter),
      rows,
      (x, y) => (y * to.width + x) * 3,
      (x, y, c) => source[(y * width + x) * 3 + c] as number,
    )
    return out
  }
  const down = (source: Uint8Array, columns: number) => {
    if (to.height === height) return source
    const out = new Uint8Array(columns * to.height * 3)
    pass(
      out,
      linesOf(height, to.height, filter),
      columns,
      (y, x) => (y * columns + x) * 3,
      (y, x, c) => source[(y * columns + x) * 3 + c] as number,
    )
    return out
  }
  const downFirst = height > to.height && height - to.height > 2 * (width - to.width)
  return downFirst ? across(down(pixels, width), to.height) : down(across(pixels, height), to.width)
}
