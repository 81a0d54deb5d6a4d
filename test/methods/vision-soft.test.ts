// Methods of the tower whose rows are shared, come back or belong to several frames: goldens, worked by hand.
import { test } from 'tap'
import { cellsWithin } from '../../lib/methods/cells.js'
import {
  type Decision,
  defineMethod,
  type Method,
  makeSchedule,
  methodFromPlan,
  methods,
  type VisionSeen,
} from '../../lib/methods/index.js'
import { rowsAfter } from '../../lib/methods/patch-decisions.js'
import { after } from '../../lib/methods/seen.js'
import { superTokens } from '../../lib/methods/super-tokens.js'
import { checkDecision } from '../../lib/plan.js'
import { generator } from '../numbers.js'
import { crop, floats, pictured, randomVision, span, throughTower, visionSeen } from './seen.js'

const near = (a: number, b: number) => Math.abs(a - b) < 1e-4
type Of<A> = Extract<Decision, { action: A }>

test('svitSta: a constant picture comes back as it was, less at its edges', async (t) => {
  const v = [0.5, -1, 2]
  const seen = visionSeen({ crops: [crop(16, 16)], hidden: Array(256).fill(v).flat() })
  const rows = { crop: 0, from: 0, to: 256 }
  const values = { values: seen.hidden(), size: 3, rounds: 1 }
  const back = (edge: 'zeros' | 'open') => {
    const { cells, shares } = superTokens(seen, rows, { height: 4, width: 4 }, { ...values, edge })
    t.equal(cells.length, 16)
    return (place: number) =>
      [0, 1, 2].map((c) =>
        (shares.get(place) ?? []).reduce((sum, { cell, share }) => sum + share * (cells[cell]?.[c] as number), 0),
      )
  }
  const [zeros, open] = [back('zeros'), back('open')]
  for (const [c, corner] of [0.4716, -0.9431, 1.8862].entries()) t.ok(near(zeros(0)[c] as number, corner), 'a corner')
  for (const [c, x] of v.entries()) {
    t.ok(near(zeros(5 * 16 + 5)[c] as number, x), 'inside')
    t.ok(near(open(0)[c] as number, x), 'without rows of zeros a corner too')
  }
  const { cells } = superTokens(seen, rows, { height: 5, width: 7 }, { ...values, edge: 'zeros' })
  t.equal(cells.length, 4 * 3, 'cells that the grid cuts count')
})

test('svitSta: each patch has shares in the cells around it, all of it in those that are there', async (t) => {
  // 2 × 4 patches in two cells of 2 × 2; normed, rows are (1, -1) or (-1, 1).
  const [a, b] = [
    [2, 0],
    [0, 2],
  ]
  const seen = visionSeen({ crops: [crop(2, 4)], hidden: [a, a, b, b, a, b, b, b].flat() })
  const [decision, ...others] = methods.svitSta({ keep: 0.25 }).decide(seen)
  t.same(others, [])
  const { into, weights } = decision as Of<'blendPatches'>
  // Means: cell 0 (1/2, -1/2) of three a and a b, cell 1 (-1, 1). Patch 0: products 1 and -2 over √2, and seven zeros.
  const raised = [Math.exp(1 / Math.SQRT2), Math.exp(-2 / Math.SQRT2)] as const
  const whole = raised[0] + raised[1] + 7
  t.same([into[0], into[1]], [4, 6], 'the patches that stand for the cells')
  t.ok(near(weights[0] as number, raised[0] / whole))
  t.ok(near(weights[1] as number, raised[1] / whole))
  t.same(
    Array.from({ length: 7 }, (_, i) => weights[2 + i]),
    Array(7).fill(0),
  )
  const left = rowsAfter(seen, decision as Of<'blendPatches'>)
  t.same([...left.sources], [4, 6])
  const [one, two] = left.sizes()
  t.ok(near((one as number) + (two as number), 8), 'no patch is lost')
  t.ok((two as number) > (one as number))
  const open = methods.svitSta({ keep: 0.25, edge: 'open' }).decide(seen)[0] as Of<'blendPatches'>
  t.ok(near(open.weights[0] as number, raised[0] / (raised[0] + raised[1])))
})

test('svitSta: as many cells as the budget has room for', async (t) => {
  for (const [count, cells] of [
    [36, [2, 2]],
    [72, [1, 2]],
    [18, [2, 4]],
    [9, [4, 4]],
    [8, [3, 6]],
    [1, [12, 12]],
  ] as const)
    t.same(Object.values(cellsWithin({ rows: 12, columns: 12 }, count)), cells, `${count} of 144`)
  for (const keep of [0.03, 0.2, 0.5, 0.77]) {
    const left = throughTower(methods.svitSta({ keep }), randomVision([3, 4, 5], 5))
    t.ok(left.sources.length <= Math.ceil(keep * 60) && left.sources.length > 0, `${left.sources.length} at ${keep}`)
  }
  const few = throughTower(methods.svitSta({ keep: { tokens: 2 } }), randomVision([3, 4, 5], 5))
  t.equal(few.sources.length, 2, 'the third crop has none')
})

test('pvc: of a film what has changed', async (t) => {
  const frames = [crop(1, 2, { kind: 'frame' }), crop(1, 2, { kind: 'frame', row: 1 })]
  const film = visionSeen({ crops: frames, hidden: [1, 0, 0, 1, 1, 0, 0.6, 0.8] })
  t.same(methods.pvc({ keep: 0.75, cell: 1 }).decide(film), [
    { action: 'mergePatches', layer: 4, into: span(0, 4) },
    { action: 'dropPatches', layer: 4, kept: [0, 1, 3] },
  ])
  const still = methods.pvc({ keep: 0.75, cell: 1, threshold: 0.3 }).decide(film)
  t.same((still[1] as Of<'dropPatches'>).kept, [0, 1], 'a film that stands still')
  // Three frames of 2 × 2 that have room for two rows each: cells of 1 × 2. The second one changes above, the third one nothing more.
  const three = Array.from({ length: 3 }, (_, row) => crop(2, 2, { kind: 'frame', row }))
  const [a, b] = [
    [1, 0],
    [0, 1],
  ]
  const moves = visionSeen({ crops: three, hidden: [a, a, b, b, b, b, b, b, b, b, b, b].flat() })
  const [merged, dropped] = methods.pvc({ keep: 0.5 }).decide(moves) as [Of<'mergePatches'>, Of<'dropPatches'>]
  t.same(Array.from(merged.into), [1, 1, 3, 3, 5, 5, 6, 7, 8, 9, 10, 11])
  t.same(dropped.kept, [1, 3, 5])
})

test('pvc: of a picture first the whole, then what that misses', async (t) => {
  const seen = visionSeen({ crops: [crop(1, 8)], hidden: [9, 2, 1, 0, 5, 5, 5, 6] })
  const rows = (rounds: number) => {
    const [decision, ...more] = methods.pvc({ keep: 0.5, rounds }).decide(seen)
    t.same(more, [], 'every patch is in some row')
    return Array.from((decision as Of<'mergePatches'>).into)
  }
  // Two cells with means 3 and 5¼: 9 and 0 are farthest. Of 2 and 1 the first stands for both.
  t.same(rows(2), [0, 1, 1, 3, 4, 4, 4, 4])
  // One cell with mean 4⅛: 9 and 0; then 4 for those that are left, from which 1 is farthest.
  t.same(rows(3), [0, 4, 2, 3, 4, 4, 4, 4])
})

/** Rows behind every stop, with observations drawn anew at each. */
function counted(method: Method, first: VisionSeen): { at: string; rows: number; clips: number }[] {
  const trace: { at: string; rows: number; clips: number }[] = []
  let state: Pick<VisionSeen, 'sources' | 'joined'> & { sizes: ArrayLike<number> } = { ...first, sizes: first.sizes() }
  const next = generator(5)
  for (const { layer, part } of makeSchedule([method], first.shape).vision) {
    const n = state.sources.length
    const { vision, crops, given } = first
    let seen = visionSeen({
      ...state,
      ...{ vision, crops, given, layer, part },
      seen: { keys: floats(n * vision.headSize, () => next() - 0.5), class: floats(n, next) },
      hidden: floats(n * vision.width, () => next() - 0.5),
    })
    for (const { decision } of makeSchedule([method], first.shape).decide(seen))
      seen = after(seen, decision) as VisionSeen
    state = { sources: seen.sources, joined: seen.joined, sizes: seen.sizes() }
    trace.push({ at: `${part} ${layer}`, rows: seen.sources.length, clips: Math.ceil(crops.length / seen.joined) })
  }
  return trace
}

const wide = (layers: number) => ({ ...pictured, vision: { ...pictured.vision, layers } })

test('tempMe: clips and rows of a film of twelve frames, as published', async (t) => {
  const crops = Array.from({ length: 12 }, (_, row) => crop(7, 7, { kind: 'frame', row }))
  const film = { ...visionSeen({ crops, vision: { layers: 12 } }), shape: wide(12) }
  const trace = counted(methods.tempMe(), film)
  const behind = (layer: number) => trace.find(({ at }) => at === `mlp ${layer}`) as (typeof trace)[number]
  // Behind block 9 the clips of the next block are one already; tokens: patches and class tokens.
  const tokens = [7, 8, 9, 10, 11].map((layer) => behind(layer).rows + 12)
  t.same(tokens, [12 * 34, 6 * 44, 3 * 56, 107, 97])
  t.same(
    [6, 7, 8, 9, 10, 11].map((layer) => behind(layer).clips),
    [12, 6, 3, 1, 1, 1],
  )
})

test('tempMe: frames that say the same merge across', async (t) => {
  const crops = [crop(1, 3, { kind: 'frame' }), crop(1, 3, { kind: 'frame', row: 1 })]
  const [x, y, z] = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ]
  const seen = visionSeen({
    ...{ crops, joined: 2, layer: 2, part: 'attention' },
    hidden: [x, y, z, x, z, y].flat(),
  })
  // Two class tokens: A are the rows 0, 2 and 4. Row 0 is row 3 of the other frame; 2 and 4 are like nothing in B.
  const merged = (across: number) =>
    methods.tempMe({ layers: [2], factors: [2], across }).decide(seen)[0] as Of<'mergePatches'>
  t.same(Array.from(merged(0.125).into), [3, 1, 2, 3, 4, 5], 'an eighth of eight rows')
  t.same(Array.from(merged(0.5).into), [3, 1, 1, 3, 1, 5])
  t.equal(merged(0.5).proportional, true)
  const picture = { ...seen, crops: [crop(1, 3), crop(1, 3)], joined: 1 }
  t.same(methods.tempMe({ layers: [2], factors: [2] }).decide(picture), [], 'pictures have nothing across')
  t.throws(() => methods.tempMe({ layers: [2], factors: [2, 2] }), { name: 'RangeError', message: /1 factors/ })
})

test('clca: rows behind each block, and what comes back', async (t) => {
  const shape = wide(12)
  const seen = { ...visionSeen({ crops: [crop(28, 28)], vision: { layers: 12 } }), shape }
  const trace = counted(methods.clca({ keep: 0.1 }), seen).map(({ at, rows }) => `${at}: ${rows}`)
  // 784 to 79 less the one of block 10, each time by the third root of 78/784: 363, 168 and 78, three of which come back.
  t.same(
    trace.filter((line) => /mlp|attention (4|7|10|11)/.test(line)),
    [
      'mlp 3: 360',
      'attention 4: 363',
      'mlp 6: 165',
      'attention 7: 168',
      'mlp 9: 75',
      'attention 10: 78',
      'attention 11: 79',
    ],
  )
  const off = counted(methods.clca({ keep: 0.1, cache: 'off' }), seen).map(({ at, rows }) => `${at}: ${rows}`)
  t.same(off, ['mlp 3: 365', 'mlp 6: 170', 'mlp 9: 79'])
})

test('clca: what goes becomes one row, by how much it is looked at', async (t) => {
  const seen = visionSeen({
    ...{ crops: [crop(1, 8)], layer: 1, part: 'mlp' },
    seen: { class: [0.3, 0.01, 0.02, 0.3, 0.05, 0.02, 0.1, 0.2] },
  })
  // Of four blocks 1, 2 and 3 drop, each by the third root of a half: 6 rows, one of which comes back and one is for all that go.
  const [decision] = methods.clca({ keep: 0.5 }).decide(seen)
  const { into, weights } = decision as Of<'mergePatches'>
  t.same(Array.from(into), [0, 4, 4, 3, 4, 4, 6, 7])
  t.equal((weights as ArrayLike<number>)[4], Math.fround(0.05))
  const behind = { ...seen, layer: 2, part: 'attention' as const, sources: Int32Array.of(0, 3, 4, 6, 7) }
  t.same(methods.clca({ keep: 0.5 }).decide(behind), [
    { action: 'recallPatches', layer: 2, as: [5] },
    { action: 'carryPatches', layer: 2 },
  ])
})

const pair = [crop(2, 2, { kind: 'frame' }), crop(2, 2, { kind: 'frame', row: 1 })]
const seen = visionSeen({
  crops: pair,
  sources: Int32Array.of(0, 1, 2, 5, 6),
  place: (source) => 20 + source,
  hidden: span(0, 30),
})
test('decisions that do not fit are one sentence', async (t) => {
  const own = [0, 1, 2, 5, 6]
  const wrong: [object, RegExp][] = [
    [{ action: 'blendPatches', into: [0], weights: [1] }, /as many shares for each of 5 rows/],
    [{ action: 'blendPatches', into: own, weights: [1, 1] }, /as many shares/],
    [{ action: 'blendPatches', into: [3, 1, 2, 5, 6], weights: Array(5).fill(1) }, /one of row 0 in 3/],
    [
      { action: 'blendPatches', into: [5, 1, 2, 5, 6], weights: Array(5).fill(1) },
      /shares in rows of the crop .* one of row 0 in 5/,
    ],
    [{ action: 'blendPatches', into: own, weights: [0, 1, 1, 1, 1] }, /a share of every row .* none of row 0/],
    [{ action: 'blendPatches', into: own, weights: [-1, 1, 1, 1, 1] }, /weights from 0 up .* -1/],
    [{ action: 'recallPatches', as: [2] }, /patches that are not there before the projector but received 2/],
    [{ action: 'recallPatches', as: [4, 3] }, /received 3/],
    [{ action: 'recallPatches', as: [8] }, /received 8/],
    [{ action: 'joinCrops', crops: 0 }, /a whole number of crops from 1/],
  ]
  for (const [decision, message] of wrong)
    t.throws(() => checkDecision({ layer: 4, ...decision } as Decision, seen, 'mine'), { code: 'ERR_PLAN', message })
})

const all = [
  { action: 'joinCrops', layer: 4, crops: 2 },
  { action: 'mergePatches', layer: 4, into: [5, 1, 2, 5, 6] },
  { action: 'carryPatches', layer: 4 },
  { action: 'recallPatches', layer: 4, as: [0, 7] },
  {
    action: 'blendPatches',
    layer: 4,
    into: [1, 2, 1, 2, 1, 2, 5, 6, 5, 6, 5, 6].map((x, i) => (i < 4 ? [2, 1, 2, 1][i] : x)),
    weights: Array(12).fill(0.5),
  },
] as Decision[]

test('plans give back what was shared, joined and set aside', async (t) => {
  const mine = defineMethod({
    name: 'mine',
    acts: 'vision',
    looks: { at: 'vision', part: 'projector' },
    decide: () => all,
  })()
  const shape = { ...pictured, vision: seen.vision }
  const record = (method: Method) =>
    makeSchedule([method], shape)
      .decide(seen)
      .map(({ entry }) => entry)
  const plan = record(mine)
  t.same(
    plan.map(({ action, after, as, before, crops, patch }) => ({ action, before, after, as, crops, patch })),
    [
      { action: 'join', before: 5, after: 5, as: undefined, crops: 2, patch: 20 },
      { action: 'merge', before: 5, after: 4, as: undefined, crops: undefined, patch: undefined },
      { action: 'carry', before: 4, after: 4, as: undefined, crops: undefined, patch: 21 },
      { action: 'recall', before: 4, after: 6, as: [20, 27], crops: undefined, patch: undefined },
      { action: 'blend', before: 6, after: 4, as: undefined, crops: undefined, patch: undefined },
    ],
  )
  t.same(record(methodFromPlan(JSON.parse(JSON.stringify(plan)))), plan)
})

test('what is left is seen by the next', async (t) => {
  const left = all.reduce((now, decision) => after(now, decision) as VisionSeen, seen)
  t.same([...left.sources], [1, 2, 5, 6])
  t.equal(left.joined, 2)
  t.same([...left.sizes()], [1, 1, 1.5, 1.5], 'rows that came back stand for no patch')
  const back = after(after(seen, all[2] as Decision), { action: 'recallPatches', layer: 4, as: [3] }) as VisionSeen
  t.same([...back.sources], [0, 1, 2, 3, 5, 6])
  t.same([...back.sizes()], [1, 1, 1, 0, 1, 1])
  t.throws(() => back.seen('cosines', 4), { name: 'TypeError' })
  t.throws(() => (after(seen, all[0] as Decision) as VisionSeen).seen('cosines', 4), { name: 'TypeError' })
  t.same([...back.hidden()].slice(18, 30), [0, 0, 0, 0, 0, 0, 18, 19, 20, 21, 22, 23], 'nobody has seen them yet')
})
