// The kernels on typed arrays: synchronous, row-major, last axis contiguous. What the engine runs, one at a time, to test and to build on.
import { fromNative, rangeError, typeError } from './errors.js'
import { native } from './native.js'
import type { NativeKernels } from './native-kernels.js'

/** Where a kernel runs: the exact plain loops, or the best instruction set of this machine (also by its name, such as 'avx2'). */
export interface KernelOptions {
  readonly backend?: 'reference' | 'cpu' | (string & {})
}

/** Types that weights and cache rows may have; a block of so many numbers is stored together. */
const BLOCKS: Readonly<Record<string, number>> = {
  f32: 1,
  f16: 1,
  bf16: 1,
  q8_0: 32,
  q4_0: 32,
  q4_1: 32,
  q5_0: 32,
  q5_1: 32,
  q4_k: 256,
  q5_k: 256,
  q6_k: 256,
}

function run<T>({ backend = 'cpu' }: KernelOptions, work: (kernels: NativeKernels, backend: string) => T): T {
  if (typeof backend !== 'string') throw typeError("'reference' or 'cpu'", 'backend', backend)
  try {
    return work(native().kernels, backend)
  } catch (error) {
    throw fromNative(error)
  }
}

function floats(value: unknown, name: string, multiple = 1): Float32Array {
  if (!(value instanceof Float32Array)) throw typeError('a Float32Array', name, value)
  if (value.length % multiple !== 0) throw rangeError(`a multiple of ${multiple} numbers`, name, value.length)
  return value
}

function whole(value: unknown, name: string, min: number, max = 2 ** 30): number {
  if (typeof value !== 'number') throw typeError('a number', name, value)
  if (!(Number.isInteger(value) && value >= min && value <= max))
    throw rangeError(`a whole number from ${min} to ${max}`, name, value)
  return value
}

function blockOf(dtype: unknown): number {
  const block = typeof dtype === 'string' && Object.hasOwn(BLOCKS, dtype) ? BLOCKS[dtype] : undefined
  if (block === undefined) throw typeError(`one of ${Object.keys(BLOCKS).join(', ')}`, 'dtype', dtype)
  return block
}

export interface AttentionOptions {
  /** [n × heads × headSize], rotated already */
  readonly q: Float32Array
  /** [rows × kvHeads × headSize] */
  readonly k: Float32Array
  readonly v: Float32Array
  readonly heads: number
  readonly kvHeads: number
  /** A multiple of 16, at most 256. */
  readonly headSize: number
  /** Default 1 / √headSize. */
  readonly scale?: number
  /** The n queries are the newest rows and see themselves and what came before (default true); else all rows. */
  readonly causal?: boolean
  /** [rows]: 0 drops a row. */
  readonly keep?: Uint8Array | readonly boolean[]
  /** [rows], ascending: where causal, query i stands at positions[rows - n + i] and sees the rows at or before it. */
  readonly positions?: ArrayLike<number>
  /** Also give the probability mass of every row, summed over the queries: [heads × rows]. */
  readonly scores?: boolean
}

/** softmax(scale q kᵀ) v, heads in groups; no attention matrix is stored. output [n × heads × headSize]. */
function attention(o: AttentionOptions, options: KernelOptions = {}): { output: Float32Array; scores?: Float32Array } {
  const heads = whole(o.heads, 'heads', 1, 1024)
  const kvHeads = whole(o.kvHeads, 'kvHeads', 1, heads)
  const headSize = whole(o.headSize, 'headSize', 16, 256)
  if (heads % kvHeads !== 0) throw rangeError('a multiple of kvHeads', 'heads', heads)
  if (headSize % 16 !== 0) throw rangeError('a multiple of 16', 'headSize', headSize)
  const q = floats(o.q, 'q', heads * headSize)
  const k = floats(o.k, 'k', kvHeads * headSize)
  const v = floats(o.v, 'v', kvHeads * headSize)
  if (v.length !== k.length) throw rangeError(`${k.length} numbers, as many as k has,`, 'v', v.length)
  const n = q.length / (heads * headSize)
  const rows = k.length / (kvHeads * headSize)
  const { first, end } = ranges(o, n, rows)
  const keep = o.keep === undefined ? null : Uint8Array.from(o.keep, Number)
  if (keep && keep.length !== rows) throw rangeError(`${rows} numbers, one a row,`, 'keep', keep.length)
  const scale = o.scale ?? 1 / Math.sqrt(headSize)
  const given = { q, k, v, heads, kvHeads, headSize, scale, first, end, keep, scores: o.scores ?? false }
  const { output, scores } = run(options, (kernels, backend) => kernels.attention(backend, given))
  return scores ? { output, scores } : { output }
}

function ranges(
  { causal = true, positions }: AttentionOptions,
  n: number,
  rows: number,
): { first: Int32Array; end: Int32Array } {
  const first = new Int32Array(n)
  if (!causal) return { first, end: new Int32Array(n).fill(rows) }
  if (n > rows) throw rangeError(`at most ${rows} rows, as many as k has,`, 'q', n)
  const end = Int32Array.from({ length: n }, (_, i) => rows - n + i + 1)
  if (positions === undefined) return { first, end }
  if (positions.length !== rows) throw rangeError(`${rows} numbers, one a row,`, 'positions', positions.length)
  const at = (row: number) => positions[row] as number
  for (let row = 1; row < rows; row++)
    if (at(row) < at(row - 1)) throw rangeError('ascending numbers', 'positions', at(row))
  for (let i = 0; i < n; i++) {
    let last = rows - n + i
    while (last + 1 < rows && at(last + 1) === at(rows - n + i)) last++
    end[i] = last + 1
  }
  return { first, end }
}

/** x in blocks of `dtype` (f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1), in GGUF's layout. */
function quantize(x: Float32Array, dtype: string, options: KernelOptions = {}): Uint8Array {
  const block = blockOf(dtype)
  if (block === 256) throw typeError('a type that can be written, not one of the K types,', 'dtype', dtype)
  floats(x, 'x', block)
  return run(options, (kernels, backend) => kernels.quantize(backend, x, dtype))
}

/** n numbers of blocks in GGUF's layout. */
function dequantize(bytes: Uint8Array, dtype: string, n: number, options: KernelOptions = {}): Float32Array {
  if (!(bytes instanceof Uint8Array)) throw typeError('a Uint8Array', 'bytes', bytes)
  if (whole(n, 'n', 0) % blockOf(dtype) !== 0) throw rangeError(`a multiple of ${blockOf(dtype)}`, 'n', n)
  return run(options, (kernels, backend) => kernels.dequantize(backend, bytes, dtype, n))
}

export interface MatmulOptions {
  /** [rows × cols] in GGUF's layout of `dtype`. */
  readonly weights: Uint8Array | Float32Array
  readonly dtype: string
  readonly rows: number
  readonly cols: number
  /** [n × cols] */
  readonly x: Float32Array
}

/** x Wᵀ: [n × rows]. The cpu backend rounds x to 8 bits in blocks of 32 where W is quantized, the reference never. */
function matmul({ weights, dtype, rows, cols, x }: MatmulOptions, options: KernelOptions = {}): Float32Array {
  whole(rows, 'rows', 1, 2 ** 24)
  if (whole(cols, 'cols', 1, 2 ** 24) % blockOf(dtype) !== 0)
    throw rangeError(`a multiple of ${blockOf(dtype)}`, 'cols', cols)
  floats(x, 'x', cols)
  return run(options, (kernels, backend) => kernels.matmul(backend, weights, dtype, rows, cols, x))
}

/** Rows of `size` numbers, each divided by the root of its mean square, times weight. */
function rmsNorm(
  x: Float32Array,
  size: number,
  { weight, eps = 1e-5, ...options }: KernelOptions & { weight?: Float32Array; eps?: number } = {},
): Float32Array {
  floats(x, 'x', whole(size, 'size', 1))
  return run(options, (kernels, backend) => kernels.rmsNorm(backend, x, weight ?? null, size, eps))
}

export interface RopeOptions {
  readonly heads: number
  readonly headSize: number
  /** [n], of the rows of x [n × heads × headSize] */
  readonly positions: ArrayLike<number>
  readonly base?: number
  /** Channels of a head that are rotated, pairs (i, i + rotated / 2); default all. */
  readonly rotated?: number
}

/** x with its rotary positions. */
function rope(
  x: Float32Array,
  { heads, headSize, positions, base = 10000, rotated = headSize }: RopeOptions,
  options: KernelOptions = {},
): Float32Array {
  floats(x, 'x', whole(heads, 'heads', 1) * whole(headSize, 'headSize', 2))
  return run(options, (kernels, backend) =>
    kernels.rope(backend, x, heads, headSize, rotated, Float64Array.from(positions), base),
  )
}

/** Indices of the k largest numbers, ascending, or by value from the largest on; of equal numbers the lower index. */
function topK(
  x: Float32Array,
  k: number,
  { order = 'index', ...options }: KernelOptions & { order?: 'index' | 'value' } = {},
): Int32Array {
  whole(k, 'k', 0, floats(x, 'x').length)
  return run(options, (kernels, backend) => kernels.topK(backend, x, k, order === 'value'))
}

/** Rows of `size` numbers folded into groups: row i goes into group into[i] (-1: nowhere), weighted by sizes (default 1). */
function merge(
  x: Float32Array,
  size: number,
  { into, sizes, ...options }: KernelOptions & { into: Int32Array; sizes?: Float32Array },
): { rows: Float32Array; sizes: Float32Array } {
  floats(x, 'x', whole(size, 'size', 1))
  if (!(into instanceof Int32Array)) throw typeError('an Int32Array', 'into', into)
  return run(options, (kernels, backend) => kernels.merge(backend, x, size, into, sizes ?? null))
}

/** The rows (of `size` numbers) at `kept`, ascending: what is left of a cache after an eviction. */
function evict(x: Float32Array, size: number, kept: ArrayLike<number>, options: KernelOptions = {}): Float32Array {
  const rows = floats(x, 'x', whole(size, 'size', 1)).length / size
  const into = new Int32Array(rows).fill(-1)
  for (let i = 0; i < kept.length; i++) {
    const row = whole(kept[i], 'kept', i === 0 ? 0 : (kept[i - 1] as number) + 1, rows - 1)
    into[row] = i
  }
  return merge(x, size, { into, ...options }).rows
}

/** What this machine can run, best first. */
function backends(): { name: string; isa: string; threads: number }[] {
  return run({}, (kernels) => kernels.backends())
}

/** Measured several times: what most runs reach, and the most that any reached. */
export interface Rate {
  readonly median: number
  readonly best: number
}

export interface MachineLimits {
  readonly isa: string
  readonly threads: number
  /** Bytes a second of a plain read from memory by all threads. */
  readonly read: Rate
  /** Operations a second at most (a multiply-add is two) by the instructions that this instruction set's kernels use; null where it has none. */
  readonly int8: Rate | null
  readonly bf16: Rate | null
  readonly f32: Rate
}

/**
 * The limits of this machine, measured now: what speeds are to be held against. Takes half a second, off the event loop.
 * threads: default physical cores. bytes: read in one pass, default 256 MiB; several times the largest cache.
 */
async function limits({
  threads,
  bytes = 2 ** 28,
  backend = 'cpu',
}: KernelOptions & { readonly threads?: number; readonly bytes?: number } = {}): Promise<MachineLimits> {
  const all = backends()
  const count = whole(threads ?? all[0]?.threads ?? 1, 'threads', 1, 1024)
  const size = whole(bytes, 'bytes', 2 ** 20, 2 ** 34)
  const made = await run({ backend }, (kernels, name) => kernels.limits(name, count, size)).catch((error: unknown) => {
    throw fromNative(error)
  })
  const isa = backend === 'cpu' ? (all[0]?.isa ?? backend) : backend
  const or = (rates: Float64Array) => (rates.length > 0 ? rateOf(rates) : null)
  return {
    isa,
    threads: count,
    read: rateOf(made.read),
    int8: or(made.int8),
    bf16: or(made.bf16),
    f32: rateOf(made.f32),
  }
}

function rateOf(passes: Float64Array): Rate {
  const sorted = passes.slice().sort()
  return { median: sorted[sorted.length >> 1] as number, best: sorted[sorted.length - 1] as number }
}

export const kernels = Object.freeze({
  attention,
  quantize,
  dequantize,
  matmul,
  rmsNorm,
  rope,
  topK,
  merge,
  evict,
  backends,
  limits,
})
