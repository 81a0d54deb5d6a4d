// What holds for every method of the list, over many caches and prompts.
import { test } from 'tap'
import {
  type CacheSeen,
  type LayerSeen,
  type Method,
  makeSchedule,
  methodFromPlan,
  methods,
  type Schedule,
  type Seen,
} from '../../lib/methods/index.js'
import type { PlanEntry } from '../../lib/plan.js'
import {
  generator,
  keptRows,
  pictured,
  randomCache,
  randomLayer,
  randomVision,
  shape,
  span,
  throughTower,
} from './seen.js'

const cacheMethods = {
  snapkv: (keep: number) => methods.snapkv({ keep, window: 8 }),
  h2o: (keep: number) => methods.h2o({ keep }),
  streamingLlm: (keep: number) => methods.streamingLlm({ keep }),
  tova: (keep: number) => methods.tova({ keep }),
  pyramidKv: (keep: number) => methods.pyramidKv({ keep, beta: 1 }), // a pyramid without a slope: its own test adds up the layers
  adaKv: (keep: number) => methods.adaKv({ keep }),
  chunkKv: (keep: number) => methods.chunkKv({ keep }),
  expectedAttention: (keep: number) => methods.expectedAttention({ keep }),
  ems: (keep: number) => methods.ems({ keep, window: 8 }),
  cam: (keep: number) => methods.cam({ keep }),
  razorAttention: (keep: number) => methods.razorAttention({ keep }),
  contextualMemoryReweaving: (keep: number) => methods.contextualMemoryReweaving({ keep }),
  keyDiff: (keep: number) => methods.keyDiff({ keep }),
  knorm: (keep: number) => methods.knorm({ keep }),
  lagKv: (keep: number) => methods.lagKv({ keep, lag: 16 }),
  random: (keep: number) => methods.random({ keep }),
  recent: (keep: number) => methods.recent({ keep }),
}
const floors = ['random', 'recent', 'grid']
/** Papers that arXiv does not hold, by where they came out. */
const elsewhere: Record<string, string> = { cam: 'ICML 2024' }
const layerMethods = {
  fastv: (keep: number) => methods.fastv({ keep }),
  pyramidDrop: (keep: number) => methods.pyramidDrop({ layers: [2], ratios: [keep] }),
  tome: (keep: number) => methods.tome({ keep, layers: [2] }),
  random: (keep: number) => methods.random({ keep, acts: 'layers' }),
}
const visionMethods = {
  vtcCls: (keep: number) => methods.vtcCls({ keep }),
  visionZip: (keep: number) => methods.visionZip({ keep }),
  divPrune: (keep: number) => methods.divPrune({ keep }),
  fopru: (keep: number) => methods.fopru({ keep }),
  tome: (keep: number) => methods.tome({ keep, acts: 'vision' }),
  pitome: (keep: number) => methods.pitome({ keep }),
  turbo: (keep: number) => methods.turbo({ keep }),
  globalCom2: (keep: number) => methods.globalCom2({ keep }),
  aim: (keep: number) => methods.aim({ keep }),
  vmtcCmai: (keep: number) => methods.vmtcCmai({ keep }),
  clca: (keep: number) => methods.clca({ keep }),
  pvc: (keep: number) => methods.pvc({ keep }),
  quota: (keep: number) => methods.quota({ keep }),
  grid: (keep: number) => methods.grid({ keep }),
  random: (keep: number) => methods.random({ keep, acts: 'vision' }),
}
const frames = { hot: (keep: number) => methods.hot({ keep }) }
const grids = { svitSta: (keep: number) => methods.svitSta({ keep }) }
const byThresholds = {
  tokenCorr: (keep: number) => methods.tokenCorr({ alpha: 2 * keep - 1, least: 1 }),
  tempMe: (keep: number) => methods.tempMe({ within: keep }),
}
const layersOfPictures = {
  sparseVlm: (ratio: number) => methods.sparseVlm({ layers: [2], ratios: [ratio] }),
  mustDrop: (share: number) => methods.mustDrop({ layers: [2], gamma: share / 20, alpha: 1 }),
  llavolta: (share: number) => methods.llavolta({ stride: Math.round(1 / share) }),
  dyvte: () => methods.dyvte({ layer: 2 }),
  atpLlava: (share: number) => methods.atpLlava({ layers: [2], redundant: share }),
  pMod: (mean: number) => methods.pMod({ mean: mean - 0.3 }),
  aimPrune: () => methods.aim({ part: 'prune', from: 1 }),
  zipVlSparse: (tau: number) => methods.zipVl({ tau }),
  zipVlMixed: (tau: number) => methods.zipVl({ tau, lowPrecision: 'kivi2' }),
}
/** What has no budget. */
const unbudgeted = ['llmDrop', 'skipHeads', 'outputAware', 'evenShare', 'zipVl']
const merging = ['tome', 'pitome', 'turbo', 'aim', 'vmtcCmai']

/** Sources that go on as rows of their own. */
function survivors(method: Method, seen: LayerSeen): number[] {
  const [decision] = method.decide(seen)
  if (decision?.action === 'drop') return Array.from(decision.kept)
  if (decision?.action === 'merge') return [...new Set(Array.from(decision.into))].sort((a, b) => a - b)
  return [...seen.sources]
}
const isAscending = (rows: number[]) => rows.every((row, i) => i === 0 || row > (rows[i - 1] as number))

test('every method of the list is under test here', async (t) => {
  const names = methods.list().map(({ name }) => name)
  t.same(
    [
      ...new Set([
        ...Object.keys({
          ...cacheMethods,
          ...layerMethods,
          ...layersOfPictures,
          ...visionMethods,
          ...frames,
          ...grids,
          ...byThresholds,
        }),
        ...unbudgeted,
      ]),
    ].sort(),
    [...names, 'aimPrune', 'zipVlMixed', 'zipVlSparse'].sort(),
  )
  for (const { name, title, paper, options } of methods.list()) {
    t.ok(
      title.length > 10 && (floors.includes(name) || paper === elsewhere[name] || /^\d{4}\.\d{5}$/.test(paper)),
      `${name} has a title and a paper`,
    )
    t.ok(
      Object.values(options).every(({ about }) => about.length > 5),
      `${name} says what its options mean`,
    )
    const method = (methods as unknown as Record<string, () => Method>)[name]?.()
    t.equal(method?.name, name)
    t.ok(Object.isFrozen(method) && Object.isFrozen(method?.options))
    t.same(Object.keys(method?.options ?? {}), Object.keys(options))
    t.doesNotThrow(() => JSON.stringify(options))
  }
})

test('the cache: budgets are exact, rows ascend, the same every time', async (t) => {
  for (const [name, make] of Object.entries(cacheMethods)) {
    for (const tokens of [1, 2, 5, 37, 150, 1000]) {
      for (const keep of [0.01, 0.125, 0.5, 0.77, 1]) {
        const seen = randomCache(tokens, tokens, {}, tokens % 2 === 0)
        const rows = keptRows(make(keep), seen)
        const each = Math.max(1, Math.ceil(keep * tokens - 1e-9))
        const total = rows.reduce((sum, head) => sum + head.length, 0)
        const exact = name === 'adaKv' ? total === 2 * each : rows.every((head) => head.length === each)
        if (!exact || !rows.every(isAscending))
          t.fail(`${name} of ${tokens} at ${keep}: ${rows.map((head) => head.length)} rows`)
        if (JSON.stringify(keptRows(make(keep), seen)) !== JSON.stringify(rows)) t.fail(`${name} is not the same twice`)
      }
    }
    t.pass(name)
  }
})

test('the cache: protected rows survive', async (t) => {
  for (const [name, sinks, recent] of [
    ['snapkv', 0, 8],
    ['h2o', 0, 50],
    ['streamingLlm', 4, 96],
    ['adaKv', 0, 32],
    ['pyramidKv', 0, 32],
    ['chunkKv', 0, 32],
    ['expectedAttention', 4, 0],
    ['ems', 0, 8],
    ['cam', 4, 96],
    ['contextualMemoryReweaving', 0, 32],
    ['razorAttention', 5, 95],
    ['keyDiff', 4, 0],
    ['lagKv', 4, 16],
    ['random', 4, 32],
    ['recent', 4, 96],
  ] as const) {
    for (const rows of keptRows(cacheMethods[name](0.5), randomCache(200, 9))) {
      t.same(rows.slice(0, sinks), [...span(0, sinks)], name)
      t.same(rows.slice(rows.length - recent), [...span(200 - recent, 200)], name)
    }
  }
})

test('equal scores: the lower row stays', async (t) => {
  const flat = {
    ...randomCache(60, 1),
    attention: () => new Float32Array(60),
    columnSums: () => new Float32Array(60),
    keyNorms: () => new Float32Array(60),
    expected: () => new Float32Array(60),
    keys: () => new Float32Array(60 * shape.headSize),
    values: () => new Float32Array(60 * shape.headSize),
  }
  for (const [name, keep, expected] of [
    ['snapkv', 0.5, [...span(0, 22), ...span(52, 60)]],
    ['h2o', 0.5, [...span(0, 15), ...span(45, 60)]],
    ['tova', 0.5, [...span(0, 30)]],
    ['pyramidKv', 0.75, [...span(0, 13), ...span(28, 60)]],
    ['chunkKv', 0.75, [...span(0, 13), ...span(28, 60)]],
    ['expectedAttention', 0.5, [...span(0, 30)]],
    ['keyDiff', 0.5, [...span(0, 30)]],
    ['lagKv', 0.75, [...span(0, 13), ...span(20, 28), ...span(36, 60)]],
  ] as const) {
    for (const rows of keptRows(cacheMethods[name](keep), flat)) t.same(rows, expected, name)
  }
  const prompt = { ...randomLayer(2, 40, span(10, 30), 1), attention: () => new Float32Array(40) }
  for (const name of ['fastv', 'pyramidDrop'] as const)
    t.same(survivors(layerMethods[name](0.5), prompt), [...span(0, 20), ...span(30, 40)], name)
})

test('a share never compounds: a second prompt, a second look', async (t) => {
  for (const [name, make] of Object.entries(cacheMethods)) {
    const method = make(0.5)
    const first = keptRows(method, randomCache(200, 4))
    const sources = first.map((rows) => [...rows, ...span(200, 210)])
    const again = keptRows(method, {
      ...randomCache(210, 5),
      sources: (head) => Int32Array.from(sources[head] as number[]),
      ...observed(sources),
    })
    const total = again.reduce((sum, head) => sum + head.length, 0)
    t.equal(total, 210, `${name}: half of 210 tokens in each head`)
  }
})

function observed(
  sources: number[][],
): Pick<CacheSeen, 'attention' | 'columnSums' | 'expected' | 'keyNorms' | 'keys' | 'values'> {
  const next = generator(3)
  const draw = (wide: number) => {
    const values = sources.map((rows) => Float32Array.from({ length: rows.length * wide }, next))
    return (head: number) => values[head] as Float32Array
  }
  const [rows, lines] = [draw(1), draw(shape.headSize)]
  return { attention: rows, columnSums: rows, expected: rows, keyNorms: rows, keys: lines, values: lines }
}

test('layers: budgets are exact, what no method may touch survives', async (t) => {
  for (const [name, make] of Object.entries(layerMethods)) {
    for (const count of [0, 1, 2, 7, 100, 301]) {
      for (const keep of [0.5, 0.6, 0.99, 1]) {
        const droppable = span(10, 10 + count)
        const seen = randomLayer(2, count + 15, droppable, count, count % 2 === 1)
        const rows = survivors(make(keep), seen)
        const each = name === 'pyramidDrop' ? Math.floor(keep * count + 1e-9) : Math.ceil(keep * count - 1e-9)
        const kept = rows.filter((row) => row >= 10 && row < 10 + count).length
        if (kept !== each || rows.length !== 15 + each || !isAscending(rows))
          t.fail(`${name} of ${count} at ${keep}: ${kept} for ${each}`)
      }
    }
    t.pass(name)
  }
})

test('the tower: budgets are exact, rows ascend, the same every time', async (t) => {
  for (const [name, make] of Object.entries({ ...visionMethods, ...frames })) {
    for (const size of [
      [1, 1, 2],
      [1, 4, 4],
      [3, 3, 5],
      [2, 7, 7],
    ] as const) {
      for (const keep of [0.2, 0.5, 0.77, 0.99]) {
        const patches = size[0] * size[1] * size[2]
        const seen = randomVision(size, patches)
        const left = throughTower(make(keep), seen)
        const whole = name === 'hot' ? patches / size[0] : 1
        const each = Math.ceil(Math.ceil(keep * patches - 1e-9) / whole) * whole
        // Pictures of two patches cannot lose more than one in a block.
        if (left.sources.length !== each || !isAscending([...left.sources]))
          t.fail(`${name} of ${size} at ${keep}: ${left.sources.length} rows for ${each}`)
        const sizes = left.sizes().reduce((sum, one) => sum + one, 0)
        if (merging.includes(name) && sizes !== patches) t.fail(`${name} of ${size} at ${keep}: ${sizes} patches held`)
        if (JSON.stringify([...throughTower(make(keep), seen).sources]) !== JSON.stringify([...left.sources]))
          t.fail(`${name} is not the same twice`)
      }
    }
    t.pass(name)
  }
})

test('keep: 1 never does anything, whatever the method', async (t) => {
  for (const make of [visionMethods, frames, grids].flatMap((all) => Object.values(all))) {
    t.same(make(1).looks(pictured), [], make(1).name)
    t.same(make(0.5).looks(shape), [], 'no tower, nothing to do')
  }
  for (const make of [...Object.values(cacheMethods), ...Object.values(layerMethods)]) {
    const method = make(1)
    t.notOk(makeSchedule([method], shape).repack, `${method.name} renumbers nothing`)
    t.same(method.looks(shape), [], `${method.name} looks nowhere, so that nothing is cut and nothing observed`)
    t.same(method.decide(method.acts === 'cache' ? randomCache(100, 1) : randomLayer(2, 50, span(4, 44), 1)), [])
  }
  for (const method of [
    methods.every(2, methods.snapkv({ keep: 1 })),
    methods.perLayer(methods.h2o(), () => 1),
    methods.llmDrop({ layers: [] }),
    methods.skipHeads(),
  ]) {
    t.same(method.looks(shape), [], method.label)
  }
})

function record(schedule: Schedule, seen: readonly Seen[]): PlanEntry[] {
  return seen.flatMap((one) => schedule.decide(one, { trace: true }).map(({ entry }) => entry))
}

test('plans survive JSON, and given back decide the same', async (t) => {
  const wide = { ...pictured, headSize: 32 } // two bits come in groups of 32
  const makers = [cacheMethods, layerMethods, layersOfPictures, visionMethods, frames, grids, byThresholds].flatMap(
    (all) => Object.values(all),
  )
  for (const make of [...makers, () => methods.llmDrop(), () => methods.skipHeads({ heads: [[2, 1]] })]) {
    const method = make(0.5)
    const { vision } = makeSchedule([method], wide)
    const seen: Seen[] = [
      { at: 'session', shape: pictured },
      ...vision.map((stop) => randomVision([2, 4, 4], 3, stop)),
      randomLayer(2, 50, span(4, 44), 7),
      randomCache(100, 8, { layer: 3 }),
      randomCache(140, 9, { layer: 3, step: 5 }),
    ]
    const plan = record(makeSchedule([method], wide), seen)
    t.ok(plan.length > 0, method.name)
    const text = JSON.stringify(plan)
    t.same(JSON.parse(text), plan)
    const replay = methodFromPlan(JSON.parse(text))
    const again = record(makeSchedule([replay], wide), seen)
    t.same(
      again,
      plan.map(({ scores, ...entry }) => entry),
      `${method.name} again, by its own name`,
    )
    t.equal(replay.repack, method.repack)
  }
})
