// Methods that merge patches. Numbers of the cards, worked by hand.
import { test } from 'tap'
import { geometricSteps, linearSteps } from '../../lib/methods/fold-patches.js'
import { type Method, methods, type VisionSeen } from '../../lib/methods/index.js'
import { outliers } from '../../lib/methods/vision/token-corr.js'
import { crop, generator, pictured, randomVision, span, throughTower, visionSeen } from './seen.js'

const vectors = [1, 0, 0.9, 0.1, 0, 1, 0.2, 0.9, -1, 0, 0.8, 0.6]
const flat = { headSize: 2, layers: 1, classToken: false }
const inBlock = { layer: 0, part: 'mlp' } as const
const intoOf = (method: Method, seen: VisionSeen) => {
  const [decision] = method.decide(seen)
  return decision?.action === 'mergePatches' ? Array.from(decision.into) : undefined
}
const tokens = (count: number) => ({ keep: { tokens: count } })

test('tome in the tower: six patches, the two most similar pairs', async (t) => {
  const seen = visionSeen({ ...inBlock, vision: flat, crops: [crop(1, 6)], seen: { keys: vectors } })
  const method = methods.tome({ ...tokens(4), acts: 'vision' })
  t.same(intoOf(method, seen), [1, 1, 3, 3, 4, 5])
  t.match(method.decide(seen)[0], { proportional: true, layer: 0 })
  t.same([...throughTower(method, seen).sizes()], [2, 2, 1, 1])
  t.same(method.acts, 'vision')
  t.same(
    methods
      .tome({ acts: 'vision' })
      .looks(pictured)
      .map((look) => look.at === 'vision' && `${look.part} ${look.layer}`),
    ['mlp 0', 'mlp 1', 'mlp 2', 'mlp 3'],
  )
  t.same(methods.tome({ acts: 'vision', layers: [1, 3], keep: [1, 0.5] }).looks(pictured).length, 1)
  t.throws(() => methods.tome({ acts: 'vision', keep: [0.5] }), { name: 'RangeError' })
  t.throws(() => methods.tome({ layers: [0] }), { name: 'RangeError' })
})

test('with a class token the first patch is the second row, so that it stays', async (t) => {
  const seen = visionSeen({
    ...inBlock,
    vision: { ...flat, classToken: true },
    crops: [crop(1, 4)],
    seen: { keys: Array(8).fill(1) },
  })
  t.same(intoOf(methods.tome({ ...tokens(2), acts: 'vision' }), seen), [0, 0, 2, 0])
})

test('as many go in each block, or more in the first or the last', async (t) => {
  t.same(
    linearSteps(12, 196, 40),
    Array.from({ length: 12 }, (_, i) => 196 - 13 * (i + 1)),
  )
  t.same(linearSteps(3, 100, 70, -1), [80, 70, 70])
  t.same(linearSteps(3, 100, 70, 1), [100, 90, 70])
  t.same(linearSteps(1, 10, 3), [3])
  t.same(geometricSteps(2, 100, 25), [50, 25])
  const all = throughTower(
    methods.tome({ keep: 40 / 196, acts: 'vision' }),
    randomVision([1, 14, 14], 1, { vision: { layers: 12 } }),
  )
  t.equal(all.sources.length, 40)
  t.equal(
    all.sizes().reduce((sum, size) => sum + size, 0),
    196,
  )
})

test('turbo: what the class token looks at merges later', async (t) => {
  const keys = [0.6, 0.8, 1, 0.1, 0, 1, 0.1, 1, 0.99, 0.1]
  const seen = visionSeen({
    ...inBlock,
    vision: { ...flat, classToken: true },
    crops: [crop(1, 5)],
    seen: { keys, class: [0.1, 0.3, 0.15, 0.05, 0.2] },
  })
  t.same(intoOf(methods.turbo({ ...tokens(4), alpha: 0 }), seen), [0, 4, 2, 3, 4])
  t.same(intoOf(methods.turbo({ ...tokens(4), alpha: 0.01 }), seen), [0, 1, 2, 2, 4])
  for (const seed of [1, 2, 3]) {
    const many = randomVision([2, 5, 5], seed)
    const [plain, same] = [methods.tome({ acts: 'vision' }), methods.turbo({ alpha: 0 })]
    t.same([...throughTower(same, many).sources], [...throughTower(plain, many).sources], 'alpha 0 is tome')
  }
})

test('pitome: those that have many like them', async (t) => {
  const seen = visionSeen({ ...inBlock, vision: flat, crops: [crop(1, 6)], seen: { keys: vectors } })
  t.same(intoOf(methods.pitome({ ...tokens(4), margin: 0.5 }), seen), [0, 3, 2, 3, 4, 3])
  t.same([...throughTower(methods.pitome({ ...tokens(4), margin: 0.5 }), seen).sizes()], [1, 1, 3, 1])
  t.same(intoOf(methods.pitome({ ...tokens(4), plain: 1 }), seen), [1, 1, 3, 3, 4, 5], 'as tome')
  const lonely = [...Array(5).fill([1, 0.01]).flat(), -1, 0.2]
  const far = visionSeen({ ...inBlock, vision: flat, crops: [crop(1, 6)], seen: { keys: lonely } })
  t.equal(intoOf(methods.pitome(tokens(4)), far)?.[5], 5, 'what stands alone is spared')
  const hidden = visionSeen({ ...inBlock, vision: { ...flat, width: 2 }, crops: [crop(1, 6)], hidden: vectors })
  t.same(intoOf(methods.pitome({ ...tokens(4), margin: 0.5, metric: 'hidden' }), hidden), [0, 3, 2, 3, 4, 3])
})

test('visionZip: dominant patches, and targets for the others', async (t) => {
  const keys = [1, 0, 0, 1, 1, 0.1, 0.1, 1, 1, 1, 1, 0.2]
  const seen = visionSeen({
    vision: { headSize: 2 },
    crops: [crop(1, 6)],
    seen: { keys, class: [0.3, 0.05, 0.1, 0.2, 0.05, 0.1] },
  })
  t.same(intoOf(methods.visionZip({ ...tokens(4), contextual: 0.5 }), seen), [0, 1, 4, 3, 4, 4])
  const few = throughTower(methods.visionZip({ ...tokens(2), contextual: 0 }), seen)
  t.same([...few.sources], [0, 3])
  t.same([...few.sizes()], [1, 1], 'what nobody holds is gone')
  const [decision] = methods.visionZip({ keep: 64 / 576 }).decide(randomVision([1, 24, 24], 2))
  const into = decision?.action === 'mergePatches' ? Array.from(decision.into) : []
  const sizes = new Map<number, number>()
  for (const source of into) sizes.set(source, (sizes.get(source) ?? 0) + 1)
  t.equal(sizes.size, 64)
  t.ok([...sizes.values()].filter((size) => size > 1).length <= 10, '54 and 10')
})

test('tokenCorr: counts follow what there is to see', async (t) => {
  t.same(outliers(Float32Array.of(0.01, 0.02, 0.02, 0.03, 0.03, 0.04, 0.05, 0.3), 1.5), [7])
  const plain = Array.from({ length: 8 }, (_, i) => (i < 6 ? [1, 0] : i === 6 ? [0, 1] : [-1, 1])).flat()
  const near = [0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1]
  const seen = (keys: number[]) =>
    visionSeen({
      vision: { headSize: 2 },
      crops: [crop(2, 4)],
      seen: { 'keys 1': keys, 'class 1': near, 'class 3': [0.01, 0.02, 0.02, 0.03, 0.03, 0.04, 0.05, 0.3] },
    })
  const method = methods.tokenCorr({ least: 1, beta: 0.05 })
  const [decision] = method.decide(seen(plain))
  if (decision?.action !== 'mergePatches') return t.fail('merges')
  t.same(Array.from(decision.into), [1, 1, 1, 1, 1, 1, 6, 7], 'two by the low block, one by the last')
  t.same(
    Array.from(decision.weights ?? [], (weight) => Number(weight.toFixed(3))),
    [0.1, 1, 0.1, 0.1, 0.1, 0.1, 1, 1],
  )
  const busy = Array.from({ length: 8 }, (_, i) => [Math.cos((i * Math.PI) / 4), Math.sin((i * Math.PI) / 4)]).flat()
  t.equal(throughTower(method, seen(busy)).sources.length, 8, 'nothing repeats')
  t.equal(throughTower(methods.tokenCorr({ alpha: 1, least: 1 }), randomVision([2, 4, 4], 3)).sources.length, 32)
  const page = visionSeen({
    crops: [crop(6, 6, { kind: 'thumbnail' }), crop(6, 6, { kind: 'tile' })],
    seen: { keys: Array(216).fill(1), class: Array(72).fill(1 / 36) },
  })
  t.equal(throughTower(methods.tokenCorr(), page).sources.length, 36 + 16, 'a blank page, beside a thumbnail')
})

test('aim: halves of halves, plain means', async (t) => {
  const next = generator(3)
  const hidden = Array.from({ length: 196 * 3 }, () => next() - 0.5)
  const seen = visionSeen({ vision: { width: 3 }, crops: [crop(14, 14)], hidden })
  const [decision] = methods.aim({ keep: 0.25 }).decide(seen)
  if (decision?.action !== 'mergePatches') return t.fail('merges')
  const into = Array.from(decision.into)
  t.same(
    [...new Set(into)].sort((a, b) => a - b),
    [...span(0, 49)].map((i) => 4 * i + 3),
    'the last of each four',
  )
  let rows = Array.from({ length: 196 }, (_, i) => hidden.slice(3 * i, 3 * i + 3))
  for (let round = 0; round < 2; round++) {
    const cosine = (a: number[], b: number[]) =>
      a.reduce((sum, x, i) => sum + x * (b[i] as number), 0) / Math.hypot(...a) / Math.hypot(...b)
    const groups = rows.filter((_, i) => i % 2 === 1).map((row) => [row])
    const heads = groups.map(([row]) => row as number[])
    for (const row of rows.filter((_, i) => i % 2 === 0)) {
      const likes = heads.map((head) => cosine(row, head))
      groups[likes.indexOf(Math.max(...likes))]?.push(row)
    }
    rows = groups.map((group) =>
      [0, 1, 2].map((c) => group.reduce((sum, row) => sum + (row[c] as number), 0) / group.length),
    )
  }
  const weights = Array.from(decision.weights ?? [])
  for (const [i, row] of rows.entries()) {
    const members = [...span(0, 196)].filter((patch) => into[patch] === 4 * i + 3)
    const whole = members.reduce((sum, patch) => sum + (weights[patch] as number), 0)
    const mean = [0, 1, 2].map(
      (c) =>
        members.reduce((sum, patch) => sum + (weights[patch] as number) * (hidden[3 * patch + c] as number), 0) / whole,
    )
    if (!mean.every((value, c) => Math.abs(value - (row[c] as number)) < 1e-5)) t.fail(`row ${i}: ${mean} for ${row}`)
  }
})

test('vmtcCmai: primary patches stay, the others are clustered by direction', async (t) => {
  const hidden = [1, 0, 0, 1, 2, 0.1, 0.1, 3, 1, 1, 0.9, -0.1, -0.2, 2]
  const seen = visionSeen({
    vision: { width: 2 },
    crops: [crop(1, 7)],
    hidden,
    seen: { class: [0.1, 0.1, 0.2, 0.05, 0.3, 0.05, 0.1] },
  })
  const [decision] = methods.vmtcCmai({ ...tokens(3), primary: 0.4 }).decide(seen)
  if (decision?.action !== 'mergePatches') return t.fail('merges')
  t.same(Array.from(decision.into), [2, 1, 2, 1, 4, 2, 1], '4 is primary; the others point right or up')
  t.same(
    Array.from(decision.weights ?? [], (weight) => Number(weight.toFixed(2))),
    [0.1, 0.1, 0.2, 0.05, 0.3, 0.05, 0.1],
  )
  const many = randomVision([1, 8, 8], 4)
  t.same(intoOf(methods.vmtcCmai({ keep: 0.3 }), many), intoOf(methods.vmtcCmai({ keep: 0.3 }), many))
})
