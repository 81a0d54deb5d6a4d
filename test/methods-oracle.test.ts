// What methods choose, against what the oracle's own attention says they must choose; and rules that native applies by itself.
import t from 'tap'
import { defineMethod, type LayerSeen, type Method, methods, type Seen } from '../lib/index.js'
import { apart, loadTiny, raised, same } from './engine.js'
import { randomIds } from './numbers.js'
import { type CacheRow, Reference, type Run } from './reference-model.js'

const N = 60
const ids = randomIds(N, 31)
const parts = [{ ids: ids.slice(0, 5) }, { ids: ids.slice(5, 50), droppable: true }, { ids: ids.slice(50) }]
const kinds = { llama: {}, gemma3: { architecture: 'gemma3', layers: 6 } } as const
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

/** The k largest, the lower of equals first; ascending. */
function best(candidates: readonly number[], score: (source: number) => number, k: number): number[] {
  const order = [...candidates].sort((a, b) => score(b) - score(a) || a - b)
  return order.slice(0, k).sort((a, b) => a - b)
}

/** Mean over query heads of what the last row gives each source in a layer. */
function lastRow(run: Run, layer: number): (source: number) => number {
  const heads = run.attention.get(layer)?.get(N - 1) ?? []
  return (source) => heads.reduce((sum, line) => sum + (line.get(source) ?? 0), 0) / heads.length
}

function inWindow(oracle: Reference, layer: number): (source: number) => boolean {
  const window = oracle.windowOf(layer)
  return (source) => window === 0 || source > oracle.tokens - window
}

function share(oracle: Reference, layer: number, keep: number): number {
  const window = oracle.windowOf(layer)
  return Math.ceil(keep * (window > 0 ? Math.min(window, oracle.tokens) : oracle.tokens) - 1e-9)
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: tokens dropped between layers`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const fastv = model.session({ kv: 'f32', methods: [methods.fastv({ layer: 3, keep: 0.3 })] })
    await fastv.forward(parts)
    const free = range(5, 50)
    const kept = best(free, lastRow(new Reference(tiny).run(ids, { watch: [2] }), 2), 14)
    const others = [...range(0, 5), ...range(50, N)]
    t.same(
      fastv.plan.map(({ kept }) => kept),
      [[...kept, ...others].sort((a, b) => a - b)],
      'fastv: what layer 2 looks at',
    )
    const ratios = [0.5, 0.25]
    const pyramid = model.session({ kv: 'f32', methods: [methods.pyramidDrop({ layers: [1, 3], ratios })] })
    await pyramid.forward(parts)
    const first = best(free, lastRow(new Reference(tiny).run(ids, { watch: [1] }), 1), Math.floor(45 / 2))
    const all = (some: readonly number[]) => [...some, ...others].sort((a, b) => a - b)
    const cut = new Map([[1, { drop: all(first), repack: true }]])
    const second = best(first, lastRow(new Reference(tiny).run(ids, { cut, watch: [3] }), 3), Math.floor(45 / 4))
    t.same(
      pyramid.plan.map(({ kept }) => kept),
      [all(first), all(second)],
      'pyramidDrop: what the next layer would look at',
    )
    t.match(pyramid.stats.prompt, {
      tokens: N,
      seen: (N + 2 * (15 + 22) + (tiny.config.layers - 3) * (15 + 11)) / tiny.config.layers,
    })
    const rows = pyramid.stats.kv.layers.map(({ rows }) => rows[0])
    const window = (l: number) => new Reference(tiny).windowOf(l) // the next row is the newest of its window
    t.same(
      rows,
      range(0, rows.length).map((l) => Math.min(l < 1 ? N : l < 3 ? 37 : 26, window(l) > 0 ? window(l) - 1 : N)),
    )
  })

  t.test(`${name}: rows evicted after the prompt`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const layers = range(0, tiny.config.layers)
    const oracle = new Reference(tiny)
    const run = oracle.run(ids, { watch: layers })
    const plan = async (method: Method) => {
      const session = model.session({ kv: 'f32', methods: [method] })
      await session.forward(ids)
      return session.plan.filter(({ keptPerHead }) => keptPerHead).map(({ keptPerHead }) => keptPerHead)
    }
    const heads = (choose: (layer: number, head: number) => number[]) =>
      layers.map((layer) => range(0, tiny.config.kvHeads).map((head) => choose(layer, head)))
    const live = (layer: number) => range(0, N).filter(inWindow(oracle, layer))
    t.same(
      await plan(methods.snapkv({ window: 4, kernel: 3, keep: 0.5 })),
      heads((layer, head) => {
        const past = live(layer).slice(0, -4)
        const mass = newestGive(run, oracle, layer, head)
        const pooled = (source: number) =>
          Math.max(...[source - 1, source, source + 1].filter((s) => past.includes(s)).map(mass))
        return [...best(past, pooled, share(oracle, layer, 0.5) - 4), ...live(layer).slice(-4)]
      }),
      'snapkv',
    )
    t.same(
      await plan(methods.h2o({ keep: 0.4, recent: 0.3, every: 0 })),
      heads((layer, head) => {
        const budget = share(oracle, layer, 0.4)
        const recent = Math.ceil(0.3 * budget - 1e-9)
        const mass = new Map(oracle.cache[layer]?.[head]?.map((row) => [row.source, row.mass]))
        const old = live(layer).slice(0, -recent)
        return [...best(old, (source) => mass.get(source) ?? 0, budget - recent), ...live(layer).slice(-recent)]
      }),
      'h2o',
    )
    t.same(
      await plan(methods.streamingLlm({ sinks: 3, keep: { tokens: 9 }, every: 0 })),
      heads((layer) => [...live(layer).slice(0, 3), ...live(layer).slice(-6)]),
      'streamingLlm',
    )
  })

  t.test(`${name}: rules at every decode step`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const { kvHeads, layers } = tiny.config
    for (const [said, { choose, method, repack }] of Object.entries(rules)) {
      const session = model.session({ kv: 'f32', methods: [method] })
      const oracle = new Reference(tiny, { repack })
      await session.forward(ids, { logits: 'none' })
      oracle.run(ids)
      for (const { keptPerHead, layer } of session.plan)
        keptPerHead?.forEach((kept, head) => void oracle.keep(layer, head, kept))
      if (session.plan.every(({ keptPerHead }) => !keptPerHead)) t.fail('nothing evicted')
      for (const id of randomIds(30, 32)) {
        const logits = await session.forward(Int32Array.of(id))
        const expected = oracle.run([id]).logits[0] as Float64Array
        if (apart(logits, expected) > 2e-4) t.fail(`${said}: ${apart(logits, expected)} after ${oracle.tokens}`)
        evictAll(oracle, choose)
      }
      const rows = session.stats.kv.layers.map(({ rows }) => rows)
      const alive = range(0, layers).map((l) => range(0, kvHeads).map((h) => oracle.alive(l, h).length))
      t.same(rows, alive, said)
      t.ok(Math.max(...rows.flat()) <= (said.includes('share') ? 27 : 16), `${said}: within the budget`)
      t.equal(session.plan.filter(({ rule }) => rule).length, layers, 'a rule is written once a layer')
    }
  })
}

/** What the last four rows give each source, over the query heads of a KV head. */
function newestGive(run: Run, { config }: Reference, layer: number, head: number): (source: number) => number {
  const group = config.heads / config.kvHeads
  const lines = range(N - 4, N).flatMap((query) =>
    (run.attention.get(layer)?.get(query) ?? []).slice(head * group, head * group + group),
  )
  return (source) => lines.reduce((sum, line) => sum + (line.get(source) ?? 0), 0)
}

/** The row that goes next, or none. tokens: what the layer may hold. */
type Choose = (rows: readonly CacheRow[], tokens: number) => CacheRow | false | undefined

const fifthBeyond =
  (budget: number): Choose =>
  (rows) =>
    rows.length > budget && rows[4]
const rules: Record<string, { method: Method; repack: boolean; choose: Choose }> = {
  h2o: { method: methods.h2o({ keep: { tokens: 16 } }), repack: false, choose: leastMass(8) },
  'h2o, a share': { method: methods.h2o({ keep: 0.3, recent: 0.25 }), repack: false, choose: leastMass(0.25, 0.3) },
  streamingLlm: { method: methods.streamingLlm({ keep: { tokens: 16 } }), repack: true, choose: fifthBeyond(16) },
  'streamingLlm, keep': {
    method: methods.streamingLlm({ keep: { tokens: 5 }, sinks: 8, positions: 'keep' }),
    repack: false,
    choose: fifthBeyond(5),
  },
}

function evictAll(oracle: Reference, choose: Choose): void {
  const { kvHeads, layers } = oracle.config
  for (const layer of range(0, layers)) {
    const held = Math.min(oracle.windowOf(layer) || oracle.tokens, oracle.tokens)
    for (const head of range(0, kvHeads)) {
      const alive = () => oracle.alive(layer, head).filter((row) => visible(oracle, layer, row))
      for (let gone = choose(alive(), held); gone; gone = choose(alive(), held)) gone.alive = false
      // A sliding layer gives up what lies before its window once the step is done.
      const left = alive().map(({ source }) => source)
      oracle.keep(layer, head, left.filter(inWindow(oracle, layer)))
    }
  }
}

function visible(oracle: Reference, layer: number, { source }: CacheRow): boolean {
  const window = oracle.windowOf(layer)
  return window === 0 || source > oracle.tokens - 1 - window
}

/** What H2O evicts: of all but the newest rows the one with the least mass, of equals the later. */
function leastMass(recent: number, keep = 0): Choose {
  return (rows, tokens) => {
    const budget = keep > 0 ? Math.ceil(keep * tokens - 1e-9) : 16
    if (rows.length <= budget) return false
    const newest = keep > 0 ? Math.ceil(recent * budget - 1e-9) : recent
    return rows.slice(0, -newest).reduce((least, row) => (row.mass <= least.mass ? row : least))
  }
}

t.test('a method of one’s own sees and does what the built-in ones do', async (t) => {
  const { model, tiny } = await loadTiny(t, {}, { isa: 'reference' })
  const run = new Reference(tiny, { skipMlp: [0] }).run(ids, { watch: [1, 2] })
  const seen: Seen[] = []
  const spy = defineMethod({
    name: 'spy',
    acts: 'layers',
    options: { share: 0.5 },
    looks: [
      { at: 'session' },
      { at: 'layer', layer: 2, needs: [{ what: 'attention', rows: 3, of: 'before' }, { what: 'hidden' }] },
      { at: 'layer', layer: 3, needs: [{ what: 'attention', rows: 2, of: 'next' }, { what: 'keys' }] },
      { at: 'prompt', layers: [1], needs: [{ what: 'attention', rows: 2 }, { what: 'columnSums' }] },
      { at: 'decode', every: 2, layers: [1], needs: [{ what: 'columnSums' }] },
    ],
    decide(now, { share }) {
      seen.push(now)
      if (now.at === 'layer') layerChecks(t, now, run)
      if (now.at === 'layer') return { action: 'drop', layer: now.layer, kept: dropOne(now), positions: 'keep' }
      if (now.at === 'session') return { action: 'skip', layer: 0, what: 'mlp' }
      if (now.at === 'vision') return null
      const keptPerHead = [0, 1].map((head) => now.sources(head).slice(Math.floor(now.sources(head).length * share)))
      return { action: 'evict', layer: 1, keptPerHead }
    },
  })
  const session = model.session({ kv: 'f32', methods: [spy({ share: 0.25 })] })
  await session.forward(parts)
  for (const id of [4, 5, 6, 7]) await session.forward(Int32Array.of(id))
  t.same(
    session.plan.map(({ action, layer, phase, step }) => `${action} ${layer} ${phase} ${step}`),
    [
      'skip 0 prompt 0',
      'drop 2 prefill 0',
      'drop 3 prefill 0',
      'evict 1 prefill 0',
      'evict 1 decode 2',
      'evict 1 decode 4',
    ],
  )
  t.throws(() => spy({ shore: 1 } as never), TypeError)
  const again = model.session({ kv: 'f32', plan: session.plan })
  await again.forward(parts)
  for (const id of [4, 5, 6, 7]) await again.forward(Int32Array.of(id))
  t.ok(same(await again.forward(Int32Array.of(8)), await session.forward(Int32Array.of(8))), 'its plan does the same')
})

function dropOne({ droppable, sources }: LayerSeen): Int32Array {
  return sources.filter((_, place) => place !== droppable[0])
}

function layerChecks(
  t: { ok(value: unknown, said: string): void; equal(a: unknown, b: unknown): void },
  now: LayerSeen,
  run: Run,
): void {
  t.equal(now.given, 44 + 1)
  t.equal(now.droppable.length, now.layer === 2 ? 45 : 44)
  const attention = now.attention()
  t.ok(Math.abs(attention.reduce((a, b) => a + b, 0) - 1) < 1e-5, 'probabilities')
  if (now.layer === 3) {
    t.equal(now.keys().length, (N - 1) * now.shape.headSize)
    return
  }
  const rows = run.entered.get(2)
  t.ok(
    apart(
      now.hidden(),
      [...(rows?.values() ?? [])].flatMap((row) => [...row]),
    ) < 1e-4,
    'hidden rows',
  )
  const mean = Float64Array.from(now.sources, (source) => {
    const lines = [N - 3, N - 2, N - 1].flatMap((query) => run.attention.get(1)?.get(query) ?? [])
    return lines.reduce((sum, line) => sum + (line.get(source) ?? 0), 0) / lines.length
  })
  t.ok(apart(attention, mean) < 1e-5, 'attention of the last three rows in the layer before')
}

t.test('decisions that do not fit are refused and nothing is done', async (t) => {
  const { model } = await loadTiny(t)
  const wrong: Record<string, Parameters<typeof defineMethod>[0]['decide']> = {
    'rows that are not there': (seen) => ({
      action: 'evict',
      layer: (seen as { layer: number }).layer,
      keptPerHead: [[0, 99], [0]],
    }),
    'not ascending': (seen) => ({
      action: 'evict',
      layer: (seen as { layer: number }).layer,
      keptPerHead: [[3, 1], [0]],
    }),
    'no row': (seen) => ({ action: 'evict', layer: (seen as { layer: number }).layer, keptPerHead: [[], [0]] }),
    'another layer': () => ({ action: 'evict', layer: 3, keptPerHead: [[0], [0]] }),
    'another action': () => ({ action: 'melt' }) as never,
    'too few heads': (seen) => ({ action: 'evict', layer: (seen as { layer: number }).layer, keptPerHead: [[0]] }),
  }
  for (const [said, decide] of Object.entries(wrong)) {
    const own = defineMethod({ name: 'wrong', acts: 'cache', looks: { at: 'prompt', layers: [0, 2] }, decide })
    const session = model.session({ methods: [own] })
    const error = await raised(() => session.forward(ids))
    t.equal(error.code, 'ERR_PLAN', `${said}: ${error.message}`)
    t.match(error.message, /wrong/)
    t.equal(session.ids.length + (session.stats.kv.layers[0]?.rows[0] ?? 1) + session.stats.prompt.seen, 0)
  }
  const throwing = defineMethod({
    name: 'throwing',
    acts: 'cache',
    looks: { at: 'decode' },
    decide: () => {
      throw new RangeError('mine')
    },
  })
  const session = model.session({ methods: [throwing] })
  await session.forward(ids)
  t.match(await raised(() => session.forward(ids.subarray(0, 1))), { name: 'RangeError', message: 'mine' })
  t.equal(session.ids.length, N)
  await t.rejects(model.session({ methods: [throwing] }).generate(ids, { maxTokens: 3, ignoreEnd: true }), {
    message: 'mine',
  })
})

t.test('two methods that claim the same', async (t) => {
  const { model } = await loadTiny(t)
  const conflict = (own: Parameters<typeof model.session>[0]) =>
    t.throws(() => model.session(own), { code: 'ERR_METHOD_CONFLICT' })
  conflict({ methods: [methods.snapkv(), methods.h2o()] })
  conflict({ methods: [methods.fastv({ layer: 2 }), methods.pyramidDrop({ layers: [2], ratios: [0.5] })] })
  conflict({ methods: [methods.llmDrop({ layers: [1] }), methods.fastv({ layer: 2 })] })
  const both = [
    methods.onLayers([0, 2], methods.snapkv({ keep: 0.5 })),
    methods.onLayers([2, 4], methods.h2o({ keep: 0.2 })),
  ]
  const session = model.session({
    methods: [...both, methods.tome({ layers: [1] }), methods.fastv({ layer: 3, keep: 0.2 })],
  })
  await session.forward(parts)
  t.same(new Set(session.plan.map(({ method }) => method)), new Set(['snapkv', 'h2o', 'tome', 'fastv']))
  const long = methods.llmDrop({ layers: [0, 1, 2, 3] })
  const nothing = model.session({ methods: [long] })
  t.equal(
    (await nothing.generate(ids, { maxTokens: 4, ignoreEnd: true })).stats.kv.bytes < 4096,
    true,
    'no layer holds a cache',
  )
})
