// Rows that pass a layer by and come back, and looks that the engine takes for it: against the oracle.
import t from 'tap'
import { type Decision, defineMethod, type LayerSeen, type Method, methods, type Session } from '../lib/index.js'
import { apart, flat, loadTiny, raised, same } from './engine.js'
import { generator, randomIds } from './numbers.js'
import { Reference, type Run } from './reference-model.js'

const N = 60
const ids = randomIds(N, 31)
const parts = [{ ids: ids.slice(0, 5) }, { ids: ids.slice(5, 50), droppable: true }, { ids: ids.slice(50) }]
const kinds = { llama: {}, gemma3: { architecture: 'gemma3', layers: 6 } } as const
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

type Passing = Pick<Decision & { action: 'pass' }, 'what' | 'kept' | 'weights'>

/** The same rows of one layer, whatever is seen. */
const passing = (layer: number, decision: Passing): Method =>
  defineMethod({
    name: 'passing',
    acts: 'layers',
    looks: { at: 'layer', layer },
    decide: () => ({ action: 'pass', layer, ...decision }),
  })()

const odd = range(0, N).filter((row) => row < 5 || row >= 50 || row % 2 === 1)
const next = generator(8)
const weights = range(0, N).map((row) => (row < 5 || row >= 50 ? 1 : Math.fround(0.8 + 0.4 * next())))

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: rows that pass a layer by`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const cases = {
      'all of it': { pass: odd, what: 'block' },
      'all of it, weighed': { pass: odd, what: 'block', weights },
      'nobody, weighed': { pass: range(0, N), what: 'block', weights },
      'its attention': { pass: [0, 7, 20, 21, 22, 40, 59], what: 'attention' },
    } as const
    for (const [said, cut] of Object.entries(cases)) {
      const method = passing(2, { what: cut.what, kept: cut.pass, ...('weights' in cut && { weights: cut.weights }) })
      const session = model.session({ kv: 'f32', methods: [method] })
      const oracle = new Reference(tiny)
      const logits = await session.forward(parts, { logits: 'all' })
      const expected = flat(oracle.run(ids, { cut: new Map([[2, cut]]) }).logits)
      t.ok(apart(logits, expected) < 2e-4, `${said}: ${apart(logits, expected)}`)
      t.match(session.plan, [{ action: 'pass', layer: 2, before: N, after: cut.pass.length, what: cut.what }])
      const rows = session.stats.kv.layers.map(({ rows }) => rows[0] as number)
      t.ok((rows[2] as number) <= cut.pass.length && (cut.pass.length === N || rows[2] !== rows[3]), `${said}: ${rows}`)
      for (const id of randomIds(4, 5)) {
        const step = await session.forward(Int32Array.of(id))
        const wanted = oracle.run([id]).logits[0] as Float64Array
        t.ok(apart(step, wanted) < 2e-4, `${said}, a step later: ${apart(step, wanted)}`)
      }
      const again = model.session({ kv: 'f32', plan: JSON.parse(JSON.stringify(session.plan)) })
      t.ok(same(await again.forward(parts, { logits: 'all' }), logits), 'the plan given back does the same')
    }
  })
}

t.test('in pieces, in caches of other types, with positions of slots', async (t) => {
  const { model, tiny } = await loadTiny(t, { headSize: 32 })
  const long = randomIds(560, 6)
  const kept = range(0, 560).filter((row) => row % 3 === 0 || row > 550 || (row > 100 && row < 110))
  const prompt = [{ ids: long.slice(0, 559), droppable: true }, { ids: long.slice(559) }]
  for (const what of ['block', 'attention'] as const) {
    const session = model.session({ kv: 'f32', contextLength: 600, methods: [passing(1, { what, kept })] })
    const logits = await session.forward(prompt)
    const run = new Reference(tiny).run(long, { cut: new Map([[1, { pass: kept, what }]]) })
    t.ok(apart(logits, run.logits.at(-1) as Float64Array) < 2e-3, `${what} in two pieces`)
    t.equal(session.stats.prompt.tokens, 560)
    const seen = (560 * tiny.config.layers - (what === 'block' ? 560 - kept.length : 0)) / tiny.config.layers
    t.equal(session.stats.prompt.seen, seen)
    const rounded = async (own: readonly Method[]) => {
      const [a, b] = (['f32', 'f16'] as const).map((kv) => model.session({ kv, contextLength: 600, methods: own }))
      return apart(await (a as Session).forward(prompt), await (b as Session).forward(prompt))
    }
    const [plain, passed] = [await rounded([]), await rounded([passing(1, { what, kept })])]
    t.ok(passed < 4 * plain, `f16 changes ${passed}, without a method ${plain}`)
    const repack = methods.streamingLlm({ keep: { tokens: 500 }, positions: 'repack', every: 0 })
    const slots = model.session({ kv: 'f32', contextLength: 600, methods: [passing(1, { what, kept }), repack] })
    t.ok((await slots.forward(prompt)).every(Number.isFinite))
  }
})

t.test('what does not fit is a sentence, and nothing has happened', async (t) => {
  const { model } = await loadTiny(t)
  const attempt = async (decision: Passing, said: RegExp) => {
    const session = model.session({ methods: [passing(2, decision)] })
    const error = await raised(() => session.forward(parts))
    t.match(error, { code: 'ERR_PLAN', message: said })
    t.equal(session.ids.length, 0)
  }
  await attempt(
    { what: 'block', kept: range(1, N) },
    /row 0 to take part, which is not droppable, but received a plan without it for layer 2/,
  )
  await attempt({ what: 'attention', kept: range(0, N - 1) }, /the last row to take part/)
  await attempt({ what: 'attention', kept: range(0, N), weights }, /weights of all 60 rows, and of a whole layer/)
  await attempt({ what: 'block', kept: odd, weights: weights.slice(1) }, /weights of all 60 rows/)
  await attempt({ what: 'block', kept: odd, weights: weights.map(() => Number.NaN) }, /finite weights/)
  await attempt({ what: 'mlp' as 'block', kept: odd }, /one of attention, block/)
  const both = [methods.fastv({ layer: 2 }), methods.pMod()]
  t.match(await raised(() => model.session({ methods: both })), { code: 'ERR_METHOD_CONFLICT' })
})

/** Shares as they are where scores are divided by a temperature first. */
function sharpened(line: ReadonlyMap<number, number>, temperature: number): [number, number][] {
  const raised = [...line].map(([source, share]) => [source, share ** (1 / temperature)] as [number, number])
  const sum = raised.reduce((all, [, share]) => all + share, 0)
  return raised.map(([source, share]) => [source, share / sum])
}

/** PageRank in plain loops. */
function rankOf(
  run: Run,
  layer: number,
  heads: number,
  [temperature, rounds]: readonly [number, number],
): Float64Array {
  const sums = new Float64Array(N)
  for (let head = 0; head < heads; head++) {
    let rank = new Float64Array(N).fill(1 / N)
    for (let round = 0; round < rounds; round++) {
      const handed = new Float64Array(N)
      for (let i = 0; i < N; i++)
        for (const [j, share] of sharpened(run.attention.get(layer)?.get(i)?.[head] ?? new Map(), temperature))
          handed[j] = (handed[j] as number) + (rank[i] as number) * share
      rank = handed
    }
    for (let i = 0; i < N; i++) sums[i] = (sums[i] as number) + (rank[i] as number) ** 2
  }
  return sums.map((sum) => Math.sqrt(sum / heads))
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: rows are asked, and ranked`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const run = new Reference(tiny).run(ids, { watch: [2] })
    const { heads } = tiny.config
    const seen: LayerSeen[] = []
    const spy = defineMethod({
      name: 'spy',
      acts: 'layers',
      looks: {
        at: 'layer',
        layer: 2,
        needs: [
          { what: 'sampled', newest: 6, others: 9 },
          { what: 'rank', temperature: 0.25, rounds: 3 },
        ],
      },
      decide(now) {
        if (now.at !== 'layer') return null
        now.sampled()
        now.rank()
        seen.push(now)
        return null
      },
    })
    for (let i = 0; i < 2; i++) await model.session({ kv: 'f32', methods: [spy()], reuse: false }).forward(parts)
    const [first, second] = seen as [LayerSeen, LayerSeen]
    const { asking, attention } = first.sampled()
    t.equal(asking.length, 15)
    t.same([...asking.subarray(9)], range(54, 60))
    t.same([...second.sampled().asking], [...asking], 'the same rows by chance')
    const wanted = Float64Array.from({ length: 15 * N }, (_, at) => {
      const lines = run.attention.get(2)?.get(asking[Math.floor(at / N)] as number) ?? []
      return lines.reduce((sum, line) => sum + (line.get(at % N) ?? 0), 0) / heads
    })
    t.ok(apart(attention, wanted) < 1e-5, `${apart(attention, wanted)}`)
    const rank = rankOf(run, 2, heads, [0.25, 3])
    t.ok(apart(first.rank(), rank) < 1e-5, `${apart(first.rank(), rank)}`)
  })
}
