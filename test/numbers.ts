// Random numbers from a seed, and Q8_0 in plain TypeScript.

/** mulberry32: the same numbers in every run. */
export function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export function normals(n: number, next: () => number, spread: number, middle = 0): Float32Array {
  return Float32Array.from(
    { length: n },
    () => middle + spread * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
  )
}

/** Token ids from a seed, none of them special. */
export function randomIds(n: number, seed: number, vocabulary = 272): Int32Array {
  const next = generator(seed)
  return Int32Array.from({ length: n }, () => 3 + Math.floor(next() * (vocabulary - 3)))
}

export interface Q8 {
  /** One for 32 codes, f16 as bits. */
  readonly scales: Uint16Array
  readonly codes: Int8Array
}

export function quantizeQ8(x: Float32Array): Q8 {
  const scales = new Uint16Array(x.length / 32)
  const codes = new Int8Array(x.length)
  for (let block = 0; block < scales.length; block++) {
    const values = x.subarray(32 * block, 32 * block + 32)
    const most = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
    const scale = most / 127
    scales[block] = toHalf(scale)
    for (let i = 0; i < 32; i++)
      codes[32 * block + i] = scale === 0 ? 0 : Math.max(-127, Math.min(127, Math.round((values[i] as number) / scale)))
  }
  return { scales, codes }
}

export function dequantizeQ8({ codes, scales }: Q8): Float32Array {
  return Float32Array.from(codes, (code, i) => code * fromHalf(scales[i >> 5] as number))
}

export function q8Bytes({ codes, scales }: Q8): Buffer {
  const out = Buffer.alloc(scales.length * 34)
  scales.forEach((scale, block) => {
    out.writeUInt16LE(scale, block * 34)
    for (let i = 0; i < 32; i++) out.writeInt8(codes[32 * block + i] as number, block * 34 + 2 + i)
  })
  return out
}

/** The nearest half-precision number (a tie to even), as bits. */
export function toHalf(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0
  const size = Math.abs(x)
  if (size === 0) return sign
  const exponent = Math.max(-14, Math.floor(Math.log2(size)))
  const steps = size / 2 ** (exponent - 10)
  let whole = Math.floor(steps)
  const rest = steps - whole
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++
  const bits = whole < 1024 ? whole : whole >= 2048 ? (exponent + 16) << 10 : ((exponent + 15) << 10) + whole - 1024
  return sign | Math.min(bits, 0x7c00)
}

export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}

/** Q4_0 and back, block after block. */
export function roundQ4(x: Float64Array): Float64Array {
  return roundBlocks(x, (block) => {
    const most = block.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0)
    const scale = most / -8
    return block.map(
      (value) => fromHalf(toHalf(scale)) * (scale === 0 ? 0 : Math.min(15, Math.floor(value / scale + 8.5)) - 8),
    )
  })
}

export function roundQ8(x: Float64Array): Float64Array {
  return roundBlocks(x, (block) => Float64Array.from(dequantizeQ8(quantizeQ8(Float32Array.from(block)))))
}

export function roundHalf(x: Float64Array): Float64Array {
  return x.map((value) => fromHalf(toHalf(value)))
}

/** bfloat16: the upper half of a float's bits, rounded to even. */
export function roundBrain(x: Float64Array): Float64Array {
  const bits = new Uint32Array(Float32Array.from(x).buffer)
  const rounded = bits.map((word) => ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) << 16)
  return Float64Array.from(new Float32Array(rounded.buffer))
}

function roundBlocks(x: Float64Array, round: (block: Float64Array) => Float64Array): Float64Array {
  const out = new Float64Array(x.length)
  for (let at = 0; at < x.length; at += 32) out.set(round(x.subarray(at, at + 32)), at)
  return out
}
