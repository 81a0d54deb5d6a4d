// A vision tower in plain TypeScript in the place of the addon's: its rows depend on all rows of their crop that are left, so that dropping and merging show.
import { native } from '../lib/native.js'
import type { NativeGlance, NativeVision, VisionAddon, VisionConfig, VisionLook } from '../lib/native-vision.js'
import { generator } from './numbers.js'
import { resample } from './resample.js'

export const tinyVision: VisionConfig = {
  imageSize: 8,
  patchSize: 2,
  side: 4,
  layers: 2,
  width: 3,
  heads: 1,
  headSize: 3,
  classToken: true,
  projector: 'mlp',
  pool: 1,
  outputSize: 64,
  mean: [0.5, 0.4, 0.3],
  deviation: [0.2, 0.25, 0.3],
  newline: new Float32Array(0),
}

export interface FakeTower extends NativeVision {
  /** Crops of each glance that was opened. */
  readonly opened: number[]
  readonly glances: FakeGlance[]
}

interface Row {
  readonly source: number
  size: number
  hidden: Float32Array
}

export class FakeGlance implements NativeGlance {
  readonly config: VisionConfig
  readonly crops: number
  all: Row[] = []
  at = 0
  closed = false
  interrupted = false
  /** Neighbouring crops that are one. */
  joined = 1
  readonly carried: Map<number, Float32Array>[] = []
  readonly #seen = new Map<string, Float32Array>()

  constructor(config: VisionConfig, pixels: Float32Array, crops: number) {
    this.config = config
    this.crops = crops
    const { imageSize: size, patchSize: patch, side } = config
    for (let source = 0; source < crops * side * side; source++) {
      const crop = Math.floor(source / (side * side))
      const [row, column] = [Math.floor((source % (side * side)) / side), source % side]
      const hidden = new Float32Array(3)
      for (let c = 0; c < 3; c++)
        for (let y = 0; y < patch; y++)
          for (let x = 0; x < patch; x++)
            hidden[c]! += pixels[((crop * 3 + c) * size + row * patch + y) * size + column * patch + x]! / patch ** 2
      this.all.push({ source, size: 1, hidden: hidden.map((value) => value + (row - column) / 8) })
    }
  }

  rows() {
    return Int32Array.from(this.all, ({ source }) => source)
  }
  sizes() {
    return Float32Array.from(this.all, ({ size }) => size)
  }
  hidden() {
    return Float32Array.from(this.all.flatMap(({ hidden }) => [...hidden]))
  }
  /** Crop by crop, as its rows stand, which are the keys as well. */
  cosines(): Float32Array {
    const { layers, pool, side } = this.config
    const patches = (this.at > 2 * layers ? side / pool : side) ** 2 * this.joined
    const crops = Array.from({ length: this.crops }, (_, crop) =>
      this.all.filter(({ source }) => Math.floor(source / patches) === crop).map(({ hidden }) => hidden),
    )
    const cosine = (a: Float32Array, b: Float32Array) =>
      a.reduce((sum, x, c) => sum + x * (b[c] as number), 0) / (Math.hypot(...a) * Math.hypot(...b) || 1)
    return Float32Array.from(crops.flatMap((rows) => rows.flatMap((a) => rows.map((b) => cosine(a, b)))))
  }
  classHidden() {
    return new Float32Array(0)
  }
  seen(layer: number, what: VisionLook['what']) {
    const found = this.#seen.get(`${layer} ${what}`)
    if (!found) throw new Error(`nobody asked for ${what} of ${layer}`)
    return found
  }
  interrupt() {
    this.interrupted = true
  }
  close() {
    this.closed = true
  }

  #crop(row: Row): number {
    return Math.floor(row.source / (this.config.side ** 2 * this.joined))
  }

  /** A block's attention: each row moves towards the mean of its crop; looks see the first number of each row. */
  attend(layer: number, looks: readonly VisionLook[]): void {
    const firsts = (what: VisionLook['what']) =>
      Float32Array.from(this.all.flatMap(({ hidden }) => (what === 'keys' ? [...hidden] : [hidden[0] as number])))
    for (const { what } of looks.filter((look) => look.layer === layer))
      this.#seen.set(`${layer} ${what}`, what === 'keyCosines' ? this.cosines() : firsts(what))
    for (let crop = 0; crop < this.crops; crop++) {
      const rows = this.all.filter((row) => this.#crop(row) === crop)
      const mean = [0, 1, 2].map((c) => rows.reduce((sum, { hidden }) => sum + (hidden[c] as number), 0) / rows.length)
      for (const row of rows) row.hidden = row.hidden.map((value, c) => value * 0.75 + (mean[c] as number) * 0.25)
    }
  }

  /** The mean of each crop's patches, by sizes. */
  carry(): void {
    const means = new Map<number, Float32Array>()
    for (let crop = 0; crop < this.crops; crop++) {
      const rows = this.all.filter((row) => this.#crop(row) === crop && row.size > 0)
      if (rows.length > 0) means.set(crop, meanOf(rows.map(({ hidden, size }) => ({ hidden, weight: size }))))
    }
    this.carried.push(means)
  }

  recall(as: Int32Array): void {
    const turns = new Map<number, number>()
    const back = Array.from(as, (source) => {
      const crop = this.#crop({ source, size: 0, hidden: new Float32Array(0) })
      const turn = turns.get(crop) ?? 0
      turns.set(crop, turn + 1)
      return { source, size: 0, hidden: this.carried[turn]?.get(crop) as Float32Array }
    })
    this.all = [...this.all, ...back].sort((a, b) => a.source - b.source)
    this.carried.length = 0
  }

  project(): void {
    const { outputSize, pool, side } = this.config
    const next = generator(7)
    const weights = Float32Array.from({ length: 3 * outputSize }, () => next() - 0.5)
    const given = pool === 1 ? this.all : this.#joined(pool, side)
    this.all = given.map(({ hidden, source, size }) => ({
      source,
      size,
      hidden: Float32Array.from({ length: outputSize }, (_, i) =>
        [0, 1, 2].reduce((sum, c) => sum + (hidden[c] as number) * (weights[c * outputSize + i] as number), 0),
      ),
    }))
  }

  #joined(pool: number, side: number): Row[] {
    const small = side / pool
    return Array.from({ length: this.crops * small * small }, (_, source) => {
      const crop = Math.floor(source / (small * small))
      const [row, column] = [Math.floor((source % (small * small)) / small), source % small]
      const first = crop * side * side + row * pool * side + column * pool
      return { source, size: 1, hidden: (this.all[first] as Row).hidden }
    })
  }
}

/** From now on the addon's towers are these. Gives those that were loaded. */
export function fakeVision(config: Partial<VisionConfig> = {}): { readonly towers: FakeTower[] } {
  const towers: FakeTower[] = []
  const fake: VisionAddon = {
    resample,
    loadVision(_file, _options, tell) {
      tell?.(1, 1)
      const tower = makeTower({ ...tinyVision, ...config })
      towers.push(tower)
      return { vision: Promise.resolve(tower), cancel() {} }
    },
  }
  Object.assign(native(), fake)
  return { towers }
}

function makeTower(config: VisionConfig): FakeTower {
  const opened: number[] = []
  const glances: FakeGlance[] = []
  return {
    config,
    bytes: 1234,
    fingerprint: 'fake',
    opened,
    glances,
    open(pixels, crops) {
      opened.push(crops)
      const glance = new FakeGlance(config, pixels, crops)
      glances.push(glance)
      return glance
    },
    async advance(given, to, looks) {
      const glance = given as FakeGlance
      for (let place = glance.at; place < to; place++) {
        await new Promise((next) => setImmediate(next))
        if (glance.interrupted) throw Object.assign(new Error('stopped'), { code: 'ERR_ABORTED' })
        if (place % 2 === 0 && place < 2 * config.layers) glance.attend(place / 2, looks)
        if (place === 2 * config.layers) glance.project()
      }
      glance.at = to
    },
    async apply(given, action) {
      const glance = given as FakeGlance
      if ('drop' in action) {
        const kept = new Set(action.drop)
        glance.all = glance.all.filter(({ source }) => kept.has(source))
        return
      }
      if ('join' in action) glance.joined *= action.join
      else if ('carry' in action) glance.carry()
      else if ('recall' in action) glance.recall(action.recall)
      else if ('blend' in action) blend(glance, action.blend, action.weights)
      else merge(glance, action.merge)
    },
    cosines: async (given) => (given as FakeGlance).cosines(),
    close() {},
  }
}

function meanOf(rows: readonly { readonly hidden: Float32Array; readonly weight: number }[]): Float32Array {
  const whole = rows.reduce((sum, { weight }) => sum + weight, 0)
  const [first] = rows
  return (first?.hidden ?? new Float32Array(0)).map(
    (_, c) => rows.reduce((sum, { hidden, weight }) => sum + (hidden[c] as number) * weight, 0) / whole,
  )
}

/** Rows that nobody has a share in go; what a row stands for is shared out. */
function blend(glance: FakeGlance, into: Int32Array, weights: Float32Array): void {
  const each = into.length / glance.all.length
  const shares = glance.all.flatMap(({ hidden, size }, row) => {
    const own = weights.subarray(row * each, (row + 1) * each)
    const whole = own.reduce((sum, weight) => sum + weight, 0)
    return Array.from(own, (weight, i) => ({
      ...{ hidden, weight, target: into[row * each + i] as number },
      size: (size * weight) / whole,
    })).filter(({ weight }) => weight > 0)
  })
  const targets = [...new Set(shares.map(({ target }) => target))].sort((a, b) => a - b)
  glance.all = targets.map((source) => {
    const own = shares.filter(({ target }) => target === source)
    return { source, size: own.reduce((sum, { size }) => sum + size, 0), hidden: meanOf(own) }
  })
}

function merge(glance: FakeGlance, into: Int32Array): void {
  const groups = new Map<number, Row[]>()
  for (const [i, row] of glance.all.entries())
    groups.set(into[i] as number, [...(groups.get(into[i] as number) ?? []), row])
  glance.all = [...groups.keys()]
    .sort((a, b) => a - b)
    .map((source) => {
      const rows = groups.get(source) as Row[]
      const size = rows.reduce((sum, row) => sum + row.size, 0)
      return { source, size, hidden: meanOf(rows.map(({ hidden, size }) => ({ hidden, weight: size }))) }
    })
}
