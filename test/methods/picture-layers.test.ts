// Methods between layers of the decoder that were made for pictures. Numbers of the cards, worked by hand.
import { test } from 'tap'
import { type Crop, type Method, makeSchedule, methods, type Seen, type Shape } from '../../lib/methods/index.js'
import type { PlanEntry } from '../../lib/plan.js'
import { crop, floats, generator, layerSeen, pictured, shape, span, throughTower, visionSeen } from './seen.js'

const entries = (method: Method, seen: Seen): PlanEntry[] =>
  makeSchedule([method], pictured)
    .decide(seen)
    .map(({ entry }) => entry)
const wide = { ...pictured, layers: 32, windows: Array(32).fill(0) }
const layersOf = (method: Method, of: Shape = wide) =>
  method.looks(of).flatMap((look) => (look.at === 'layer' ? [look.layer] : []))

test('sparseVlm: words that the picture has to do with are asked', async (t) => {
  // rows: two patches, then the words (2,0), (0,1), (0,0): m = .4995, .3413, .1592, so the first two are raters
  const question = { asking: [2, 3, 4], attention: [0.1, 0.5, 0, 0, 0, 0.5, 0.3, 0, 0, 0, 0.9, 0, 0, 0, 0] }
  const seen = layerSeen({
    layer: 2,
    rows: 5,
    droppable: span(0, 2),
    embedded: [1, 0, 0, 1, 2, 0, 0, 1, 0, 0],
    question,
  })
  const method = methods.sparseVlm({ layers: [2], ratios: [0.5], recycle: 0 })
  const kept = (now: Seen) => entries(method, now)[0]?.kept
  t.same(kept(seen), [1, 2, 3, 4], 'mean .3 and .4; with the last word .5 and .27')
  t.same(layersOf(methods.sparseVlm()), [2, 6, 15])
  t.same(methods.sparseVlm({ layers: [2], ratios: [1] }).looks(wide), [])
  t.throws(() => methods.sparseVlm({ ratios: [0.5] }), { name: 'RangeError' })
})

test('sparseVlm: counts of the paper, clusters of what goes', async (t) => {
  const next = generator(4)
  const rows = 586
  const given = {
    rows,
    droppable: span(5, 581),
    embedded: floats(rows * 4, () => next() - 0.5),
    hidden: floats(rows * 4, () => next() - 0.5),
    question: { asking: span(581, 586), attention: floats(5 * rows, next) },
  }
  const method = methods.sparseVlm({ layers: [2, 3, 4] })
  const [merge, drop] = entries(method, layerSeen({ layer: 2, ...given }))
  t.match(merge, { action: 'merge', before: 586, after: 586 - 83 + 9 }, '83 of the 276 that go become nine')
  t.match(drop, { action: 'drop', after: 309 + 10 })
  const kept = drop?.kept?.filter((source) => source >= 5 && source < 581) ?? []
  const again = layerSeen({
    layer: 3,
    rows: 319,
    sources: Int32Array.from(drop?.kept ?? []),
    droppable: span(5, 314),
    given: 576,
    embedded: floats(319 * 4, () => next() - 0.5),
    hidden: floats(319 * 4, () => next() - 0.5),
    question: { asking: span(314, 319), attention: floats(5 * 319, next) },
  })
  t.equal(kept.length, 309)
  t.equal(entries(method, again)[1]?.after, 204 + 10)
})

test('sparseVlm: a cluster is the mean of rows that are near each other', async (t) => {
  const hidden = [...Array(4).fill([0, 0]), [5, 5], [5.1, 5], [5, 5.1], [9, 9]].flat()
  const attention = [...Array(4).fill(0.2), 0.01, 0.02, 0.03, 0.04]
  const seen = layerSeen({
    layer: 2,
    rows: 8,
    droppable: span(0, 7),
    hidden,
    embedded: Array(16).fill(0),
    question: { asking: [7], attention },
  })
  const [merge, drop] = entries(methods.sparseVlm({ layers: [2], ratios: [0.6], recycle: 0.9 }), seen)
  t.same(merge?.into, [0, 1, 2, 3, 4, 4, 4, 7])
  t.same(drop, undefined, 'nothing else goes')
})

test('mustDrop: patches that no word looks at', async (t) => {
  const question = {
    asking: [4, 5],
    attention: [0.01, 0.001, 0, 0.02, 0, 0, 0.002, 0.001, 0.003, 0.01, 0, 0],
  }
  const seen = layerSeen({ layer: 2, rows: 6, droppable: span(0, 4), question })
  const kept = (alpha: number, gamma = 0.1) =>
    entries(methods.mustDrop({ layers: [2], gamma, alpha, spared: 0 }), seen)[0]?.kept
  t.same(
    kept(0.002),
    [0, 2, 3, 4, 5],
    'of .047 in all, .002 and .003 are less than a tenth; row 2 has .003 from one word',
  )
  t.same(kept(0.004), [0, 3, 4, 5])
  const looked = [0.1, 0.3, 0.5, 0, 0, 0]
  const spared = (share: number, more: object = {}) =>
    entries(
      methods.mustDrop({ layers: [2], gamma: 0.1, alpha: 0.004, spared: share }),
      layerSeen({ layer: 2, rows: 6, droppable: span(0, 4), question, class: looked, ...more }),
    )[0]?.kept
  t.same(spared(0.25), [0, 2, 3, 4, 5], 'one of four patches is spared: the third')
  t.same(spared(0.25, { came: 8 }), undefined, 'two of eight that came are')
  t.same(spared(1, { class: Array(6).fill(0) }), [0, 3, 4, 5], 'no class token')
  t.same(layersOf(methods.mustDrop()), [2, 6, 10, 14])
  t.same(methods.mustDrop({ gamma: 0, similar: 1.5 }).looks(wide), [])
})

test('mustDrop: plain windows become one row, noise none', async (t) => {
  const at = { layer: 1, part: 'attention', crops: [crop(24, 24)] } as const
  const flat = throughTower(
    methods.mustDrop({ gamma: 0 }),
    visionSeen({ ...at, vision: { width: 2 }, hidden: Array(1152).fill(1) }),
  )
  t.equal(flat.sources.length, 64)
  t.same([...flat.sources.slice(0, 9)], [0, 3, 6, 9, 12, 15, 18, 21, 72])
  t.ok(flat.sizes().every((size) => size === 9))
  const next = generator(2)
  const noise = floats(576 * 8, () => next() - 0.5)
  const left = throughTower(methods.mustDrop({ gamma: 0 }), visionSeen({ ...at, vision: { width: 8 }, hidden: noise }))
  t.equal(left.sources.length, 576)
  const small = visionSeen({ ...at, crops: [crop(4, 5)], vision: { width: 1 }, hidden: Array(20).fill(1) })
  t.equal(throughTower(methods.mustDrop({ gamma: 0 }), small).sources.length, 12, 'what fills no window stays')
})

test('dyvte: all patches leave where the last row looks at them no more', async (t) => {
  const seen = (layer: number, attention: number[]) => layerSeen({ layer, rows: 6, droppable: span(1, 4), attention })
  const method = methods.dyvte({ least: 0.1 })
  t.same(method.decide(seen(3, [0.5, 0.05, 0.05, 0.01, 0.1, 0.29])), [], '.11 of its attention')
  t.match(method.decide(seen(3, [0.5, 0.05, 0.03, 0.01, 0.1, 0.31])), [
    { action: 'drop', layer: 3, kept: Int32Array.of(0, 4, 5), positions: 'keep' },
  ])
  t.same(layersOf(method, pictured), [2, 3, 4, 5, 6, 7])
  t.same(layersOf(methods.dyvte({ layer: 3 }), pictured), [3])
  t.equal(entries(methods.dyvte({ layer: 3 }), seen(3, []))[0]?.after, 3)
  t.same(methods.dyvte({ layer: 3 }).decide(layerSeen({ layer: 3, rows: 3, droppable: span(0, 0) })), [])
  const patch = (source: number) => (source === 2 ? { crop: crop(1, 1), row: 0, column: 0 } : undefined)
  const mixed = layerSeen({ layer: 3, rows: 6, droppable: span(1, 4), patch })
  t.same(entries(methods.dyvte({ layer: 3 }), mixed)[0]?.kept, [0, 1, 3, 4, 5], 'text that may go stays')
  t.throws(() => methods.dyvte({ layer: 0 }), { name: 'RangeError' })
})

test('llavolta: eight become one, at the place of the middle', async (t) => {
  const seen = layerSeen({ layer: 2, rows: 580, droppable: span(2, 578), sources: span(100, 680) })
  const [entry] = entries(methods.llavolta(), seen)
  t.match(entry, { action: 'merge', before: 580, after: 76, positions: 'keep' })
  t.same(
    entry?.into?.slice(0, 19),
    [100, 101, ...Array(8).fill(105), ...Array(8).fill(113), 121],
    '102 … 109 have the mean 105.5',
  )
  t.same(methods.llavolta({ stride: 1 }).looks(shape), [])
  const parts = layerSeen({ layer: 2, rows: 9, droppable: Int32Array.of(0, 1, 2, 4, 5, 7) })
  t.same(entries(methods.llavolta({ stride: 2 }), parts)[0]?.into, [0, 0, 2, 3, 4, 4, 6, 7, 8])
})

test('llavolta: pictures apart, newlines as they are', async (t) => {
  const at = (image: number, more: Partial<Crop> = {}) => ({ crop: crop(1, 2, { image, ...more }), row: 0, column: 0 })
  const known = [
    at(0),
    at(0),
    undefined,
    at(0),
    at(1),
    at(1),
    at(2, { kind: 'frame', row: 0 }),
    at(2, { kind: 'frame', row: 1 }),
  ]
  const seen = layerSeen({ layer: 2, rows: 9, droppable: span(0, 8), patch: (source) => known[source] })
  t.same(entries(methods.llavolta({ stride: 4 }), seen)[0]?.into, [1, 1, 2, 1, 4, 4, 6, 7, 8])
})

test('atpLlava: what is looked at, and a sparse grid', async (t) => {
  // 8 patches and two words; all rows give 10 times the mean, of which words give what the question says
  const words = [0.2, 0, 0, 0, 0, 0, 0.1, 0, 0, 0]
  const patches = [0.8, 0.7, 0.06, 0.05, 0, 0, 0, 0, 0, 0]
  const attention = patches.map((sum, i) => (sum + 2 * (words[i] as number)) / 10)
  const given = {
    layer: 2,
    rows: 10,
    droppable: span(0, 8),
    attention,
    question: { asking: [8, 9], attention: [...words, ...words] },
  }
  const kept = (options: object, more: object = {}) =>
    entries(methods.atpLlava({ layers: [2], ...options }), layerSeen({ ...given, ...more }))[0]?.kept
  // (.8 / 8 + .2) / 2 = .15, (.7 / 7) / 2 = .05, .005, .005, 0, 0, .05, 0
  t.same(kept({ redundant: 0.1 }), [0, 1, 6, 8, 9])
  t.same(kept({ redundant: 0.4 }), [0, 8, 9])
  t.same(kept({ redundant: 0.02 }), [0, 1, 2, 3, 6, 8, 9])
  const patch = (source: number) => ({ crop: crop(1, 8), row: 0, column: source })
  t.same(kept({ redundant: 0.4 }, { patch }), [0, 4, 8, 9], 'every fourth has .8125')
  t.same(kept({ redundant: 0.4, spatial: 0.6 }, { patch }), [0, 3, 4, 6, 8, 9], 'every third .67')
  t.same(kept({ redundant: 0.4, spatial: 0.2 }, { patch }), [0, 2, 3, 4, 6, 8, 9], 'every second .25')
  t.same(layersOf(methods.atpLlava()), [4, 14, 24])
  t.same(methods.atpLlava({ redundant: 0 }).looks(wide), [])
})

test('pMod: the ratios of the paper', async (t) => {
  const ratios = `.8445 .8061 .7645 .7202 .6737 .6253 .5757 .5253 .4747 .4243 .3747 .3263 .2798 .2355 .1939 .1555 ${'.15 '.repeat(8)}`
  const wanted = ratios.trim().split(' ').map(Number)
  t.same(layersOf(methods.pMod()), [...span(8, 32)])
  const rows = 10_010
  const attention = Float32Array.from(span(0, rows))
  const at = (layer: number) => {
    const given = { layer, rows, droppable: span(0, 10_000), shape: wide, question: { asking: [rows - 1], attention } }
    return makeSchedule([methods.pMod()], wide).decide(layerSeen(given))[0]?.entry
  }
  const counts = wanted.map((_, i) => (at(8 + i)?.after as number) - 10)
  t.ok(
    counts.every((count, i) => Math.abs(count / 10_000 - (wanted[i] as number)) <= 0.0001),
    `${counts}`,
  )
  const mean = (8 * 10_000 + counts.reduce((sum, count) => sum + count, 0)) / 32 / 10_000
  t.ok(Math.abs(mean - 0.5375) < 2e-4, `${mean} of the cache`)
  const entry = at(20)
  t.match(entry, { action: 'pass', what: 'block', before: rows })
  t.equal(entry?.kept?.[0], 10_000 - (counts[12] as number), 'those that words look at most')
  t.same(methods.pMod({ mean: 1, least: 1 }).looks(wide), [])
})

test('aim: rates of the paper, and who ranks highest', async (t) => {
  const deep = { ...pictured, layers: 32, windows: Array(32).fill(0) }
  const method = methods.aim({ part: 'prune', from: 13 })
  t.same(layersOf(method, deep), [...span(14, 22)], 'the last one has none left')
  const left = span(14, 22).map((layer) => {
    const rank = Array.from({ length: 76 }, (_, i) => (i * 7) % 76)
    const seen = layerSeen({ layer, rows: 76, droppable: span(2, 74), shape: deep, rank })
    return (makeSchedule([method], deep).decide(seen)[0]?.entry.after as number) - 4
  })
  t.same([...left], [63, 54, 45, 36, 27, 18, 9, 0])
  const small = layerSeen({ layer: 5, rows: 6, droppable: span(1, 5), rank: [9, 0.1, 0.4, 0.2, 0.3, 0] })
  t.same(
    entries(methods.aim({ part: 'prune' }), small)[0]?.kept,
    [0, 2, 4, 5],
    'half a quarter of the depth behind the middle',
  )
  t.same(layersOf(methods.aim({ part: 'both', keep: 1 }), deep), [])
  t.same(layersOf(methods.aim(), deep), [])
})
