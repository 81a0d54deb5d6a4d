// Glances whose rows become more than one, whose crops become one, and whose rows come back, against plain loops.
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { NativeVision, VisionAction, VisionLook } from '../lib/native-vision.js'
import { flat, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { generator, normals } from './numbers.js'
import { loadTower, off } from './vision-fixture.js'
import {
  ReferenceTower,
  type Seen,
  type TowerOptions,
  type TowerRow,
  tinyTower,
  writeTower,
} from './vision-reference.js'

const NEAR = 1e-4

async function both(t: Test, options: TowerOptions, crops: number, isa = 'auto') {
  const tower = tinyTower(options)
  const vision = await loadTower(t, writeTower(join(scratch(t), 'tower.gguf'), tower), { isa })
  const pixels = normals(crops * 3 * tower.config.image ** 2, generator(7), 1)
  return { glance: vision.open(pixels, crops), oracle: new ReferenceTower(tower, pixels, crops), vision }
}
type Pair = Awaited<ReturnType<typeof both>>

function near(t: Test, { glance, oracle }: Pick<Pair, 'glance' | 'oracle'>, what: string): void {
  const patches = oracle.crops.flat().filter(({ source }) => source >= 0)
  const rows = [...glance.rows()]
  t.same(
    rows,
    patches.map(({ source }) => source),
    `${what}: which rows`,
  )
  const sizes = patches.map(({ size }) => size)
  t.ok(off(glance.sizes(), sizes) < 1e-5, `${what}: sizes`)
  const x = patches.flatMap((row) => [...row.x])
  t.ok(off(glance.hidden(), x) < NEAR, `${what}: rows, ${off(glance.hidden(), x)}`)
}

const isClass = ({ source }: TowerRow) => source < 0

function joined(crops: readonly TowerRow[][], count: number): TowerRow[][] {
  const out: TowerRow[][] = []
  for (let i = 0; i < crops.length; i += count) {
    const all = crops.slice(i, i + count).flat()
    out.push([...all.filter(isClass), ...all.filter((row) => !isClass(row))])
  }
  return out
}

/** Of each crop, means over heads and, of several class tokens, over these. */
function expected(what: VisionLook['what'], seen: readonly Seen[], crops: readonly TowerRow[][]): number[] {
  return seen.flatMap(({ scores, shares }, crop) => {
    const rows = crops[crop] as TowerRow[]
    const classes = rows.filter(isClass).map((_, i) => i)
    const own = [...rows.keys()].filter((i) => i >= classes.length)
    const mean = (of: readonly number[], j: number, values = shares) =>
      of.reduce((sum, i) => sum + values.reduce((all, head) => all + (head[i]?.[j] as number), 0), 0) /
      (of.length * values.length)
    if (what === 'pairs') return own.flatMap((i) => own.map((j) => mean([i], j)))
    if (what === 'received') return own.map((j) => mean(own, j))
    return own.map((j) => mean(classes, j, what === 'class' ? shares : scores))
  })
}

for (const [name, options] of [
  ['with class tokens', {}],
  ['without', { classToken: false, activation: 'silu' }],
] as const) {
  t.test(`crops that are joined read each other, ${name}`, async (t) => {
    const pair = await both(t, options, 5)
    const { glance, oracle, vision } = pair
    const { classToken, side } = vision.config
    await vision.advance(glance, 1, [])
    oracle.attention(0)
    await vision.apply(glance, { join: 2 })
    oracle.crops = joined(oracle.crops, 2)
    near(t, pair, 'two and two and one')
    // Of the first four what folds across crops, which was not possible before.
    const patches = side * side
    const merge = glance.rows().map((source) => (source === patches + 3 ? 2 : source))
    await vision.apply(glance, { merge, proportional: true })
    oracle.merge(
      new Map([...glance.rows(), patches + 3].map((source) => [source, source === patches + 3 ? 2 : source])),
    )
    oracle.proportional = true
    near(t, pair, 'a row of two crops')
    await vision.apply(glance, { join: 2 })
    oracle.crops = joined(oracle.crops, 2)
    const whats = classToken
      ? (['class', 'classLogits', 'received', 'pairs'] as const)
      : (['received', 'pairs'] as const)
    await vision.advance(
      glance,
      4,
      [...whats, 'keys' as const].map((what) => ({ layer: 1, what })),
    )
    oracle.mlp(0)
    const seen = oracle.attention(1)
    oracle.mlp(1)
    near(t, pair, 'four read each other')
    for (const what of whats)
      t.ok(off(glance.seen(1, what), expected(what, seen, oracle.crops)) < NEAR, `${what} of crops that are one`)
    await vision.advance(glance, 5, [])
    t.ok(off(glance.hidden(), flat(oracle.project())) < NEAR, 'projected')
    t.same(
      [...glance.rows()],
      oracle.crops.flat().flatMap(({ source }) => (source < 0 ? [] : [source])),
    )
  })
}

t.test('cosines of keys are those of the keys', async (t) => {
  for (const options of [{}, { heads: 2, width: 48 }, { heads: 2, width: 64, image: 22, patch: 3 }]) {
    const { glance, vision } = await both(t, options, 2)
    await vision.advance(glance, 1, [
      { layer: 0, what: 'keys' },
      { layer: 0, what: 'keyCosines' },
    ])
    const keys = glance.seen(0, 'keys')
    const size = vision.config.headSize
    const n = vision.config.side ** 2
    const key = (i: number) => keys.subarray(i * size, (i + 1) * size)
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, c) => sum + x * (b[c] as number), 0)
    const all = [0, 1].flatMap((crop) =>
      Array.from({ length: n * n }, (_, at) => {
        const [a, b] = [key(crop * n + Math.floor(at / n)), key(crop * n + (at % n))]
        return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
      }),
    )
    t.ok(off(glance.seen(0, 'keyCosines'), all) < 2e-6, `heads of ${size}`)
  }
})

t.test('rows that have shares in several', async (t) => {
  const pair = await both(t, { isa: 'auto' } as TowerOptions, 2)
  const { glance, oracle, vision } = pair
  await vision.advance(glance, 1, [])
  oracle.attention(0)
  const first = glance.rows()
  await vision.apply(glance, { merge: first.map((source) => (source === 1 ? 0 : source)) })
  oracle.merge(new Map(Array.from(first, (source) => [source, source === 1 ? 0 : source])))
  const rows = [...glance.rows()]
  const patches = vision.config.side ** 2
  const next = generator(3)
  // Each row has shares in two of three rows of its crop; one of these gets none of the last crop's.
  const targets = (source: number) => [0, 5, 7].map((at) => Math.floor(source / patches) * patches + at)
  const blend = Int32Array.from(rows.flatMap((source) => targets(source).slice(source % 2, (source % 2) + 2)))
  const weights = Float32Array.from(blend, (target) => (target === patches + 7 ? 0 : 0.1 + next()))
  for (let i = 0; i < weights.length; i += 2) if (weights[i] === 0 && weights[i + 1] === 0) weights[i] = 1
  await vision.apply(glance, { blend, weights })
  oracle.crops = oracle.crops.map((crop) => {
    const held = new Map<number, { x: Float64Array; whole: number; size: number }>()
    for (const { size, source, x } of crop.filter((row) => !isClass(row))) {
      const at = 2 * rows.indexOf(source)
      const given = [0, 1].map((i) => [blend[at + i] as number, weights[at + i] as number] as const)
      const whole = given.reduce((sum, [, weight]) => sum + weight, 0)
      for (const [target, weight] of given) {
        if (weight === 0) continue
        const one = held.get(target) ?? { x: new Float64Array(x.length), whole: 0, size: 0 }
        held.set(target, {
          x: one.x.map((value, c) => value + weight * (x[c] as number)),
          whole: one.whole + weight,
          size: one.size + (size * weight) / whole,
        })
      }
    }
    const made = [...held].map(([source, { size, whole, x }]) => ({ source, size, x: x.map((value) => value / whole) }))
    return [...crop.filter(isClass), ...made.sort((a, b) => a.source - b.source)]
  })
  near(t, pair, 'blended')
  t.same([...glance.rows()], [0, 5, 7, patches, patches + 5])
  t.ok(Math.abs(glance.sizes().reduce((sum, size) => sum + size, 0) - 2 * patches) < 1e-4, 'no patch is lost')
  await vision.advance(glance, 5, [])
  oracle.mlp(0)
  oracle.attention(1)
  oracle.mlp(1)
  t.ok(off(glance.hidden(), flat(oracle.project())) < NEAR, 'projected')
})

function meanOf(rows: readonly TowerRow[]): Float64Array {
  const whole = rows.reduce((sum, { size }) => sum + size, 0)
  const zero = new Float64Array((rows[0] as TowerRow).x.length)
  return rows.reduce((sum, { size, x }) => sum.map((value, c) => value + (size / whole) * (x[c] as number)), zero)
}

t.test('means that are set aside come back as rows of their own', async (t) => {
  const pair = await both(t, {}, 2)
  const { glance, oracle, vision } = pair
  const patches = vision.config.side ** 2
  const patchesOf = (crop: number) =>
    (oracle.crops[crop] as TowerRow[]).filter(({ size, source }) => source >= 0 && size > 0)
  await vision.advance(glance, 0, [])
  await vision.apply(glance, { merge: glance.rows().map((source) => (source < 3 ? 0 : source)) })
  oracle.merge(new Map(Array.from({ length: 2 * patches }, (_, source) => [source, source < 3 ? 0 : source])))
  const set: Float64Array[][] = []
  const carry = async () => {
    await vision.apply(glance, { carry: true })
    set.push([meanOf(patchesOf(0)), meanOf(patchesOf(1))])
  }
  await carry()
  await vision.advance(glance, 2, [])
  oracle.attention(0)
  oracle.mlp(0)
  await carry()
  const kept = [...glance.rows()].filter((source) => source % 3 === 0)
  await vision.apply(glance, { drop: Int32Array.from(kept) })
  oracle.drop(kept)
  // The first crop gets both back, one before all of its patches is not possible, one between; the other one gets one.
  const as = [4, 5, 2 * patches - 1]
  await vision.apply(glance, { recall: Int32Array.from(as) })
  const back = [[set[0]?.[0], set[1]?.[0]], [set[0]?.[1]]]
  for (const [crop, rows] of oracle.crops.entries()) {
    const own = as.filter((source) => Math.floor(source / patches) === crop)
    for (const [i, source] of own.entries()) rows.push({ source, size: 0, x: back[crop]?.[i] as Float64Array })
    rows.sort((a, b) => a.source - b.source)
  }
  near(t, pair, 'rows that came back')
  await carry() // what stands for no patch is no part of the mean
  await vision.apply(glance, { recall: Int32Array.of(7) })
  oracle.crops[0]?.push({ source: 7, size: 0, x: set[2]?.[0] as Float64Array })
  oracle.crops[0]?.sort((a, b) => a.source - b.source)
  near(t, pair, 'and those of later')
  // Two that stand for no patch fold as equals; into a patch they weigh nothing.
  await vision.apply(glance, { merge: glance.rows().map((s) => (s === 4 ? 5 : s === 7 ? 6 : s)), proportional: true })
  const all = oracle.crops.flat().filter((row) => !isClass(row))
  const to = new Map(all.map(({ source }) => [source, source === 4 ? 5 : source === 7 ? 6 : source]))
  oracle.merge(to, new Map(all.map(({ size, source }) => [source, source === 4 || source === 5 ? 1 : size])))
  oracle.proportional = true
  near(t, pair, 'folded')
  await vision.advance(glance, 5, [])
  oracle.attention(1)
  oracle.mlp(1)
  t.ok(off(glance.hidden(), flat(oracle.project())) < NEAR, 'projected')
})

t.test('what does not fit changes nothing', async (t) => {
  const { glance, vision } = await both(t, {}, 3)
  await vision.advance(glance, 2, [])
  await vision.apply(glance, { carry: true })
  await vision.apply(glance, { drop: glance.rows().filter((source) => source !== 4 && source !== 5) })
  const all = [...glance.rows()]
  const before = glance.hidden()
  const ones = (n: number) => new Float32Array(n).fill(1)
  const self = (change: (source: number) => number) => Int32Array.from(all, change)
  const wrong: Record<string, VisionAction> = {
    'too few shares': { blend: Int32Array.of(0), weights: ones(1) },
    'weights of another number': { blend: self((s) => s), weights: ones(2 * all.length) },
    'a share in another crop': { blend: self((s) => (s === 0 ? 30 : s)), weights: ones(all.length) },
    'a share in what is gone': { blend: self((s) => (s === 0 ? 4 : s)), weights: ones(all.length) },
    'no share at all': { blend: self((s) => s), weights: new Float32Array(all.length) },
    'a weight below 0': { blend: self((s) => s), weights: ones(all.length).fill(-1, 1, 2) },
    'as a patch that is there': { recall: Int32Array.of(3) },
    'as patches that do not ascend': { recall: Int32Array.of(5, 4) },
    'as a class token': { recall: Int32Array.of(-1) },
    'as no patch of the crops': { recall: Int32Array.of(999) },
    'more than were set aside': { recall: Int32Array.of(4, 5) },
    'crops whose means are set aside': { join: 2 },
  }
  for (const [what, action] of Object.entries(wrong)) {
    const error = await raised(() => vision.apply(glance, action))
    t.equal(error.code, 'ERR_PLAN', `${what}: ${error.message}`)
    t.ok(same(glance.hidden(), before))
    t.same([...glance.rows()], all)
  }
  const shuffled = await both(t, { image: 12, patch: 3, pool: 2, classToken: false }, 2)
  for (const action of [{ join: 2 }, { carry: true }, { recall: Int32Array.of(0) }] as Parameters<
    NativeVision['apply']
  >[1][])
    t.match(await raised(() => shuffled.vision.apply(shuffled.glance, action)), {
      code: 'ERR_PLAN',
      message: /joins 4 of them/,
    })
})
