// What is done to pixels before a tower reads them: resized by native, put on a ground, cut, normalised.
import { setImmediate as turn } from 'node:timers/promises'
import type { VisionAddon } from '../native-vision.js'
import type { Pixels } from './decode.js'

export type Resample = VisionAddon['resample']
export type Filter = Parameters<Resample>[3]['filter']

/** How a processor resizes. */
export type Resize = (pixels: Pixels, width: number, height: number) => Promise<Pixels>

export function resizer(resample: Resample, filter: Filter): Resize {
  return async (pixels, width, height) => {
    if (pixels.width === width && pixels.height === height) return pixels
    const data = await resample(pixels.data, pixels.width, pixels.height, { width, height, filter })
    return { data, width, height }
  }
}

const SLICE = 2 ** 21

/** The picture on a ground of one colour, its corner at (left, top). A slice at a time: the event loop is not ours for long. */
export async function onGround(
  { data, height, width }: Pixels,
  to: { width: number; height: number; left: number; top: number; colour: readonly number[] },
): Promise<Pixels> {
  const line = 3 * to.width
  const out = new Uint8Array(to.height * line)
  const ground = Uint8Array.from({ length: line }, (_, i) => to.colour[i % 3] as number)
  const each = Math.max(1, Math.floor(SLICE / line))
  for (let first = 0; first < to.height; first += each) {
    for (let row = first; row < Math.min(first + each, to.height); row++) {
      const from = row - to.top
      out.set(ground, row * line)
      if (from >= 0 && from < height)
        out.set(data.subarray(from * width * 3, (from + 1) * width * 3), row * line + 3 * to.left)
    }
    if (to.height > each) await turn()
  }
  return { data: out, width: to.width, height: to.height }
}

/** Writes a square of the picture into `out` at `place`, counted in squares. */
export function cut(from: Pixels, left: number, top: number, side: number, out: Uint8Array, place: number): void {
  const at = place * side * side * 3
  for (let row = 0; row < side; row++) {
    const begin = ((top + row) * from.width + left) * 3
    out.set(from.data.subarray(begin, begin + side * 3), at + row * side * 3)
  }
}

/**
 * [crops × 3 × side × side] planes of [crops × side × side × 3] bytes: over 255, less the mean, over the deviation, each step rounded to f32 as the processors of the models do.
 */
export function normalise(
  bytes: Uint8Array,
  side: number,
  { deviation, mean }: { readonly mean: readonly number[]; readonly deviation: readonly number[] },
): Float32Array {
  const plane = side * side
  const { fround } = Math
  const out = new Float32Array(bytes.length)
  for (let c = 0; c < 3; c++) {
    const [middle, spread] = [fround(mean[c] as number), fround(deviation[c] as number)]
    const table = Float32Array.from({ length: 256 }, (_, value) => fround(fround(value * (1 / 255)) - middle) / spread)
    for (let crop = 0; crop * plane * 3 < bytes.length; crop++) {
      const from = crop * plane * 3 + c
      const to = (crop * 3 + c) * plane
      for (let i = 0; i < plane; i++) out[to + i] = table[bytes[from + 3 * i] as number] as number
    }
  }
  return out
}
