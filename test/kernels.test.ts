// The kernels on typed arrays, on every backend of this machine, against plain loops in double.
import t from 'tap'
import { kernels } from '../lib/index.js'
import { apart, raised } from './engine.js'
import { dequantizeQ8, fromHalf, generator, normals, q8Bytes, quantizeQ8, toHalf } from './numbers.js'

const next = generator(77)
const draw = (n: number, spread = 1) => normals(n, next, spread)
const isas = [...new Set(kernels.backends().map(({ isa }) => isa))]
const backends = ['cpu', 'reference', ...isas]

t.test('what this machine can run', async (t) => {
  t.ok(isas.includes('reference'))
  for (const { isa, name, threads } of kernels.backends())
    t.ok(name !== '' && isa !== '' && threads >= 1, `${name} ${isa} ${threads}`)
  for (const backend of ['cuda', 'avx9'])
    t.match(await raised(() => kernels.topK(draw(3), 1, { backend })), {
      code: 'ERR_DEVICE',
      message: new RegExp(backend),
    })
})

interface Problem {
  heads: number
  kvHeads: number
  headSize: number
  rows: number
  n: number
  causal?: boolean
  keep?: Uint8Array
  positions?: number[]
  scale?: number
}

function attend(
  { causal = true, headSize, heads, keep, kvHeads, n, positions, rows, scale = 1 / Math.sqrt(headSize) }: Problem,
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
) {
  const output = new Float64Array(q.length)
  const scores = new Float64Array(heads * rows)
  const at = (row: number) => positions?.[row] ?? row
  for (let i = 0; i < n; i++) {
    for (let h = 0; h < heads; h++) {
      const g = Math.floor((h * kvHeads) / heads)
      const dots = Array.from({ length: rows }, (_, j) => {
        if ((causal && at(j) > at(rows - n + i)) || keep?.[j] === 0) return Number.NEGATIVE_INFINITY
        let dot = 0
        for (let d = 0; d < headSize; d++)
          dot += (q[(i * heads + h) * headSize + d] as number) * (k[(j * kvHeads + g) * headSize + d] as number)
        return scale * dot
      })
      const most = Math.max(...dots)
      const weights = dots.map((dot) => Math.exp(dot - most))
      const sum = weights.reduce((a, b) => a + b)
      weights.forEach((weight, j) => {
        scores[h * rows + j] = (scores[h * rows + j] as number) + weight / sum
        for (let d = 0; d < headSize; d++) {
          const place = (i * heads + h) * headSize + d
          output[place] = (output[place] as number) + (weight / sum) * (v[(j * kvHeads + g) * headSize + d] as number)
        }
      })
    }
  }
  return { output, scores }
}

t.test('attention', async (t) => {
  const keep = (rows: number) => Uint8Array.from({ length: rows }, (_, j) => (j === rows - 1 || next() < 0.5 ? 1 : 0))
  const problems: Problem[] = [
    { heads: 2, kvHeads: 1, headSize: 16, rows: 1, n: 1 },
    { heads: 4, kvHeads: 2, headSize: 32, rows: 33, n: 33 },
    { heads: 6, kvHeads: 2, headSize: 64, rows: 70, n: 5, keep: keep(70) },
    { heads: 3, kvHeads: 3, headSize: 16, rows: 40, n: 12, causal: false },
    { heads: 2, kvHeads: 2, headSize: 32, rows: 100, n: 1, keep: keep(100), scale: 0.5 },
    { heads: 4, kvHeads: 1, headSize: 16, rows: 6, n: 3, positions: [0, 2, 2, 5, 7, 7] },
  ]
  for (const backend of backends) {
    for (const p of problems) {
      const { headSize, heads, kvHeads, n, rows } = p
      const [q, k, v] = [draw(n * heads * headSize), draw(rows * kvHeads * headSize), draw(rows * kvHeads * headSize)]
      const got = kernels.attention({ ...p, q, k, v, scores: true }, { backend })
      const expected = attend(p, q, k, v)
      t.ok(apart(got.output, expected.output) < 2e-2, `${backend} ${JSON.stringify({ ...p, keep: undefined })}`)
      t.ok(apart(got.scores ?? [], expected.scores) < 2e-2 * n, 'mass of rows')
      t.notOk('scores' in kernels.attention({ ...p, q, k, v }, { backend }))
      if (backend === 'reference') t.ok(apart(got.output, expected.output) < 1e-5, 'exact')
    }
  }
})

t.test('quantize and dequantize', async (t) => {
  const x = draw(320, 2)
  for (const backend of backends) {
    t.ok(
      Buffer.from(kernels.quantize(x, 'q8_0', { backend })).equals(q8Bytes(quantizeQ8(x))),
      `${backend}: q8_0 byte for byte`,
    )
    t.ok(apart(kernels.dequantize(q8Bytes(quantizeQ8(x)), 'q8_0', 320, { backend }), dequantizeQ8(quantizeQ8(x))) === 0)
    const half = kernels.quantize(x, 'f16', { backend })
    t.same([...new Uint16Array(half.buffer, half.byteOffset, 320)], Array.from(x, toHalf), `${backend}: f16`)
    t.same(
      [...kernels.dequantize(half, 'f16', 320, { backend })],
      Array.from(x, (value) => fromHalf(toHalf(value))),
    )
    for (const [dtype, bits] of Object.entries({ bf16: 16, q4_0: 4.5, q4_1: 5, q5_0: 5.5, q5_1: 6, f32: 32 })) {
      const bytes = kernels.quantize(x, dtype, { backend })
      t.equal(bytes.length, (320 * bits) / 8, dtype)
      const step = { bf16: 0.02, q4_0: 0.9, q4_1: 0.6, q5_0: 0.45, q5_1: 0.3, f32: 0 }[dtype] ?? 0
      t.ok(apart(kernels.dequantize(bytes, dtype, 320, { backend }), x) <= step, `${backend}: ${dtype}`)
    }
  }
  t.throws(() => kernels.quantize(x, 'q4_k'), { name: 'TypeError', message: /K types/ })
  t.throws(() => kernels.quantize(x, 'q9'), { name: 'TypeError', message: /`dtype`/ })
  t.throws(() => kernels.quantize(x, 'constructor'), TypeError)
  t.throws(() => kernels.quantize(x.subarray(1), 'q8_0'), RangeError)
  t.throws(() => kernels.dequantize(new Uint8Array(10), 'q8_0', 32), { message: /Expected .*bytes/ })
  t.throws(() => kernels.dequantize(new Uint8Array(34), 'q8_0', 31), RangeError)
})

t.test('matmul', async (t) => {
  for (const [rows, cols, n] of [
    [16, 32, 1],
    [40, 96, 7],
    [272, 64, 33],
  ] as const) {
    const w = draw(rows * cols, 0.2)
    const x = draw(n * cols)
    const product = (weights: Float32Array) => {
      const y = new Float64Array(n * rows)
      for (let i = 0; i < n; i++)
        for (let r = 0; r < rows; r++)
          for (let c = 0; c < cols; c++)
            y[i * rows + r] =
              (y[i * rows + r] as number) + (weights[r * cols + c] as number) * (x[i * cols + c] as number)
      return y
    }
    for (const backend of backends) {
      const exact = kernels.matmul({ weights: w, dtype: 'f32', rows, cols, x }, { backend })
      t.ok(apart(exact, product(w)) < 1e-3, `${backend}, f32 ${rows}×${cols}`)
      for (const dtype of ['f16', 'q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'bf16']) {
        const weights = kernels.quantize(w, dtype)
        const got = kernels.matmul({ weights, dtype, rows, cols, x }, { backend })
        const limit = backend === 'reference' ? 1e-4 : 0.12 // activations in 8 bits
        t.ok(apart(got, product(kernels.dequantize(weights, dtype, rows * cols))) < limit, `${backend}, ${dtype}`)
      }
    }
  }
  t.throws(() => kernels.matmul({ weights: draw(64), dtype: 'f32', rows: 2, cols: 33, x: draw(33) }), {
    message: /Expected/,
  })
  t.throws(() => kernels.matmul({ weights: draw(66), dtype: 'f32', rows: 2, cols: 33, x: draw(32) }), RangeError)
  t.throws(() => kernels.matmul({ weights: new Uint8Array(3), dtype: 'q8_0', rows: 2, cols: 32, x: draw(32) }), {
    message: /Expected/,
  })
})

t.test('norms, positions, the largest, merges', async (t) => {
  const x = draw(3 * 48)
  const weight = draw(48)
  for (const backend of backends) {
    const normed = Float64Array.from(x, (value, i) => {
      const row = x.subarray(48 * Math.floor(i / 48), 48 * Math.floor(i / 48) + 48)
      return (value * (weight[i % 48] as number)) / Math.sqrt(row.reduce((sum, one) => sum + one * one, 0) / 48 + 1e-5)
    })
    t.ok(apart(kernels.rmsNorm(x, 48, { weight, backend }), normed) < 1e-4, `${backend}: rmsNorm`)
    const positions = [0, 3, 1000]
    const turned = Float64Array.from(x, (value, i) => {
      const d = i % 24
      if (d >= 16) return value
      const angle = (positions[Math.floor(i / 48)] as number) / 100 ** ((2 * (d % 8)) / 16)
      const other = x[d < 8 ? i + 8 : i - 8] as number
      return value * Math.cos(angle) + (d < 8 ? -1 : 1) * other * Math.sin(angle)
    })
    const rope = { heads: 2, headSize: 24, positions, base: 100, rotated: 16 }
    t.ok(apart(kernels.rope(x, rope, { backend }), turned) < 1e-4, `${backend}: rope`)
    const values = Float32Array.of(3, 1, 3, Number.NaN, 7, -2, 3)
    t.same([...kernels.topK(values, 3, { backend })], [0, 2, 4], `${backend}: of equals the lower`)
    t.same([...kernels.topK(values, 4, { backend, order: 'value' })], [4, 0, 2, 6])
    t.same([...kernels.topK(values, 0, { backend })], [])
    const merged = kernels.merge(Float32Array.of(1, 2, 3, 4, 5, 6), 2, {
      into: Int32Array.of(1, 0, 1),
      sizes: Float32Array.of(1, 2, 3),
      backend,
    })
    t.same([...merged.rows], [3, 4, 4, 5], `${backend}: weighted means`)
    t.same([...merged.sizes], [2, 4])
    t.same([...kernels.evict(Float32Array.of(1, 2, 3, 4, 5, 6), 2, [0, 2], { backend })], [1, 2, 5, 6])
  }
})

t.test('misuse is a sentence', async (t) => {
  const q = draw(32)
  const fine = { q, k: q, v: q, heads: 2, kvHeads: 2, headSize: 16 }
  const wrong: (() => unknown)[] = [
    () => kernels.attention({ ...fine, q: [1] as never }),
    () => kernels.attention({ ...fine, heads: 3 }),
    () => kernels.attention({ ...fine, headSize: 8 }),
    () => kernels.attention({ ...fine, v: draw(64) }),
    () => kernels.attention({ ...fine, keep: Uint8Array.of(1, 1) }),
    () => kernels.attention({ ...fine, positions: [1, 2] }),
    () => kernels.attention({ ...fine, k: draw(64), v: draw(64), positions: [2, 1] }),
    () => kernels.attention({ ...fine, q: draw(64) }),
    () => kernels.rmsNorm(q, 5),
    () => kernels.rmsNorm(q, 16, { weight: draw(8) }),
    () => kernels.rmsNorm(q, 16, { weight: [1] as never }),
    () => kernels.rope(q, { heads: 2, headSize: 16, positions: [1, 2] }),
    () => kernels.rope(q, { heads: 2, headSize: 16, positions: [1], rotated: 17 }),
    () => kernels.topK(q, 33),
    () => kernels.topK(q, -1),
    () => kernels.topK('x' as never, 1),
    () => kernels.merge(q, 16, { into: Int32Array.of(0) }),
    () => kernels.merge(q, 16, { into: Int32Array.of(0, 5) }),
    () => kernels.merge(q, 16, { into: Int32Array.of(0, 0), sizes: Float32Array.of(1) }),
    () => kernels.evict(q, 16, [1, 0]),
    () => kernels.evict(q, 16, [2]),
    () => kernels.topK(q, 1, { backend: 3 as never }),
  ]
  for (const run of wrong) {
    const error = await raised(run)
    t.ok(
      (error instanceof TypeError || error instanceof RangeError) && /^Expected .+/.test(error.message),
      `${run}: ${error}`,
    )
  }
})
