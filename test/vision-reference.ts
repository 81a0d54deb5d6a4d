// Tiny towers with random weights as GGUF files, and their forward pass in plain float64 loops. Patches that were dropped are gone; patches that folded are one row.
import { writeFileSync } from 'node:fs'
import { ggufBytes } from './model-fixture.js'
import { dequantizeQ8, generator, normals, quantizeQ8 } from './numbers.js'

export interface TowerOptions {
  readonly image?: number
  readonly patch?: number
  readonly layers?: number
  readonly width?: number
  readonly heads?: number
  readonly hidden?: number
  readonly classToken?: boolean
  readonly preNorm?: boolean
  readonly postNorm?: boolean
  readonly activation?: 'quick' | 'tanh' | 'silu'
  readonly output?: number
  /** Patches of a side that the projector joins. */
  readonly pool?: number
  /** Matrices are stored in blocks of 8 bits. */
  readonly quantized?: boolean
  readonly seed?: number
}

type Vector = Float64Array
type Config = Required<TowerOptions>
type Tensors = Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }>

export interface TinyTower {
  readonly config: Config
  /** By GGUF name. */
  readonly tensors: Tensors
}

const USUAL: Config = {
  image: 15,
  patch: 3,
  layers: 2,
  width: 48,
  heads: 2,
  hidden: 40,
  classToken: true,
  preNorm: true,
  postNorm: false,
  activation: 'quick',
  output: 20,
  pool: 1,
  quantized: false,
  seed: 1,
}

export function tinyTower(options: TowerOptions = {}): TinyTower {
  const c: Config = { ...USUAL, ...options }
  const next = generator(c.seed)
  const tensors: Tensors = new Map()
  const add = (name: string, shape: readonly number[], spread: number, middle = 0) => {
    const count = shape.reduce((a, b) => a * b)
    const data = normals(count, next, spread, middle)
    tensors.set(name, { shape, data: c.quantized && shape.length === 2 ? dequantizeQ8(quantizeQ8(data)) : data })
  }
  const linear = (name: string, rows: number, cols: number, gain = 1) => {
    add(`${name}.weight`, [rows, cols], gain / Math.sqrt(cols))
    add(`${name}.bias`, [rows], 0.2)
  }
  const norm = (name: string) => {
    add(`${name}.weight`, [c.width], 0.2, 1)
    add(`${name}.bias`, [c.width], 0.2)
  }
  const side = Math.floor(c.image / c.patch)
  add('v.patch_embd.weight', [c.width, 3, c.patch, c.patch], 1 / c.patch)
  if (c.classToken) add('v.class_embd', [c.width], 1)
  add('v.position_embd.weight', [side * side + (c.classToken ? 1 : 0), c.width], 1)
  if (c.preNorm) norm('v.pre_ln')
  for (let l = 0; l < c.layers; l++) {
    norm(`v.blk.${l}.ln1`)
    for (const part of ['attn_q', 'attn_k', 'attn_v', 'attn_out']) {
      linear(`v.blk.${l}.${part}`, c.width, c.width, part === 'attn_q' ? 3 : 1)
    }
    norm(`v.blk.${l}.ln2`)
    linear(`v.blk.${l}.ffn_up`, c.hidden, c.width)
    linear(`v.blk.${l}.ffn_down`, c.width, c.hidden)
  }
  if (c.postNorm) norm('v.post_ln')
  if (c.pool > 1) {
    add('mm.model.fc.weight', [c.output, c.width * c.pool * c.pool], 1 / c.width)
  } else {
    linear('mm.0', c.hidden, c.width)
    linear('mm.2', c.output, c.hidden)
    add('model.image_newline', [c.output], 1)
  }
  return { config: c, tensors }
}

type Entry = Parameters<typeof ggufBytes>[0][number]

/** changes: values in place of its own, or further ones. rename: names of tensors in the file; empty where one is to be missing. */
export function writeTower(
  path: string,
  { config: c, tensors }: TinyTower,
  {
    changes = [],
    rename = (name: string) => name,
  }: { changes?: readonly Entry[]; rename?: (name: string) => string } = {},
): string {
  const own = (key: string, value: number): Entry => [`clip.vision.${key}`, 'u32', value]
  const entries: Entry[] = [
    ['general.architecture', 'string', 'clip'],
    ['clip.has_vision_encoder', 'bool', true],
    ['clip.projector_type', 'string', c.pool > 1 ? 'idefics3' : 'mlp'],
    ['clip.use_gelu', 'bool', c.activation === 'tanh'],
    ['clip.use_silu', 'bool', c.activation === 'silu'],
    own('projector.scale_factor', c.pool),
    own('image_size', c.image),
    own('patch_size', c.patch),
    own('embedding_length', c.width),
    own('feed_forward_length', c.hidden),
    own('block_count', c.layers),
    own('attention.head_count', c.heads),
    ['clip.vision.attention.layer_norm_epsilon', 'f32', 1e-5],
  ]
  const changed = new Set(changes.map(([key]) => key))
  const named = [...tensors]
    .map(([name, tensor]) => ({ name: rename(name), ...tensor, quantized: c.quantized && tensor.shape.length === 2 }))
    .filter(({ name }) => name)
  writeFileSync(path, ggufBytes([...entries.filter(([key]) => !changed.has(key)), ...changes], named))
  return path
}

// ---- the forward pass

export interface TowerRow {
  /** -1 for the class token. */
  readonly source: number
  size: number
  x: Vector
}

/** Shares of one crop: [heads][rows][rows], the class token's among them; and keys [rows], heads side by side. */
export interface Seen {
  readonly shares: readonly (readonly Vector[])[]
  readonly scores: readonly (readonly Vector[])[]
  readonly keys: readonly Vector[]
}

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0)

export class ReferenceTower {
  readonly #tower: TinyTower
  /** [crops] */
  crops: TowerRow[][]
  proportional = false

  constructor(tower: TinyTower, pixels: Float32Array, crops: number) {
    this.#tower = tower
    const { image } = tower.config
    this.crops = Array.from({ length: crops }, (_, crop) => this.#embed(pixels.subarray(crop * 3 * image ** 2), crop))
  }

  #tensor(name: string): Float32Array {
    return this.#tower.tensors.get(name)?.data ?? new Float32Array(0)
  }

  linear(name: string, x: ArrayLike<number>): Vector {
    const weight = this.#tensor(`${name}.weight`)
    const bias = this.#tensor(`${name}.bias`)
    return Float64Array.from({ length: weight.length / x.length }, (_, row) => {
      let total = bias[row] ?? 0
      for (let i = 0; i < x.length; i++) total += (weight[row * x.length + i] as number) * (x[i] as number)
      return total
    })
  }

  norm(name: string, x: Vector): Vector {
    const weight = this.#tensor(`${name}.weight`)
    const bias = this.#tensor(`${name}.bias`)
    const mean = sum(x) / x.length
    const spread = Math.sqrt(sum(x.map((value) => (value - mean) ** 2)) / x.length + 1e-5)
    return x.map((value, i) => ((value - mean) / spread) * (weight[i] as number) + (bias[i] as number))
  }

  #embed(pixels: Float32Array, crop: number): TowerRow[] {
    const { classToken, image, patch, preNorm, width } = this.#tower.config
    const side = Math.floor(image / patch)
    const positions = this.#tensor('v.position_embd.weight')
    const first = this.#tensor('v.class_embd')
    const rows: TowerRow[] = classToken ? [{ source: -1, size: 1, x: Float64Array.from(first) }] : []
    for (let i = 0; i < side * side; i++) {
      const cell: number[] = []
      for (let plane = 0; plane < 3; plane++) {
        for (let y = 0; y < patch; y++) {
          const from = (plane * image + Math.floor(i / side) * patch + y) * image + (i % side) * patch
          cell.push(...pixels.subarray(from, from + patch))
        }
      }
      rows.push({ source: crop * side * side + i, size: 1, x: this.linear('v.patch_embd', cell) })
    }
    for (const [i, row] of rows.entries()) {
      row.x = row.x.map((value, j) => value + (positions[i * width + j] as number))
      if (preNorm) row.x = this.norm('v.pre_ln', row.x)
    }
    return rows
  }

  /** What each crop shows. */
  attention(layer: number): Seen[] {
    return this.crops.map((rows) => this.#attend(layer, rows))
  }

  #attend(layer: number, rows: TowerRow[]): Seen {
    const { heads, width } = this.#tower.config
    const size = width / heads
    const normed = rows.map(({ x }) => this.norm(`v.blk.${layer}.ln1`, x))
    const [q, k, v] = ['attn_q', 'attn_k', 'attn_v'].map((part) =>
      normed.map((x) => this.linear(`v.blk.${layer}.${part}`, x)),
    ) as [Vector[], Vector[], Vector[]]
    const out = rows.map(() => new Float64Array(width))
    const scores: Vector[][] = []
    const shares: Vector[][] = []
    for (let h = 0; h < heads; h++) {
      const part = (x: Vector) => x.subarray(h * size, (h + 1) * size)
      scores.push(
        q.map((a) =>
          Float64Array.from(k, (b) => sum(part(a).map((x, i) => x * (part(b)[i] as number))) / Math.sqrt(size)),
        ),
      )
      shares.push(
        (scores[h] as Vector[]).map((line) => {
          const e = line.map((s, j) => Math.exp(s) * (this.proportional ? (rows[j] as TowerRow).size || 1 : 1))
          const total = sum(e)
          return e.map((value) => value / total)
        }),
      )
      for (const [i, line] of (shares[h] as Vector[]).entries()) {
        for (const [j, share] of line.entries()) {
          for (let c = h * size; c < (h + 1) * size; c++)
            (out[i] as Vector)[c]! += share * ((v[j] as Vector)[c] as number)
        }
      }
    }
    for (const [i, row] of rows.entries()) {
      const added = this.linear(`v.blk.${layer}.attn_out`, out[i] as Vector)
      row.x = row.x.map((value, c) => value + (added[c] as number))
    }
    return { shares, scores, keys: k }
  }

  mlp(layer: number): void {
    const { activation, layers, postNorm } = this.#tower.config
    const act = (a: number) => {
      if (activation === 'silu') return a / (1 + Math.exp(-a))
      if (activation === 'quick') return a / (1 + Math.exp(-1.702 * a))
      return (a / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (a + 0.044715 * a ** 3)))
    }
    for (const row of this.crops.flat()) {
      const inner = this.linear(`v.blk.${layer}.ffn_up`, this.norm(`v.blk.${layer}.ln2`, row.x)).map(act)
      const added = this.linear(`v.blk.${layer}.ffn_down`, inner)
      row.x = row.x.map((value, i) => value + (added[i] as number))
      if (postNorm && layer === layers - 1) row.x = this.norm('v.post_ln', row.x)
    }
  }

  project(): Vector[] {
    const patches = this.crops.map((rows) => rows.filter(({ source }) => source >= 0))
    const { image, patch, pool } = this.#tower.config
    if (pool === 1) {
      return patches.flat().map(({ x }) => this.linear('mm.2', this.linear('mm.0', x).map(gelu)))
    }
    const side = Math.floor(image / patch)
    const small = side / pool
    return patches.flatMap((rows) =>
      Array.from({ length: small * small }, (_, i) => {
        const joined: number[] = []
        for (let part = 0; part < pool * pool; part++) {
          const row = Math.floor(i / small) * pool + Math.floor(part / pool)
          joined.push(...(rows[row * side + (i % small) * pool + (part % pool)] as TowerRow).x)
        }
        return this.linear('mm.model.fc', joined)
      }),
    )
  }

  drop(kept: readonly number[]): void {
    this.crops = this.crops.map((rows) => rows.filter(({ source }) => source < 0 || kept.includes(source)))
  }

  /** into: by source, of all rows that are left. */
  merge(into: ReadonlyMap<number, number>, weights?: ReadonlyMap<number, number>): void {
    this.crops = this.crops.map((rows) =>
      rows
        .filter(({ source }) => source < 0 || into.get(source) === source)
        .map((row) => {
          const group = rows.filter(({ source }) => source >= 0 && into.get(source) === row.source)
          if (group.length < 2) return row
          const weight = group.map(({ size, source }) => weights?.get(source) ?? size)
          const x = row.x.map(
            (_, c) => sum(group.map((one, i) => (weight[i] as number) * (one.x[c] as number))) / sum(weight),
          )
          return { source: row.source, size: sum(group.map(({ size }) => size)), x }
        }),
    )
  }
}

/** The exact GELU, its error function summed as a series; far out, where that would cancel, it is 1 to eight digits. */
function gelu(a: number): number {
  const z = a / Math.SQRT2
  if (Math.abs(z) > 4) return Math.max(a, 0)
  let term = z
  let total = z
  for (let n = 1; Math.abs(term) > 1e-17 && n < 400; n++) {
    term *= (-z * z) / n
    total += term / (2 * n + 1)
  }
  return (a / 2) * (1 + (2 / Math.sqrt(Math.PI)) * total)
}
