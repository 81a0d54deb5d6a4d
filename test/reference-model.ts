// The oracle: llama and gemma3 forward in plain float64 loops. Nothing is ever removed: rows that were dropped or evicted are masked.
import { llama3Factors, type TinyConfig, type TinyModel } from './model-fixture.js'

export type Vector = Float64Array

/** A row of one KV head's cache. */
export interface CacheRow {
  readonly source: number
  /** Un-rotated. */
  readonly key: Vector
  readonly rotated: Vector
  readonly value: Vector
  readonly size: number
  alive: boolean
  /** Attention gathered so far, mean over the group. */
  mass: number
}

interface Row {
  readonly source: number
  hidden: Vector
  position: number
  size: number
}

export type Cut =
  | { readonly drop: readonly number[]; readonly repack: boolean }
  | { readonly merge: readonly number[]; readonly repack: boolean }
  /** Sources that take part in this layer; weights of all rows. */
  | { readonly pass: readonly number[]; readonly what: 'attention' | 'block'; readonly weights?: readonly number[] }

export interface RunOptions {
  /** What happens to the call's rows before a layer. */
  readonly cut?: ReadonlyMap<number, Cut>
  /** Layers whose inputs and attention are wanted. */
  readonly watch?: readonly number[]
}

export interface Run {
  readonly sources: readonly number[]
  /** One for each row that reached the end. */
  readonly logits: readonly Vector[]
  /** layer -> source -> the row that entered it. */
  readonly entered: ReadonlyMap<number, ReadonlyMap<number, Vector>>
  /** layer -> source of the query -> query head -> source of the key -> probability. */
  readonly attention: ReadonlyMap<number, ReadonlyMap<number, readonly ReadonlyMap<number, number>[]>>
  /** layer -> source -> query heads, un-rotated. */
  readonly queries: ReadonlyMap<number, ReadonlyMap<number, readonly Vector[]>>
}

export interface ReferenceOptions {
  readonly skipAttention?: readonly number[]
  readonly skipMlp?: readonly number[]
  /** Query heads that give nothing, as [layer, head]. */
  readonly skipHeads?: readonly (readonly number[])[]
  /** Rows of the cache are numbered by their place among those alive. */
  readonly repack?: boolean
  /** What is left of a key or value in the cache. */
  readonly stored?: (x: Vector) => Vector
}

export class Reference {
  readonly config: TinyConfig
  readonly #model: TinyModel
  readonly #options: ReferenceOptions
  /** [layers][kvHeads] */
  cache: CacheRow[][][]
  tokens = 0
  #next: number[]

  constructor(model: TinyModel, options: ReferenceOptions = {}) {
    this.config = model.config
    this.#model = model
    this.#options = options
    this.cache = Array.from({ length: model.config.layers }, () =>
      Array.from({ length: model.config.kvHeads }, () => []),
    )
    this.#next = Array(model.config.layers).fill(0)
  }

  clone(): Reference {
    const twin = new Reference(this.#model, this.#options)
    twin.cache = this.cache.map((heads) => heads.map((rows) => rows.map((row) => ({ ...row }))))
    twin.tokens = this.tokens
    twin.#next = [...this.#next]
    return twin
  }

  alive(layer: number, head: number): CacheRow[] {
    return this.cache[layer]?.[head]?.filter((row) => row.alive) ?? []
  }

  /** Masks every other row. */
  keep(layer: number, head: number, sources: Iterable<number>): void {
    const kept = new Set(sources)
    for (const row of this.alive(layer, head)) row.alive = kept.has(row.source)
  }

  /** One call: all of these tokens through all layers. */
  run(ids: ArrayLike<number>, { cut, watch = [] }: RunOptions = {}): Run {
    const { architecture, hidden, layers } = this.config
    const embedding = this.#weight('token_embd.weight')
    const scale = architecture === 'gemma3' ? Math.fround(Math.sqrt(hidden)) : 1
    let rows: Row[] = Array.from(ids, (id, i) => ({
      source: this.tokens + i,
      hidden: Float64Array.from(embedding.subarray(id * hidden, (id + 1) * hidden), (x) => x * scale),
      position: i,
      size: 1,
    }))
    let extent = rows.length
    const entered = new Map<number, Map<number, Vector>>()
    const attention = new Map<number, Map<number, Map<number, number>[]>>()
    const queries = new Map<number, Map<number, readonly Vector[]>>()
    for (let layer = 0; layer < layers; layer++) {
      const action = cut?.get(layer)
      if (action && !('pass' in action)) {
        rows = applyCut(rows, action)
        if (action.repack) extent = rows.length
      }
      const some = action && 'pass' in action ? rows.filter(({ source }) => action.pass.includes(source)) : rows
      if (watch.includes(layer)) {
        entered.set(layer, new Map(rows.map(({ hidden: row, source }) => [source, row.slice()])))
        attention.set(layer, new Map())
      }
      if (!this.#options.skipAttention?.includes(layer)) {
        const asked = this.#attend(layer, some, extent, attention.get(layer))
        queries.set(layer, new Map(some.map(({ source }, i) => [source, asked[i] ?? []])))
      }
      const between = new Map(rows.map((row) => [row, row.hidden]))
      if (!this.#options.skipMlp?.includes(layer))
        this.#feedForward(layer, action && 'pass' in action && action.what === 'attention' ? rows : some)
      if (action && 'pass' in action && action.weights)
        for (const [i, row] of rows.entries()) {
          const [weight, before] = [action.weights[i] as number, between.get(row) as Vector]
          row.hidden = some.includes(row)
            ? row.hidden.map((x, d) => (before[d] as number) + weight * (x - (before[d] as number)))
            : row.hidden.map((x) => weight * x)
        }
      this.#next[layer] = (this.#next[layer] as number) + extent
    }
    this.tokens += ids.length
    const head = this.#model.tensors.get('output.weight')?.data ?? embedding
    const logits = rows.map((row) => product(head, normed(row.hidden, this.#weight('output_norm.weight'))))
    return { sources: rows.map(({ source }) => source), logits, entered, attention, queries }
  }

  #weight(name: string): Float32Array {
    const found = this.#model.tensors.get(name)
    if (!found) throw new Error(`no tensor ${name}`)
    return found.data
  }

  #linear(name: string, x: Vector): Vector {
    const y = product(this.#weight(`${name}.weight`), x)
    const bias = this.#model.tensors.get(`${name}.bias`)?.data
    return bias ? y.map((value, i) => value + (bias[i] as number)) : y
  }

  #attend(
    layer: number,
    rows: readonly Row[],
    extent: number,
    watched: Map<number, Map<number, number>[]> | undefined,
  ): Vector[][] {
    const { headSize, heads, kvHeads } = this.config
    const at = (name: string) => `blk.${layer}.${name}`
    const next = this.#next[layer] as number
    const rotate = this.rotation(layer, next + extent)
    const queries = this.#project(layer, rows, next, rotate)
    const outputs = rows.map(() => new Float64Array(heads * headSize))
    for (let h = 0; h < kvHeads; h++) {
      const cached = this.alive(layer, h)
      const keys = cached.map((row, slot) => (this.#options.repack ? rotate(row.key, slot) : row.rotated))
      rows.forEach(({ position, source }, i) => {
        const place = this.#options.repack ? cached.findIndex((row) => row.source === source) : next + position
        for (let g = h * (heads / kvHeads); g < (h + 1) * (heads / kvHeads); g++) {
          const q = rotate(queries[i]?.[g] as Vector, place)
          const seen = this.#look(layer, q, source, cached, keys, heads / kvHeads)
          const out = outputs[i]?.subarray(g * headSize, (g + 1) * headSize) as Vector
          if (this.#options.skipHeads?.some(([at, head]) => at === layer && head === g)) continue
          for (const [j, { value }] of cached.entries())
            if (seen[j] !== 0)
              for (let d = 0; d < headSize; d++)
                out[d] = (out[d] as number) + (seen[j] as number) * (value[d] as number)
          if (!watched) continue
          const lines = watched.get(source) ?? []
          watched.set(source, lines)
          lines[g] = new Map(cached.map((row, j) => [row.source, seen[j] as number]))
        }
      })
    }
    for (const [i, row] of rows.entries())
      this.#add(row, this.#linear(at('attn_output'), outputs[i] as Vector), at('post_attention_norm.weight'))
    return queries
  }

  /** Keys and values go to the cache; queries, un-rotated, are given back. */
  #project(
    layer: number,
    rows: readonly Row[],
    next: number,
    rotate: (x: Vector, position: number) => Vector,
  ): Vector[][] {
    const { architecture, headSize, heads, kvHeads } = this.config
    const at = (name: string) => `blk.${layer}.${name}`
    const split = (x: Vector, count: number, norm: string) =>
      Array.from({ length: count }, (_, h) => {
        const part = x.slice(h * headSize, (h + 1) * headSize)
        return architecture === 'gemma3' ? normed(part, this.#weight(at(norm))) : part
      })
    const queries: Vector[][] = []
    for (const { hidden, position, size, source } of rows) {
      const x = normed(hidden, this.#weight(at('attn_norm.weight')))
      queries.push(split(this.#linear(at('attn_q'), x), heads, 'attn_q_norm.weight'))
      const keys = split(this.#linear(at('attn_k'), x), kvHeads, 'attn_k_norm.weight')
      const values = this.#linear(at('attn_v'), x)
      keys.forEach((key, h) => {
        const { repack, stored = (x: Vector) => x } = this.#options
        const value = stored(values.slice(h * headSize, (h + 1) * headSize))
        const rotated = stored(rotate(key, next + position))
        this.cache[layer]?.[h]?.push({
          source,
          key: repack ? stored(key) : key,
          rotated,
          value,
          size,
          alive: true,
          mass: 0,
        })
      })
    }
    return queries
  }

  /** [cached]: the probability that a query gives each row, 0 where it sees none; what it gives is added to their mass. */
  #look(
    layer: number,
    q: Vector,
    source: number,
    cached: readonly CacheRow[],
    keys: readonly Vector[],
    group: number,
  ): Vector {
    const window = this.windowOf(layer)
    const scale = 1 / Math.sqrt(this.config.headSize)
    const weights = new Float64Array(cached.length).fill(Number.NEGATIVE_INFINITY)
    for (const [j, row] of cached.entries())
      if (row.source <= source && !(window > 0 && row.source <= source - window))
        weights[j] = scale * dot(q, keys[j] as Vector) + Math.log(row.size)
    const most = weights.reduce((a, b) => Math.max(a, b))
    const given = weights.map((weight) => Math.exp(weight - most))
    const sum = given.reduce((a, b) => a + b)
    for (const [j, row] of cached.entries()) {
      given[j] = (given[j] as number) / sum
      row.mass += (given[j] as number) / group
    }
    return given
  }

  windowOf(layer: number): number {
    const { architecture, period, window } = this.config
    return architecture === 'gemma3' && (layer + 1) % period !== 0 ? window : 0
  }

  /** What positions do to a key or query of the layer in a text of so many tokens. */
  rotation(layer: number, length: number): (x: Vector, position: number) => Vector {
    const { architecture, headSize, scaling } = this.config
    const sliding = this.windowOf(layer) > 0
    let base = architecture === 'gemma3' && !sliding ? 1e6 : 10000
    if (scaling?.type === 'dynamic' && length > scaling.original && !this.#options.repack)
      base *= ((scaling.factor * length) / scaling.original - (scaling.factor - 1)) ** (headSize / (headSize - 2))
    const linear = scaling?.type === 'linear' && !sliding ? scaling.factor : 1
    const factors = llama3Factors(this.config)
    return (x, position) => {
      const half = headSize / 2
      const out = new Float64Array(headSize)
      for (let i = 0; i < half; i++) {
        const angle = position / (base ** ((2 * i) / headSize) * linear * (factors?.[i] ?? 1))
        const [a, b] = [x[i] as number, x[half + i] as number]
        out[i] = a * Math.cos(angle) - b * Math.sin(angle)
        out[half + i] = a * Math.sin(angle) + b * Math.cos(angle)
      }
      return out
    }
  }

  #feedForward(layer: number, rows: readonly Row[]): void {
    const at = (name: string) => `blk.${layer}.${name}`
    const act = this.config.architecture === 'gemma3' ? gelu : silu
    for (const row of rows) {
      const x = normed(row.hidden, this.#weight(at('ffn_norm.weight')))
      const up = this.#linear(at('ffn_up'), x)
      const gated = this.#linear(at('ffn_gate'), x).map((value, i) => act(value) * (up[i] as number))
      this.#add(row, this.#linear(at('ffn_down'), gated), at('post_ffw_norm.weight'))
    }
  }

  #add(row: Row, y: Vector, postNorm: string): void {
    const added = this.config.architecture === 'gemma3' ? normed(y, this.#weight(postNorm)) : y
    row.hidden = row.hidden.map((value, i) => value + (added[i] as number))
  }
}

function applyCut(rows: readonly Row[], cut: Exclude<Cut, { pass: readonly number[] }>): Row[] {
  const kept = 'drop' in cut ? rows.filter(({ source }) => cut.drop.includes(source)) : merged(rows, cut.merge)
  if (cut.repack) for (const [i, row] of kept.entries()) row.position = i
  return kept
}

/** Row i folds into the row of source into[i]: the mean weighted by sizes. */
function merged(rows: readonly Row[], into: readonly number[]): Row[] {
  return rows.flatMap((target, t) => {
    if (into[t] !== target.source) return []
    const parts = rows.filter((_, i) => into[i] === target.source)
    const size = parts.reduce((sum, part) => sum + part.size, 0)
    const hidden = target.hidden.map(
      (_, d) => parts.reduce((sum, part) => sum + part.size * (part.hidden[d] as number), 0) / size,
    )
    return [{ ...target, hidden, size }]
  })
}

function normed(x: Vector, weight: Float32Array): Vector {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + 1e-5)
  return x.map((value, i) => value * scale * (weight[i] as number))
}

function dot(a: Vector, b: Vector): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number)
  return sum
}

/** Rows of `matrix`, each times x. */
function product(matrix: Float32Array, x: Vector): Vector {
  const rows = matrix.length / x.length
  const y = new Float64Array(rows)
  for (let r = 0, at = 0; r < rows; r++) {
    let sum = 0
    for (let i = 0; i < x.length; i++) sum += (matrix[at++] as number) * (x[i] as number)
    y[r] = sum
  }
  return y
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x))
}
function gelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
}

export function logSoftmax(logits: ArrayLike<number>): Float64Array {
  const x = Float64Array.from(logits)
  const most = x.reduce((a, b) => Math.max(a, b))
  const sum = x.reduce((total, value) => total + Math.exp(value - most), 0)
  return x.map((value) => value - most - Math.log(sum))
}

export function argmax(values: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i
  return best
}
