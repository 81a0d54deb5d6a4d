// Methods inside the engine: what they leave is what the oracle computes with the same rows masked.
import t from 'tap'
import {
  type CacheSeen,
  defineMethod,
  type Method,
  methods,
  type PlanEntry,
  type Session,
  type SessionOptions,
} from '../lib/index.js'
import { apart, loadTiny, raised, same } from './engine.js'
import { randomIds } from './numbers.js'
import { type Cut, Reference } from './reference-model.js'

type Test = { ok(value: unknown, said: string): void; same(a: unknown, b: unknown, said: string): void }

const N = 60
const ids = randomIds(N, 21)
const more = randomIds(8, 22)
const [FROM, TO] = [5, 50] // droppable
const parts = [{ ids: ids.slice(0, FROM) }, { ids: ids.slice(FROM, TO), droppable: true }, { ids: ids.slice(TO) }]
const kinds = { llama: {}, gemma3: { architecture: 'gemma3', layers: 6 } } as const
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

/** A method of our own: rows with small keys stay. */
const knorm = defineMethod({
  name: 'knorm',
  acts: 'cache',
  options: { keep: 0.5 },
  looks: { at: 'prompt' },
  decide(seen, _, grant) {
    const { keyNorms, layer, sources } = seen as CacheSeen
    const keptPerHead = range(0, seen.shape.kvHeads).map((head) => {
      const norms = keyNorms(head)
      const order = range(0, norms.length).sort((a, b) => (norms[a] as number) - (norms[b] as number))
      const kept = order.slice(0, grant.rows(seen, head)).map((place) => sources(head)[place] as number)
      return kept.sort((a, b) => a - b)
    })
    return { action: 'evict', layer, keptPerHead }
  },
})

/** The oracle of a session: the same calls, with what the plan says. */
function follow(oracle: Reference, plan: readonly PlanEntry[], step: number, given: ArrayLike<number>) {
  const cut = new Map<number, Cut>()
  for (const { action, into, kept, layer, positions, step: at, what } of plan) {
    if (at !== step) continue
    if (action === 'drop') cut.set(layer, { drop: kept ?? [], repack: positions === 'repack' })
    if (action === 'merge') cut.set(layer, { merge: into ?? [], repack: positions === 'repack' })
    if (action === 'pass') cut.set(layer, { pass: kept ?? [], what: what as 'attention' | 'block' })
  }
  const run = oracle.run(given, { cut })
  for (const { keptPerHead, layer, step: at } of plan)
    if (at === step) keptPerHead?.forEach((kept, head) => void oracle.keep(layer, head, kept))
  return run
}

async function compare(t: Test, session: Session, oracle: Reference, said: string): Promise<void> {
  let step = 0
  for (const given of [parts, more.subarray(0, 1), more.subarray(1, 2), more.subarray(2, 7), more.subarray(7)]) {
    const logits = await session.forward(given)
    const { logits: expected } = follow(oracle, session.plan, step, given === parts ? ids : (given as Int32Array))
    t.ok(apart(logits, expected.at(-1) ?? []) < 2e-4, `${said}, call ${step}: ${apart(logits, expected.at(-1) ?? [])}`)
    step++
  }
  const rows = session.stats.kv.layers.map((layer) => layer.rows)
  const alive = range(0, oracle.config.layers).map((layer) => {
    const window = oracle.windowOf(layer)
    const seen = (source: number) => window === 0 || source > oracle.tokens - window
    return range(0, oracle.config.kvHeads).map(
      (head) => oracle.alive(layer, head).filter((row) => seen(row.source)).length,
    )
  })
  t.same(rows, alive, `${said}: rows that are live`)
}

for (const [name, options] of Object.entries(kinds)) {
  const cases: Record<string, readonly Method[]> = {
    fastv: [methods.fastv({ keep: 0.3 })],
    'fastv, repack': [methods.fastv({ keep: { tokens: 7 }, layer: 1, positions: 'repack' })],
    pyramidDrop: [methods.pyramidDrop({ layers: [1, 2, 3], ratios: [0.6, 0.4, 0.2] })],
    'pyramidDrop, keep': [methods.pyramidDrop({ layers: [1, 3], ratios: [0.6, 0.4], positions: 'keep' })],
    tome: [methods.tome({ layers: [1, 2], keep: 0.5 })],
    'tome, repack': [methods.tome({ layers: [2], keep: 0.7, positions: 'repack' })],
    random: [methods.random({ acts: 'layers', keep: 0.4 })],
    snapkv: [methods.snapkv({ window: 6, keep: { tokens: 20 } })],
    adaKv: [methods.adaKv({ of: methods.snapkv({ window: 6 }), keep: { tokens: 20 } })],
    h2o: [methods.h2o({ keep: 0.4, every: 0 })],
    streamingLlm: [methods.streamingLlm({ keep: { tokens: 20 }, every: 0 })],
    'streamingLlm, keep': [methods.streamingLlm({ keep: { tokens: 20 }, every: 0, positions: 'keep' })],
    knorm: [knorm({ keep: 0.5 })],
    tova: [methods.tova({ keep: { tokens: 20 } })],
    pyramidKv: [methods.pyramidKv({ of: methods.snapkv({ window: 4 }), keep: 0.25 })],
    chunkKv: [methods.chunkKv({ of: methods.h2o(), chunk: 4, keep: 0.5 })],
    keyDiff: [methods.keyDiff({ keep: { tokens: 20 } })],
    lagKv: [methods.lagKv({ lag: 8, keep: 0.5 })],
    'recent, repack': [methods.recent({ keep: 0.3, positions: 'repack' })],
    'every 2': [methods.every(2, knorm({ keep: 0.4 }))],
    'perLayer and perHead': [
      methods.onLayers([0, 2], methods.perLayer(methods.random({ sinks: 1, recent: 2 }), [0.3, 0.9])),
      methods.onLayers(
        [2, 4],
        methods.perHead(knorm({}), (layer, head) => (layer + head) / 6),
      ),
    ],
    chain: [methods.chain(knorm({ keep: 0.7 }), methods.h2o({ keep: 0.3, every: 0 }))],
    'layers and cache': [methods.fastv({ keep: 0.5 }), methods.snapkv({ window: 4, keep: 0.4 })],
    evenShare: [methods.evenShare({ under: 0.9, window: 4, recent: 0.05 })],
    outputAware: [
      methods.pyramidDrop({ layers: [1, 2, 3], ratios: [0.6, 0.4, 0.2], positions: 'keep' }),
      methods.outputAware({ from: 1 }),
    ],
    zipVl: [methods.zipVl({ tau: 0.7, rows: 8, every: 2 })],
    'zipVl, dense': [methods.zipVl({ tau: 0.7, rows: 8, every: 2, prefill: 'dense' })],
    pMod: [methods.pMod({ mean: 0.3 })],
    aim: [methods.aim({ part: 'prune', from: 1, slope: 0.05 })],
    protect: [methods.protect([3, 30, 31, 45], methods.h2o({ keep: { tokens: 12 }, every: 0 }))],
    'layers and cache, repack': [
      methods.pyramidDrop({ layers: [2], ratios: [0.5] }),
      methods.streamingLlm({ keep: 0.3, every: 0 }),
    ],
  }
  t.test(`${name}: what a method leaves`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    for (const [said, own] of Object.entries(cases)) {
      const session = model.session({ kv: 'f32', methods: own })
      const repack = /streamingLlm$|cache, repack|recent, repack/.test(said)
      await compare(t, session, new Reference(tiny, { repack }), said)
      t.ok(session.plan.length > 0, `${said} did something`)
      await session.close()
    }
  })

  t.test(`${name}: skipped layers`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    for (const what of ['attention', 'mlp', 'block'] as const) {
      const session = model.session({ kv: 'f32', methods: [methods.llmDrop({ layers: [1, 3], what })] })
      const skipped = [1, 3]
      const oracle = new Reference(tiny, {
        skipAttention: what === 'mlp' ? [] : skipped,
        skipMlp: what === 'attention' ? [] : skipped,
      })
      await compare(t, session, oracle, what)
      t.same(
        session.plan.map(({ action, layer, what }) => [action, layer, what]),
        skipped.map((layer) => ['skip', layer, what]),
      )
      if (what !== 'mlp') t.match(session.stats.kv.layers[3], { bytes: 0, rows: Array(tiny.config.kvHeads).fill(0) })
    }
  })

  t.test(`${name}: skipped heads`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const group = tiny.config.heads / tiny.config.kvHeads
    const listed: ['kv' | 'query', number[][]][] = [
      [
        'query',
        [
          [3, 0],
          [1, 1],
        ],
      ],
      ['kv', [[1, 0]]],
    ]
    for (const [what, heads] of listed) {
      const session = model.session({ kv: 'f32', methods: [methods.skipHeads({ heads, what })] })
      const all = (head: number) => range(head * group, (head + 1) * group)
      const skipHeads =
        what === 'query' ? heads : heads.flatMap(([layer = 0, head = 0]) => all(head).map((g) => [layer, g]))
      await compare(t, session, new Reference(tiny, { skipHeads }), `${what} heads`)
      t.ok(session.plan.every(({ action, what }) => action === 'skip' && what === 'heads'))
      t.same(
        session.plan.flatMap(({ heads, layer }) => heads?.map((head) => [layer, head])),
        [...skipHeads].sort(([a = 0], [b = 0]) => a - b),
      )
    }
  })

  t.test(`${name}: keep 1 is no method, bit for bit`, async (t) => {
    const { model } = await loadTiny(t, options)
    const result = async (own: readonly Method[], kv: SessionOptions['kv']) => {
      const session = model.session({ methods: own, kv })
      const first = await session.forward(parts, { logits: 'all' })
      const { ids: said } = await session.generate(more, { maxTokens: 20, ignoreEnd: true })
      const all = { first, said: [...said], last: await session.forward(more), plan: session.plan.length }
      await session.close()
      return all
    }
    const make: Record<string, () => Method> = {
      perLayer: () => methods.perLayer(methods.snapkv(), () => 1),
      perHead: () => methods.perHead(methods.h2o(), () => 1),
      onLayers: () => methods.onLayers([0, 2], methods.h2o({ keep: 1 })),
      chain: () => methods.chain(methods.snapkv({ keep: 1 }), methods.streamingLlm({ keep: 1 })),
      every: () => methods.every(2, methods.snapkv({ keep: 1 })),
      pyramidDrop: () => methods.pyramidDrop({ ratios: [1, 1, 1] }),
      llmDrop: () => methods.llmDrop({ layers: [] }),
      'random in layers': () => methods.random({ acts: 'layers', keep: 1 }),
    }
    for (const { name, options } of methods.list())
      if ('keep' in options) make[name] ??= () => methods[name as 'snapkv']({ keep: 1 })
    make.outputAware = () => methods.outputAware()
    make.zipVl = () => methods.zipVl({ tau: 1 })
    make.evenShare = () => methods.evenShare({ under: 0 })
    make.protect = () => methods.protect([1, 7], methods.snapkv({ keep: 1 }))
    for (const kv of ['f16', 'f32'] as const) {
      const expected = await result([], kv)
      for (const [said, method] of Object.entries(make)) {
        const got = await result([method()], kv)
        t.same(got.said, expected.said, said)
        t.ok(same(got.first, expected.first) && same(got.last, expected.last), `${said}, ${kv}`)
        t.equal(got.plan, 0)
      }
    }
  })

  t.test(`${name}: a plan given back`, async (t) => {
    const { model } = await loadTiny(t, options)
    const result = async (given: SessionOptions) => {
      const session = model.session(given)
      const first = await session.forward(parts)
      const { ids: said } = await session.generate(more, { maxTokens: 12, ignoreEnd: true })
      return { first, said: [...said], last: await session.forward(more), plan: session.plan }
    }
    const more_ = {
      rolling: [methods.h2o({ keep: 0.4 })],
      window: [methods.streamingLlm({ keep: 0.4 })],
      skip: [methods.llmDrop({ layers: [2] }), methods.skipHeads({ heads: [[1, 0]] })],
    }
    for (const [said, own] of Object.entries({ ...cases, ...more_ })) {
      const made = await result({ methods: own })
      const again = await result({ plan: JSON.parse(JSON.stringify(made.plan)) as PlanEntry[] })
      t.same(again.said, made.said, said)
      t.ok(same(again.first, made.first) && same(again.last, made.last), `${said}: the same bits`)
      t.same(again.plan, made.plan, `${said}: the same plan`)
      const other = model.session({ plan: made.plan })
      if (said === 'skip' || said === 'rolling' || said === 'window') continue
      const error = await raised(() => other.forward(ids.subarray(0, 30)))
      t.equal(error.code, 'ERR_PLAN', `${said}: ${error.message}`)
      t.equal(other.ids.length, 0)
      t.equal(other.stats.kv.layers[0]?.rows[0], 0, 'as it was')
    }
  })
}

t.test(
  'rows that were dropped have no logits; scores are kept where they are asked for; what was held at most is known',
  async (t) => {
    const { model } = await loadTiny(t)
    const size = model.config.vocabularySize
    const own = [methods.fastv({ layer: 1, keep: 0.2 }), methods.snapkv({ keep: { tokens: 8 }, window: 4 })]
    const session = model.session({ methods: own, trace: true })
    const logits = await session.forward(parts, { logits: 'all' })
    t.equal(logits.length, N * size)
    const [entry, ...evictions] = session.plan
    for (const source of range(0, N)) {
      const row = logits.subarray(source * size, (source + 1) * size)
      const gone = !entry?.kept?.includes(source)
      if (!(gone ? row.every(Number.isNaN) : row.every(Number.isFinite))) t.fail(`row ${source}`)
    }
    t.equal(entry?.scores?.length, TO - FROM, 'of the droppable rows')
    t.same(
      evictions.map(({ before, scores }) => scores?.length === before - 2 * 4), // the window is not scored
      [true, true, true, true],
    )
    const { kv, prompt, time } = session.stats
    t.equal(kv.fullBytes, 4 * N * 2 * 16 * 2 * 2, 'four layers, keys and values of two heads of 16, in f16')
    t.ok(kv.peakBytes > kv.bytes, `${kv.peakBytes} before the eviction, ${kv.bytes} after`)
    t.equal(kv.bytes >= kv.layers.reduce((sum, layer) => sum + layer.bytes, 0), true)
    t.same([prompt.tokens, prompt.seen, prompt.cached], [N, (N + 3 * 24) / 4, 0])
    t.ok(time.prefill > 0 && time.decide > 0 && time.decode === 0 && time.vision === 0)
    const before = session.stats
    const { stats } = await session.generate(more, { maxTokens: 5, ignoreEnd: true })
    t.match(stats, { prompt: { tokens: 8, seen: 8 }, generated: { tokens: 5 } }, 'of the call')
    t.match(session.stats, { prompt: { tokens: N + 8 }, generated: { tokens: 5 } }, 'of the session')
    t.ok(session.stats.time.decode > before.time.decode)
    t.ok(stats.tokensPerSecond.prefill > 0 && stats.tokensPerSecond.decode > 0)
    t.notOk(model.session({ methods: own }).plan.some(({ scores }) => scores))
  },
)
