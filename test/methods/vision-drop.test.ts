// Methods that drop patches. Numbers of the cards, worked by hand.
import { test } from 'tap'
import { type Method, methods, type VisionSeen } from '../../lib/methods/index.js'
import { crop, keptPatches, pictured, randomVision, span, tower, visionSeen } from './seen.js'

const blind = { ...pictured, vision: { ...tower, classToken: false } }
const needsOf = (method: Method, shape = pictured) =>
  method
    .looks(shape)
    .flatMap((look) => (look.at === 'vision' ? look.needs.map(({ layer, what }) => `${what} ${layer}`) : []))
const tokens = (count: number) => ({ keep: { tokens: count } })

test('vtcCls adds up what the class token gives in the last blocks', async (t) => {
  const seen = visionSeen({
    crops: [crop(1, 4)],
    seen: { 'class 2': [0.1, 0.4, 0.3, 0], 'class 3': [0.3, 0, 0.3, 0.35], 'class 1': [1, 0, 0, 0] },
  })
  t.same(needsOf(methods.vtcCls({ from: 0.4 })), ['class 2', 'class 3'])
  t.same(needsOf(methods.vtcCls()), ['class 3'], 'two thirds of four blocks and the one that does not run')
  t.same(needsOf(methods.vtcCls(), { ...pictured, vision: { ...tower, layers: 23 } })[0], 'class 16')
  t.same(needsOf(methods.vtcCls(), blind), ['received 3'])
  t.same(
    keptPatches(methods.vtcCls({ ...tokens(2), from: 0.4 }), seen),
    [0, 2],
    '.4, .4, .6 and .35: of equals the first',
  )
  t.same(keptPatches(methods.vtcCls({ ...tokens(2), from: 1 }), seen), [0, 3], 'the last block alone')
  t.same(keptPatches(methods.vtcCls({ ...tokens(1), from: 0.4, combine: 'max' }), seen), [1])
  t.same(keptPatches(methods.vtcCls({ ...tokens(1), from: 0.4, combine: 'min' }), seen), [2])
  t.match(methods.vtcCls(tokens(2)).decide(seen)[0], { action: 'dropPatches', layer: 4 })
})

test('fopru takes what patches receive or give, whichever varies more', async (t) => {
  const pairs = [
    [0.4, 0.1, 0.1, 0.1],
    [0.3, 0.2, 0.2, 0.1],
    [0.3, 0.1, 0.3, 0.1],
    [0.4, 0.2, 0.1, 0.2],
  ]
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / 4
  const received = [0, 1, 2, 3].map((j) => mean(pairs.map((row) => row[j] as number)))
  const given = pairs.map(mean)
  const seen = (received: number[], given: number[]) => visionSeen({ crops: [crop(2, 2)], seen: { received, given } })
  t.same(keptPatches(methods.fopru({ keep: 0.5 }), seen(received, given)), [0, 2])
  t.same(keptPatches(methods.fopru({ keep: 0.5 }), seen(given, received)), [0, 2], 'what is given varies more now')
  t.same(keptPatches(methods.fopru({ keep: 0.5 }), seen(given, given)), [1, 3], 'equal: what is given')
  t.same(keptPatches(methods.fopru({ keep: 0.5, strategy: 'rows' }), seen(received, given)), [0, 1])
  t.same(
    keptPatches(methods.fopru({ keep: 0.75, strategy: 'rows' }), seen(received, given)),
    [0, 1, 2],
    'then the best of the next',
  )
  t.same(needsOf(methods.fopru()), ['received 3', 'given 3'])
})

test('fopru: a quarter of the rows, and a textured strip stays whole', async (t) => {
  const received = Array.from({ length: 576 }, (_, i) => (Math.floor(i / 24) === 9 ? 2 : 0) + ((i * 37) % 101) / 1000)
  const seen = visionSeen({ crops: [crop(24, 24)], seen: { received, given: Array(576).fill(0) } })
  const rows = keptPatches(methods.fopru({ keep: 0.25, strategy: 'rows' }), seen).map((patch) => Math.floor(patch / 24))
  t.equal(new Set(rows).size, 6)
  t.equal(rows.length, 144)
  t.equal(rows.filter((row) => row === 9).length, 24)
})

test('divPrune takes the farthest first', async (t) => {
  const hidden = [1, 0, 0.99, 0.14, 0, 1, -0.6, 0.8, 0.7, 0.7, 0.1, 1]
  const seen = visionSeen({ part: 'decoder', vision: { outputSize: 2 }, crops: [crop(1, 6)], hidden })
  t.same(keptPatches(methods.divPrune(tokens(4)), seen), [0, 3, 4, 5])
  t.same(keptPatches(methods.divPrune(tokens(2)), seen), [3, 4])
  t.match(methods.divPrune().looks(pictured), [{ at: 'vision', layer: 4, part: 'decoder', needs: [] }])
  const twice = [...hidden, ...hidden]
  const doubled = visionSeen({ part: 'decoder', vision: { outputSize: 2 }, crops: [crop(2, 6)], hidden: twice })
  const kept = keptPatches(methods.divPrune(tokens(6)), doubled)
  t.equal(new Set(kept.map((patch) => patch % 6)).size, 6, 'no duplicate while another is left')
  const many = randomVision([1, 24, 24], 5, { part: 'decoder' })
  t.equal(keptPatches(methods.divPrune({ keep: 56 / 576 }), many).length, 56)
})

test('globalCom2: the thumbnail shares the budget over the tiles', async (t) => {
  const crops = [crop(4, 4, { kind: 'thumbnail' })]
  for (const row of [0, 1]) for (const column of [0, 1]) crops.push(crop(4, 4, { kind: 'tile', row, column }))
  const map = Array.from({ length: 16 }, (_, i) => (i % 4 >= 2 && i < 8 ? 5 : 0)) // the upper right quarter
  const tile = Array.from({ length: 16 }, (_, i) => i / 100)
  const seen = visionSeen({ crops, seen: { classLogits: [...map, ...tile, ...tile, ...tile, ...tile] } })
  const counts = (method: Method, at: VisionSeen = seen) => {
    const kept = keptPatches(method, at)
    return at.crops.map((_, i) => kept.filter((source) => Math.floor(source / 16) === i).length)
  }
  // sums 0, 20, 0, 0, so e^2 against 1: .7112 and three times .0963; of 6.4 each 1.4612 and .8463 times as many: 9.35 and 5.42
  t.same(counts(methods.globalCom2({ keep: 0.4 })), [6, 6, 9, 6, 5])
  t.same(counts(methods.globalCom2({ keep: 0.4, tau: 1e9 })), [7, 6, 7, 6, 6], 'evenly, but for a hair')
  const kept = keptPatches(methods.globalCom2({ keep: 0.4, tau: 1e9 }), seen)
  t.same(
    kept.filter((source) => source >= 16 && source < 32).map((source) => source - 16),
    [3, 7, 11, 13, 14, 15],
    'what is near the bright quarter counts too',
  )
  const alone = visionSeen({ crops: [crop(4, 4)], seen: { classLogits: map } })
  t.same(keptPatches(methods.globalCom2({ keep: 0.25 }), alone), [2, 3, 6, 7])
  t.same(needsOf(methods.globalCom2(), blind), ['received 3'])
})

test('quota: frames by their weights', async (t) => {
  const film = (frames: number, rows: number, columns: number) =>
    randomVision([frames, rows, columns], 1, {
      crops: Array.from({ length: frames }, (_, i) => crop(rows, columns, { kind: 'frame', row: i })),
    })
  const counts = (method: Method, seen: VisionSeen) => {
    const kept = keptPatches(method, seen)
    return seen.crops.map(
      (_, i) => kept.filter((source) => Math.floor(source / (seen.given / seen.crops.length)) === i).length,
    )
  }
  // squares .81, .01, .25: 75.7, .93 and 23.4 of a hundred
  t.same(counts(methods.quota({ ...tokens(100), weights: [0.9, 0.1, 0.5] }), film(3, 10, 10)), [76, 1, 23])
  // no frame has more than 60: the 15.7 above go to the others as 1 to 25
  t.same(counts(methods.quota({ ...tokens(100), weights: [0.9, 0.1, 0.5] }), film(3, 6, 10)), [60, 2, 38])
  t.same(counts(methods.quota({ keep: 0.5 }), film(4, 4, 4)), [8, 8, 8, 8])
  const few = counts(
    methods.quota({ keep: 0.1, weights: Array.from({ length: 32 }, (_, i) => (i % 10 === 5 ? 1 : 0.05)) }),
    film(32, 8, 8),
  )
  t.ok(few.filter((_, i) => i % 10 === 5).reduce((sum, one) => sum + one, 0) >= 0.9 * 205)
  t.same(keptPatches(methods.quota(tokens(4)), film(1, 2, 4)), [1, 3, 5, 7])
  t.throws(() => methods.quota({ weights: [1, 2] }).decide(film(3, 2, 2)), {
    name: 'RangeError',
    message: /3 weights, one a frame, for `weights` but received 2/,
  })
  t.throws(() => methods.quota({ weights: [0, 0] }), { name: 'RangeError' })
})

test('hot: frames that stand for the others', async (t) => {
  const film = (hidden: number[], patches = 1) =>
    visionSeen({
      vision: { width: 2 },
      crops: Array.from({ length: hidden.length / 2 / patches }, (_, i) => crop(1, patches, { kind: 'frame', row: i })),
      hidden,
    })
  const points = [0, 0, 0.1, 0, 0.25, 0, 1, 1, 1.1, 1.05, 3, 0]
  t.same(keptPatches(methods.hot(tokens(3)), film(points)), [0, 3, 5])
  const twice = points.flatMap((_, i) =>
    i % 2 === 0 ? [points[i], points[i + 1], points[i], points[i + 1]] : [],
  ) as number[]
  t.same(keptPatches(methods.hot(tokens(5)), film(twice, 2)), [0, 1, 6, 7, 10, 11], 'whole frames, rounded up')
  t.same(keptPatches(methods.hot(tokens(2)), film(Array(8).fill(1))), [0, 2], 'a film that does not move')
})

test('floors: a uniform grid and chance', async (t) => {
  const seen = randomVision([1, 4, 4], 1)
  t.same(keptPatches(methods.grid({ keep: 0.25 }), seen), [0, 2, 8, 10])
  t.same(keptPatches(methods.grid({ keep: 0.5 }), seen), [0, 2, 5, 7, 8, 10, 13, 15])
  t.same(keptPatches(methods.grid(tokens(1)), seen), [0])
  const wide = randomVision([1, 12, 12], 1)
  t.same(
    keptPatches(methods.grid({ keep: 0.25 }), wide),
    [...span(0, 144)].filter((i) => i % 2 === 0 && Math.floor(i / 12) % 2 === 0),
  )
  const few = keptPatches(methods.random({ keep: 0.25, acts: 'vision' }), wide)
  const more = keptPatches(methods.random({ keep: 0.5, acts: 'vision' }), wide)
  t.ok(
    few.every((patch) => more.includes(patch)),
    'a smaller budget keeps a part of what a larger one does',
  )
  t.notSame(keptPatches(methods.random({ keep: 0.5, acts: 'vision', seed: 2 }), wide), more)
  t.same(methods.random({ acts: 'vision' }).looks({ ...pictured, vision: { ...tower, pool: 2 } }), [
    { at: 'vision', layer: 4, part: 'decoder', needs: [] },
  ])
})
