// One budget for all methods: a share, a number of tokens, or bytes of the whole cache; and how it becomes rows.
import { rangeError, typeError } from './errors.js'

/** `0.25`: a share of the tokens that the method may touch. `{ tokens }`: rows. `{ bytes }`: of the session's whole cache, shared evenly over layers and heads. */
export type Budget = number | { readonly tokens: number } | { readonly bytes: number | string }

/** What bytes are shared over (see Shape of method.ts). */
export interface CacheSizes {
  readonly layers: number
  readonly kvHeads: number
  readonly rowBytes: number
  readonly newRowBytes?: number
  readonly floatBytes?: number
}

const UNITS = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 }

/** Bytes of `1048576`, `'64MiB'` or `'1.5 GB'`. */
export function parseBytes(value: unknown, name: string): number {
  const what = "a number of bytes or a size such as '64MiB'"
  if (typeof value !== 'number' && typeof value !== 'string') throw typeError(what, name, value)
  const found = typeof value === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)?\s*$/i.exec(value) : null
  const unit = UNITS[(found?.[2] ?? 'b').toLowerCase() as keyof typeof UNITS]
  if (typeof value === 'string' && (found === null || unit === undefined)) throw typeError(what, name, value)
  const bytes = found === null ? Number(value) : Number(found[1]) * unit
  if (!(bytes > 0 && Number.isFinite(bytes))) throw rangeError('a size above 0', name, value)
  return bytes
}

/** A budget as it was written, checked and frozen. */
export function parseBudget(value: unknown, name = 'keep'): Budget {
  if (typeof value === 'number') {
    if (!(value > 0 && value <= 1)) throw rangeError('a share above 0 and up to 1', name, value)
    return value
  }
  const what = "a share, { tokens } or { bytes: '64MiB' }"
  if (typeof value !== 'object' || value === null) throw typeError(what, name, value)
  const [key, ...more] = Object.keys(value)
  if (more.length > 0 || (key !== 'tokens' && key !== 'bytes')) throw typeError(what, name, value)
  const { tokens, bytes } = value as { tokens?: unknown; bytes?: unknown }
  if (key === 'bytes') {
    parseBytes(bytes, `${name}.bytes`)
    return Object.freeze({ bytes: bytes as number | string })
  }
  if (typeof tokens !== 'number') throw typeError('a number of tokens', `${name}.tokens`, tokens)
  if (!(Number.isInteger(tokens) && tokens >= 1)) throw rangeError('a whole number from 1', `${name}.tokens`, tokens)
  return Object.freeze({ tokens })
}

/** `share` of `count`, rounded up, never below one. What only rounding of the product has put above a whole number is not rounded up again. */
export function shareOf(share: number, count: number): number {
  return Math.max(1, Math.ceil(share * count - 1e-9))
}

/** Rows that a budget grants where `count` tokens may be touched. May be more than `count`. */
export function rowsOf(budget: Budget, count: number, sizes: CacheSizes): number {
  if (typeof budget === 'number') return shareOf(budget, count)
  if ('tokens' in budget) return budget.tokens
  // The first rows of a head are in float, all that come after what stays so are quantized.
  const { floatBytes = 0, newRowBytes = sizes.rowBytes, rowBytes } = sizes
  const bytes = parseBytes(budget.bytes, 'keep.bytes') / (sizes.layers * sizes.kvHeads)
  return Math.max(1, Math.ceil(Math.max(bytes / newRowBytes, (bytes - floatBytes) / rowBytes) - 1e-9))
}

/** True where a budget can never drop anything. */
export function keepsAll(budget: Budget): boolean {
  return budget === 1
}

/**
 * Whole numbers near `ideals` (which sum to no more than `total`) that sum to exactly `total` (or to the sum of `caps`, where that is less): each is rounded down, then what is missing goes, one each, to the
 * largest fractional parts (equal ones: the lower index), round after round.
 */
export function apportion(ideals: readonly number[], total: number, caps: readonly number[]): number[] {
  const counts = ideals.map((ideal, i) => Math.min(Math.floor(ideal + 1e-9), caps[i] ?? 0))
  const order = ideals.map((ideal, i) => [i, Math.round((ideal - Math.floor(ideal + 1e-9)) * 1e9)] as const)
  order.sort((a, b) => b[1] - a[1] || a[0] - b[0])
  let missing = Math.min(
    total,
    caps.reduce((sum, cap) => sum + cap, 0),
  )
  for (const count of counts) missing -= count
  while (missing > 0) {
    for (const [i] of order) {
      if (missing === 0) break
      if ((counts[i] ?? 0) >= (caps[i] ?? 0)) continue
      counts[i] = (counts[i] ?? 0) + 1
      missing--
    }
  }
  return counts
}
