// The addon with cards, for tests that import this before anything of lib/: emulated ones, two of them, whose kernels are
// the .cu files themselves (test/native/simt); those of the machine where TOKENSIEVE_CARDS=1 (npm run test:cuda).
import { fileURLToPath } from 'node:url'

export const real = process.env.TOKENSIEVE_CARDS === '1'
export const folder = fileURLToPath(new URL(real ? '..' : '../build/simt', import.meta.url))
process.env.TOKENSIEVE_PREBUILD = folder

/** The difference of two vectors, as a share of the second one's length. */
export const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.hypot(...Array.from(b, (x, i) => x - (a[i] as number))) / Math.hypot(...Array.from(b))
