// Glances: crops that lose and fold patches on their way through a tower, and what is seen of them, against plain loops.
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { NativeGlance, NativeVision, VisionLook } from '../lib/native-vision.js'
import { flat, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { generator, normals } from './numbers.js'
import { loadTower, off } from './vision-fixture.js'
import { ReferenceTower, type Seen, type TowerOptions, tinyTower, writeTower } from './vision-reference.js'

const NEAR = 1e-4
const WHATS: readonly VisionLook['what'][] = [
  'class',
  'classLogits',
  'received',
  'given',
  'keys',
  'keyCosines',
  'pairs',
]

async function both(t: Test, options: TowerOptions, crops: number, isa = 'auto') {
  const tower = tinyTower(options)
  const vision = await loadTower(t, writeTower(join(scratch(t), 'tower.gguf'), tower), { isa })
  const pixels = normals(crops * 3 * tower.config.image ** 2, generator(7), 1)
  return { glance: vision.open(pixels, crops), oracle: new ReferenceTower(tower, pixels, crops), pixels, vision }
}

function near(t: Test, glance: NativeGlance, oracle: ReferenceTower, what: string): void {
  const rows = oracle.crops.flat()
  const patches = rows.filter(({ source }) => source >= 0)
  t.same(
    [...glance.rows()],
    patches.map(({ source }) => source),
    `${what}: which rows`,
  )
  t.ok(
    off(
      glance.sizes(),
      patches.map(({ size }) => size),
    ) < 1e-6,
    `${what}: sizes`,
  )
  t.ok(
    off(
      glance.hidden(),
      patches.flatMap(({ x }) => [...x]),
    ) < NEAR,
    `${what}: rows`,
  )
  const classes = rows.filter(({ source }) => source < 0).flatMap(({ x }) => [...x])
  if (classes.length > 0) t.ok(off(glance.classHidden(), classes) < NEAR, `${what}: class tokens`)
  else t.equal(glance.classHidden().length, 0)
}

/** The means of one crop, as VisionLook says them. skip: the class token's row. */
function expected({ keys, scores, shares }: Seen, what: VisionLook['what'], skip: number): number[] {
  const n = keys.length - skip
  const heads = shares.length
  const patches = [...Array(n).keys()].map((i) => i + skip)
  const mean = (of: (h: number) => number) => shares.reduce((total, _, h) => total + of(h), 0) / heads
  const share = (i: number, j: number) => mean((h) => shares[h]?.[i]?.[j] as number)
  const over = (of: (i: number) => number) => patches.reduce((total, i) => total + of(i), 0) / n
  if (what === 'class') return patches.map((j) => share(0, j))
  if (what === 'classLogits') return patches.map((j) => mean((h) => scores[h]?.[0]?.[j] as number))
  if (what === 'received') return patches.map((j) => over((i) => share(i, j)))
  if (what === 'given') return patches.map((i) => over((j) => share(i, j)))
  if (what === 'pairs') return patches.flatMap((i) => patches.map((j) => share(i, j)))
  const size = (keys[0]?.length as number) / heads
  const means = patches.map((i) =>
    Array.from({ length: size }, (_, c) => mean((h) => keys[i]?.[h * size + c] as number)),
  )
  if (what === 'keys') return means.flat()
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((total, x, c) => total + x * (b[c] as number), 0)
  return means.flatMap((a) => means.map((b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))))
}

function nearSeen(t: Test, glance: NativeGlance, layer: number, seen: readonly Seen[], skip: number): void {
  for (const what of WHATS.slice(skip === 1 ? 0 : 2)) {
    const all = seen.filter(({ keys }) => keys.length > skip).flatMap((crop) => expected(crop, what, skip))
    t.ok(off(glance.seen(layer, what), all) < NEAR, `${what} of block ${layer}`)
  }
}

const looksAt = (layer: number, classToken: boolean) => WHATS.slice(classToken ? 0 : 2).map((what) => ({ layer, what }))

const KINDS: Record<string, TowerOptions & { isa?: string }> = {
  'as CLIP': {},
  'as CLIP, the reference': { isa: 'reference' },
  'without a class token, a norm behind': { classToken: false, preNorm: false, postNorm: true, activation: 'tanh' },
  'heads of 24, silu': { heads: 2, width: 48, activation: 'silu' },
  'heads of 32, more than a page of patches': { heads: 2, width: 64, image: 22, patch: 3 },
}

type Pair = Awaited<ReturnType<typeof both>>

/** All but a few patches of the first crop, none of the second, a third of the last: between an attention and its MLP. */
async function checkDrop(t: Test, { glance, oracle, vision }: Pair): Promise<void> {
  const patches = vision.config.side ** 2
  const kept = [...glance.rows()].filter((i) => (i < patches ? i !== 3 && i !== 7 : i >= 2 * patches && i % 3 === 0))
  await vision.apply(glance, { drop: Int32Array.from(kept) })
  oracle.drop(kept)
  near(t, glance, oracle, 'after a drop')
}

/** By weights; those of rows that stay alone do not matter. */
async function checkWeighted(t: Test, { glance, oracle, vision }: Pair): Promise<void> {
  const sources = [...glance.rows()]
  const last = sources.at(-1) as number
  const targets = new Map([
    [1, 0],
    [2, 0],
    [5, 8],
    [last - 3, last],
  ])
  const into = new Map(sources.map((source) => [source, targets.get(source) ?? source]))
  const folds = new Set([...targets].flat())
  const weights = new Map(sources.map((source, i) => [source, folds.has(source) ? 0.5 + i : 0]))
  await vision.apply(glance, {
    merge: Int32Array.from(sources, (source) => into.get(source) as number),
    weights: Float32Array.from(sources, (source) => weights.get(source) as number),
  })
  oracle.merge(into, weights)
  near(t, glance, oracle, 'after a weighted merge')
}

/** By sizes, and from then on rows count as what they stand for. */
async function checkProportional({ glance, oracle, vision }: Pair): Promise<void> {
  const sources = [...glance.rows()]
  const into = new Map(sources.map((source) => [source, source === 0 ? 4 : source]))
  const merge = Int32Array.from(sources, (source) => into.get(source) as number)
  await vision.apply(glance, { merge, proportional: true })
  oracle.merge(into)
  oracle.proportional = true
}

async function checkEnd(t: Test, { glance, oracle, vision }: Pair): Promise<void> {
  await vision.advance(glance, 5, [])
  t.ok(off(glance.hidden(), flat(oracle.project())) < NEAR, 'projected')
  const some = glance.rows().filter((_, i) => i % 2 === 0)
  const before = glance.hidden()
  await vision.apply(glance, { drop: some })
  t.same([...glance.rows()], [...some], 'drops behind the projector')
  t.ok(same(glance.hidden().subarray(0, 20), before.subarray(0, 20)))
}

for (const [name, { isa = 'auto', ...options }] of Object.entries(KINDS)) {
  t.test(`${name}: drops and merges between half blocks`, async (t) => {
    const pair = await both(t, options, 3, isa)
    const { glance, oracle, vision } = pair
    const { classToken, side } = vision.config
    const skip = classToken ? 1 : 0
    await vision.advance(glance, 0, [])
    near(t, glance, oracle, 'embedded')
    await vision.advance(glance, 1, looksAt(0, classToken))
    nearSeen(t, glance, 0, oracle.attention(0), skip)
    near(t, glance, oracle, 'behind an attention')
    await checkDrop(t, pair)
    await vision.advance(glance, 2, [])
    oracle.mlp(0)
    await checkWeighted(t, pair)
    await checkProportional(pair)
    await vision.advance(glance, 4, looksAt(1, classToken))
    nearSeen(t, glance, 1, oracle.attention(1), skip)
    oracle.mlp(1)
    near(t, glance, oracle, 'after a proportional block')
    t.ok(
      glance.sizes().some((size) => size > 3),
      'a row that stands for several',
    )
    t.equal(glance.seen(0, 'received').length, 3 * side * side, 'as they were then')
    await checkEnd(t, pair)
  })
}

t.test('patches that are joined go behind the projector alone', async (t) => {
  const { glance, oracle, vision } = await both(t, { image: 12, patch: 3, pool: 2, classToken: false }, 2)
  t.equal(vision.config.projector, 'pixelShuffle')
  const error = await raised(() => vision.apply(glance, { drop: Int32Array.of(0, 1) }))
  t.match(error, { code: 'ERR_PLAN', message: /joins 4 of them/ })
  await vision.advance(glance, 5, [])
  for (const layer of [0, 1]) {
    oracle.attention(layer)
    oracle.mlp(layer)
  }
  t.ok(off(glance.hidden(), flat(oracle.project())) < NEAR)
  t.same([...glance.rows()], [0, 1, 2, 3, 4, 5, 6, 7])
  await vision.apply(glance, { merge: Int32Array.of(0, 0, 2, 3, 4, 5, 5, 7) })
  t.same([...glance.rows()], [0, 2, 3, 4, 5, 7])
  t.same([...glance.sizes()], [2, 1, 1, 1, 2, 1])
})

t.test('weights of 8 bits: near, and exact with exact products', async (t) => {
  const shape = { quantized: true, width: 64, hidden: 96, output: 32, image: 18, layers: 4 }
  const results: Float32Array[] = []
  for (const isa of ['auto', 'reference']) {
    const { glance, oracle, vision } = await both(t, shape, 2, isa)
    await vision.advance(glance, 9, [])
    for (const layer of [0, 1, 2, 3]) {
      oracle.attention(layer)
      oracle.mlp(layer)
    }
    const apart = off(glance.hidden(), flat(oracle.project()))
    t.ok(apart < (isa === 'auto' ? 0.05 : NEAR), `${isa}: ${apart}`)
    results.push(glance.hidden())
  }
  t.notOk(same(results[0] as Float32Array, results[1] as Float32Array))
})

t.test('a crop does not depend on those beside it, nor rows on how far a call goes', async (t) => {
  const { glance, pixels, vision } = await both(t, { image: 30 }, 30) // more rows than a batch
  await vision.advance(glance, 5, [])
  const size = 3 * vision.config.imageSize ** 2
  const rows = vision.config.side ** 2 * vision.config.outputSize
  for (const crop of [0, 17, 29]) {
    const alone = vision.open(pixels.subarray(crop * size, (crop + 1) * size), 1)
    for (let place = 0; place <= 5; place++) await vision.advance(alone, place, [])
    t.ok(same(alone.hidden(), glance.hidden().subarray(crop * rows, (crop + 1) * rows)), `crop ${crop}`)
  }
})

t.test('decisions that do not fit change nothing', async (t) => {
  const { glance, vision } = await both(t, {}, 2)
  await vision.advance(glance, 2, [])
  const before = glance.hidden()
  const all = [...glance.rows()]
  const wrong: Record<string, Parameters<NativeVision['apply']>[1]> = {
    nothing: { drop: new Int32Array(0) },
    'a patch that is not there': { drop: Int32Array.of(0, 50) },
    'patches that do not ascend': { drop: Int32Array.of(1, 0) },
    'a patch twice': { drop: Int32Array.of(1, 1) },
    'a class token': { drop: Int32Array.of(-1, 0) },
    'too few targets': { merge: Int32Array.of(0) },
    'a target of another crop': { merge: Int32Array.from(all, (source) => (source === 30 ? 3 : source)) },
    'a target that goes': { merge: Int32Array.from(all, (s) => (s === 3 ? 4 : s === 4 ? 5 : s)) },
    'a target that is not there': { merge: Int32Array.from(all, (s) => (s === 3 ? 99 : s)) },
    'too few weights': { merge: Int32Array.from(all), weights: Float32Array.of(1) },
    'a weight below 0': { merge: Int32Array.from(all), weights: Float32Array.from(all, () => -1) },
    'weights of 0': { merge: Int32Array.from(all, (s) => (s === 3 ? 4 : s)), weights: new Float32Array(all.length) },
  }
  for (const [what, action] of Object.entries(wrong)) {
    const error = await raised(() => vision.apply(glance, action))
    t.equal(error.code, 'ERR_PLAN', `${what}: ${error.message}`)
    t.ok(same(glance.hidden(), before))
    t.same([...glance.rows()], all)
  }
  t.match(await raised(() => glance.seen(0, 'class')), { code: 'ERR_PLAN' }, 'nobody looked')
  t.match(await raised(() => vision.advance(glance, 1, [])), { code: 'ERR_INTERNAL' }, 'backwards')
  const blind = await both(t, { classToken: false }, 1)
  const look = await raised(() => blind.vision.advance(blind.glance, 2, [{ layer: 0, what: 'class' }]))
  t.match(look, { code: 'ERR_PLAN', message: /class token/ })
  await blind.vision.advance(blind.glance, 2, [])
})

t.test('work that is stopped, towers that are closed', async (t) => {
  const { glance, pixels, vision } = await both(t, { image: 60, width: 96, hidden: 384, layers: 12 }, 12)
  const work = vision.advance(glance, 25, [])
  t.match(await raised(() => vision.advance(glance, 25, [])), { code: 'ERR_INTERNAL', message: /one piece of work/ })
  t.match(await raised(() => glance.rows()), { code: 'ERR_INTERNAL' })
  glance.interrupt()
  t.match(await raised(() => work), { code: 'ERR_ABORTED' })
  t.match(await raised(() => vision.advance(glance, 25, [])), { code: 'ERR_INTERNAL', message: /not stopped/ })
  glance.close()
  glance.close()
  t.match(await raised(() => glance.rows()), { code: 'ERR_CLOSED' })
  t.match(await raised(() => vision.open(pixels.subarray(1), 12)), { name: 'TypeError' })
  const other = vision.open(pixels, 12)
  const running = vision.advance(other, 3, [])
  vision.close()
  await running
  t.equal(other.rows().length, 12 * 400)
  t.match(await raised(() => vision.open(pixels, 12)), { code: 'ERR_CLOSED' })
})
