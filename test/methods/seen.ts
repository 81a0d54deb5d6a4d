// Synthetic observations: what a method would see, from plain arrays or from a seed.

import { asOne, cropStarts } from '../../lib/methods/gather.js'
import type {
  CacheSeen,
  Crop,
  LayerSeen,
  Method,
  Shape,
  VisionPart,
  VisionSeen,
  VisionShape,
  VisionWhat,
} from '../../lib/methods/index.js'
import { partnersOf } from '../../lib/methods/partners.js'
import { makeSchedule } from '../../lib/methods/schedule.js'
import { after } from '../../lib/methods/seen.js'
import { cosines } from '../../lib/methods/similar.js'
import { generator } from '../numbers.js'

export const shape: Shape = {
  layers: 8,
  heads: 6,
  kvHeads: 2,
  headSize: 4,
  hiddenSize: 24,
  windows: Array(8).fill(0),
  rowBytes: 16,
}

/** One KV head with one query head. */
export const single: Shape = { ...shape, heads: 1, kvHeads: 1 }

export function floats(n: number, next: () => number): Float32Array {
  return Float32Array.from({ length: n }, next)
}

/** Whole numbers [from, to). */
export function span(from: number, to: number): Int32Array {
  return Int32Array.from({ length: to - from }, (_, i) => from + i)
}

interface CacheGiven {
  at?: 'prompt' | 'decode'
  layer?: number
  step?: number
  tokens?: number
  shape?: Shape
  sources?: ArrayLike<number>[]
  safe?: ReadonlySet<number>
  gone?: ArrayLike<number>
  attention?: ArrayLike<number>[]
  columnSums?: ArrayLike<number>[]
  keyNorms?: ArrayLike<number>[]
  expected?: ArrayLike<number>[]
  keys?: ArrayLike<number>[]
  values?: ArrayLike<number>[]
  stored?: ArrayLike<number>[]
  storedValues?: ArrayLike<number>[]
}

/** Every head holds rows 0 … tokens - 1 where nothing else is given; what is not given may not be read. */
export function cacheSeen(given: CacheGiven): CacheSeen {
  const sources =
    given.sources ?? Array.from({ length: (given.shape ?? shape).kvHeads }, () => span(0, given.tokens ?? 0))
  const read = (values: ArrayLike<number>[] | undefined, what: string) => (head: number) => {
    const found = values?.[head]
    if (found === undefined) throw new Error(`${what} of head ${head} was not asked for`)
    return new Float32Array(found)
  }
  return {
    at: given.at ?? 'prompt',
    shape: given.shape ?? shape,
    layer: given.layer ?? 0,
    step: given.step ?? 0,
    tokens: given.tokens ?? Math.max(...sources.map((one) => (one[one.length - 1] ?? -1) + 1)),
    safe: given.safe,
    gone: () => Int32Array.from(given.gone ?? []),
    sources: (head) => new Int32Array(sources[head] as ArrayLike<number>),
    attention: read(given.attention, 'attention'),
    columnSums: read(given.columnSums, 'columnSums'),
    expected: read(given.expected, 'expected'),
    keyNorms: read(given.keyNorms, 'keyNorms'),
    keys: read(given.keys, 'keys'),
    values: read(given.values, 'values'),
    stored: (head) => Int32Array.from(given.stored?.[head] ?? []),
    storedValues: (head) => Float32Array.from(given.storedValues?.[head] ?? []),
  }
}

/** A cache of `tokens` rows in every head with all observations drawn from a seed. `ties`: values from a few steps only. */
export function randomCache(tokens: number, seed: number, more: CacheGiven = {}, ties = false): CacheSeen {
  const next = generator(seed)
  const { headSize, kvHeads } = more.shape ?? shape
  const one = ties ? () => Math.floor(next() * 3) / 4 : next
  const draw = (wide = 1) => Array.from({ length: kvHeads }, () => floats(tokens * wide, one))
  const norms = { attention: draw(), columnSums: draw(), keyNorms: draw(), expected: draw() }
  return cacheSeen({ tokens, ...norms, keys: draw(headSize), values: draw(headSize), ...more })
}

interface LayerGiven {
  layer: number
  rows: number
  droppable: Int32Array
  step?: number
  shape?: Shape
  given?: number
  came?: number
  sources?: Int32Array
  attention?: ArrayLike<number>
  keys?: ArrayLike<number>
  hidden?: ArrayLike<number>
  embedded?: ArrayLike<number>
  question?: { asking: ArrayLike<number>; attention: ArrayLike<number> }
  sampled?: { asking: ArrayLike<number>; attention: ArrayLike<number> }
  rank?: ArrayLike<number>
  class?: ArrayLike<number>
  patch?: NonNullable<LayerSeen['patch']>
}

export function layerSeen(given: LayerGiven): LayerSeen {
  const read = (values: ArrayLike<number> | undefined, what: string) => () => {
    if (values === undefined) throw new Error(`${what} was not asked for`)
    return Float32Array.from(values)
  }
  return {
    at: 'layer',
    shape: given.shape ?? shape,
    layer: given.layer,
    step: given.step ?? 0,
    sources: given.sources ?? span(0, given.rows),
    droppable: given.droppable,
    given: given.given ?? given.droppable.length,
    came: given.came ?? given.given ?? given.droppable.length,
    attention: read(given.attention, 'attention'),
    keys: read(given.keys, 'keys'),
    partners: () => partnersOf(read(given.keys, 'keys')(), given.droppable, (given.shape ?? shape).headSize),
    hidden: read(given.hidden, 'hidden'),
    embedded: read(given.embedded, 'embedded'),
    question: () => ({
      asking: Int32Array.from(given.question?.asking ?? []),
      attention: read(given.question?.attention, 'question')(),
    }),
    sampled: () => ({
      asking: Int32Array.from(given.sampled?.asking ?? []),
      attention: read(given.sampled?.attention, 'sampled')(),
    }),
    rank: read(given.rank, 'rank'),
    class: read(given.class, 'class'),
    ...(given.patch && { patch: given.patch }),
  }
}

/** Hidden rows, and a question of the rows behind the last droppable one. */
function beside(rows: number, droppable: Int32Array, next: () => number) {
  const asking = span((droppable[droppable.length - 1] ?? -1) + 1, rows)
  return {
    hidden: floats(rows * shape.hiddenSize, () => next() - 0.5),
    embedded: floats(rows * shape.hiddenSize, () => next() - 0.5),
    question: { asking, attention: floats(asking.length * rows, () => next() / rows) },
    sampled: { asking, attention: floats(asking.length * rows, () => next() / rows) },
    rank: floats(rows, next),
    class: floats(rows, next),
  }
}

export function randomLayer(layer: number, rows: number, droppable: Int32Array, seed: number, ties = false): LayerSeen {
  const next = generator(seed)
  const draw = ties ? () => Math.floor(next() * 3) / 4 : next
  return layerSeen({
    layer,
    rows,
    droppable,
    attention: floats(rows, draw),
    keys: floats(rows * shape.headSize, () => draw() - 0.4),
    ...beside(rows, droppable, next),
  })
}

/** A tower of four blocks that sees pictures of 4 × 4 patches. */
export const tower: VisionShape = {
  layers: 4,
  width: 6,
  heads: 2,
  headSize: 3,
  classToken: true,
  pool: 1,
  outputSize: 24,
}

export const pictured: Shape & { vision: VisionShape } = { ...shape, vision: tower }

export function crop(rows: number, columns: number, more: Partial<Crop> = {}): Crop {
  return { kind: 'whole', image: 0, row: 0, column: 0, rows, columns, ...more }
}

interface VisionGiven {
  layer?: number
  part?: VisionPart
  step?: number
  vision?: Partial<VisionShape>
  crops?: readonly Crop[]
  joined?: number
  sources?: Int32Array
  given?: number
  place?: (source: number) => number
  sizes?: ArrayLike<number>
  /** By what, and the block where it matters: `keys` or `keys 3`. */
  seen?: Partial<Record<VisionWhat | `${VisionWhat} ${number}`, ArrayLike<number>>>
  hidden?: ArrayLike<number>
}

/** Crop by crop. */
function cosinesOf(hidden: Float32Array, sources: Int32Array, crops: readonly Crop[]): Float32Array {
  const starts = [...cropStarts(sources, crops)]
  const size = hidden.length / sources.length
  const all = starts
    .slice(1)
    .flatMap((to, crop) => [...cosines(hidden, size, { crop, from: starts[crop] as number, to })])
  return Float32Array.from(all)
}

/** One crop of 4 × 4 before the projector where nothing else is given; what is not given may not be read. */
export function visionSeen(given: VisionGiven): VisionSeen {
  const vision = { ...tower, ...given.vision }
  const crops = given.crops ?? [crop(4, 4)]
  const all = crops.reduce((sum, { columns, rows }) => sum + rows * columns, 0)
  const sources = given.sources ?? span(0, all)
  const joined = given.joined ?? 1
  const read = (values: ArrayLike<number> | undefined, what: string) => {
    if (values === undefined) throw new Error(`${what} was not asked for`)
    return Float32Array.from(values)
  }
  return {
    at: 'vision',
    shape: { ...shape, vision },
    vision,
    layer: given.layer ?? vision.layers,
    part: given.part ?? 'projector',
    step: given.step ?? 0,
    sources,
    crops,
    joined,
    given: given.given ?? all,
    ...(given.place && { place: given.place }),
    sizes: () => read(given.sizes ?? Array(sources.length).fill(1), 'sizes'),
    seen(what, layer) {
      if (what === 'cosines' || what === 'keyCosines') {
        const rows = what === 'cosines' ? read(given.hidden, 'hidden') : this.seen('keys', layer)
        return cosinesOf(rows, sources, asOne(crops, joined))
      }
      return read(given.seen?.[`${what} ${layer}`] ?? given.seen?.[what], `${what} of block ${layer}`)
    },
    hidden: () => read(given.hidden, 'hidden'),
  }
}

/** `crops` pictures of rows × columns patches with all observations drawn from a seed. */
export function randomVision(
  [crops, rows, columns]: readonly [number, number, number],
  seed: number,
  more: VisionGiven = {},
): VisionSeen {
  const next = generator(seed)
  const n = crops * rows * columns
  const lines = (size: number) => floats(n * size, () => next() - 0.4)
  const vision = { ...tower, ...more.vision }
  return visionSeen({
    crops: Array.from({ length: crops }, (_, i) => crop(rows, columns, { kind: 'tile', column: i })),
    seen: {
      class: floats(n, next),
      classLogits: lines(1),
      received: floats(n, next),
      given: floats(n, next),
      keys: lines(vision.headSize),
      pairs: floats(n * rows * columns, next),
    },
    hidden: lines(more.part === 'decoder' ? vision.outputSize : vision.width),
    ...more,
  })
}

/** What is left of the patches when a method has looked wherever it wants to. */
export function throughTower(method: Method, seen: VisionSeen): VisionSeen {
  let left = seen
  for (const { layer, part } of makeSchedule([method], seen.shape).vision) {
    left = { ...left, layer, part }
    for (const { decision } of makeSchedule([method], seen.shape).decide(left))
      left = after(left, decision) as VisionSeen
  }
  return left
}

/** Patches that stay as rows of their own; all of them where nothing is decided. */
export function keptPatches(method: Method, seen: VisionSeen): number[] {
  const [decision] = method.decide(seen)
  if (decision?.action === 'dropPatches') return Array.from(decision.kept)
  if (decision?.action === 'mergePatches') return [...new Set(Array.from(decision.into))].sort((a, b) => a - b)
  return [...seen.sources]
}

/** Rows that stay in each head; all of them where nothing is decided. */
export function keptRows(method: Method, seen: CacheSeen): number[][] {
  const [decision] = method.decide(seen)
  if (decision?.action === 'evict') return decision.keptPerHead.map((rows) => Array.from(rows))
  return Array.from({ length: seen.shape.kvHeads }, (_, head) => [...seen.sources(head)])
}

/** Sources that do not go on. */
export function droppedRows(method: Method, seen: LayerSeen): number[] {
  const [decision] = method.decide(seen)
  if (decision?.action !== 'drop') return []
  const kept = new Set(Array.from(decision.kept))
  return [...seen.sources].filter((source) => !kept.has(source))
}

export { generator }
