// Pictures by a formula, the same that test/fixtures/pictures was made of.
import type { Pixels } from '../lib/vision/decode.js'

/** Waves, edges, a checkerboard and noise. */
export function picture(width: number, height: number, seed: number): Pixels & { readonly channels: 3 } {
  const data = new Uint8Array(width * height * 3)
  let state = BigInt(seed)
  let at = 0
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) {
        state = (state * 1103515245n + 12345n) & 0x7fffffffn
        const noise = Number(state >> 16n) % 64
        const wave = (x * (c + 3) * 5 + y * (5 - c) * 7) % 256
        const edge = (Math.floor(x / 5) + Math.floor(y / 7)) % 3 === 0 ? 255 : 0
        data[at++] = (x + y) % 11 ? Math.floor((wave + edge + noise) / 3) : 255 * ((x + c) % 2)
      }
  return { data, width, height, channels: 3 }
}
