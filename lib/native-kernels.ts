// Kernels on typed arrays as TypeScript sees them: what native.ts is for models.

export interface NativeKernels {
  backends(): { name: string; isa: string; threads: number }[]
  quantize(backend: string, x: Float32Array, dtype: string): Uint8Array
  dequantize(backend: string, bytes: Uint8Array, dtype: string, n: number): Float32Array
  matmul(
    backend: string,
    weights: Uint8Array | Float32Array,
    dtype: string,
    rows: number,
    cols: number,
    x: Float32Array,
  ): Float32Array
  rmsNorm(backend: string, x: Float32Array, weight: Float32Array | null, d: number, eps: number): Float32Array
  rope(
    backend: string,
    x: Float32Array,
    heads: number,
    headSize: number,
    rotated: number,
    positions: Float64Array,
    base: number,
  ): Float32Array
  topK(backend: string, x: Float32Array, k: number, byValue: boolean): Int32Array
  merge(
    backend: string,
    x: Float32Array,
    d: number,
    into: Int32Array,
    sizes: Float32Array | null,
  ): { rows: Float32Array; sizes: Float32Array }
  /** q [n × heads × headSize], k and v [rows × kvHeads × headSize]; query row i sees rows [first[i], end[i]) that keep has not at 0; scores [heads × rows], summed over q's rows. */
  attention(
    backend: string,
    o: {
      q: Float32Array
      k: Float32Array
      v: Float32Array
      heads: number
      kvHeads: number
      headSize: number
      scale: number
      first: Int32Array
      end: Int32Array
      keep: Uint8Array | null
      scores: boolean
    },
  ): { output: Float32Array; scores: Float32Array | null }
  /** Passes of all threads together: bytes a second of a plain read, operations a second at most by each arithmetic (none where the backend has no such instruction). */
  limits(
    backend: string,
    threads: number,
    bytes: number,
  ): Promise<{ read: Float64Array; int8: Float64Array; bf16: Float64Array; f32: Float64Array }>
}
