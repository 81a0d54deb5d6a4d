// Rows that are set aside: they come back bit for bit, go where the session goes, and are memory that is told of.
import { join } from 'node:path'
import t from 'tap'
import { type CacheSeen, type Decision, defineMethod, type Method, methods, type Session } from '../lib/index.js'
import { loadTiny, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { randomIds } from './numbers.js'

const N = 100
const ids = randomIds(N, 61)
const [one, two] = [randomIds(1, 62), randomIds(1, 63)]

type Rows = { sources: Int32Array; keys: Float32Array; values: Float32Array }
type Plan = (sources: Int32Array, stored: Int32Array) => [kept: number[], stored: number[]]

/** Looks at the end of every call; `plans[step]` says what stays and what is set aside. Writes down the rows that it sees, [step][layer][head]. */
function storing(found: Rows[][][], plans: Record<number, Plan>): Method {
  return defineMethod({
    name: 'storing',
    acts: 'cache',
    looks: [{ at: 'prompt' }, { at: 'decode', every: 1 }],
    decide(seen) {
      const { keys, layer, shape, sources, step, stored, values } = seen as CacheSeen
      const heads = Array.from({ length: shape.kvHeads }, (_, head) => head)
      found[step] ??= []
      const rows = heads.map((h) => ({ sources: sources(h), keys: keys(h), values: values(h) }))
      ;(found[step] as Rows[][])[layer] = rows
      const plan = plans[step]
      if (plan === undefined) return null
      const made = heads.map((head) => plan(sources(head), stored(head)))
      const lists = { keptPerHead: made.map(([kept]) => kept), storedPerHead: made.map(([, aside]) => aside) }
      return { action: 'evict', layer, ...lists } as Decision
    },
  })()
}

const half: Plan = (sources) => [[...sources].filter((s) => s % 2 === 0), [...sources].filter((s) => s % 2 === 1)]
const all: Plan = (sources, stored) => [[...sources, ...stored].sort((a, b) => a - b), []]

for (const kv of ['f32', 'f16', 'bf16', 'q8_0'] as const) {
  t.test(`${kv}: half goes, all comes back, through forks and files`, async (t) => {
    const { model } = await loadTiny(t, { headSize: 32 })
    const before: Rows[][][] = []
    const whole = model.session({ kv, methods: [storing(before, {})] })
    await whole.forward(ids, { logits: 'none' })
    const found: Rows[][][] = []
    const method = storing(found, { 0: half, 2: all })
    const session = model.session({ kv, methods: [method] })
    await session.forward(ids, { logits: 'none' })
    t.same(session.stats.kv.layers[1]?.rows, [50, 50])
    const { bytes, storedBytes } = session.stats.kv
    t.ok(storedBytes > 0.4 * whole.stats.kv.bytes && bytes > storedBytes, `${storedBytes} of ${bytes} bytes set aside`)
    const path = join(scratch(t), 'session.bin')
    await session.save(path)
    const restored = await model.restore(path, { methods: [storing(found, { 0: half, 2: all })] })
    t.equal(restored.stats.kv.storedBytes > 0, true, 'saved with the session')
    for (const own of [session, await session.fork(), restored]) {
      found.length = 0
      await own.forward(one, { logits: 'none' })
      await own.forward(two, { logits: 'none' }) // all of it comes back
      await own.forward(one, { logits: 'none' })
      t.same(own.stats.kv.layers[2]?.rows, [N + 3, N + 3])
      t.equal(own.plan.at(-1)?.action, 'restore')
      for (const [layer, heads] of (found[3] as Rows[][]).entries()) {
        for (const [head, rows] of heads.entries()) {
          const old = before[0]?.[layer]?.[head] as Rows
          t.same(rows.sources.subarray(0, N), old.sources)
          const right = (['keys', 'values'] as const).every((side) => same(rows[side].slice(0, N * 32), old[side]))
          if (!right) t.fail(`layer ${layer} head ${head}`)
        }
      }
      await own.close()
    }
  })
}

t.test('a plan given back sets aside and restores; what is truncated is gone from both', async (t) => {
  const { model } = await loadTiny(t)
  const run = async (session: Session) => {
    for (const given of [ids, one, two]) await session.forward(given, { logits: 'none' })
    return session.forward(one)
  }
  const session = model.session({ methods: [storing([], { 0: half, 2: all })] })
  const logits = await run(session)
  const again = model.session({ plan: session.plan })
  t.ok(same(await run(again), logits))
  t.same(again.plan, session.plan)
  const short = model.session({ methods: [storing([], { 0: half, 1: all })] })
  await short.forward(ids, { logits: 'none' })
  short.truncate(31)
  t.same(short.stats.kv.layers[0]?.rows, [16, 16])
  await short.forward(one)
  t.same(short.stats.kv.layers[0]?.rows, [32, 32], 'thirty-one and one')
})

t.test('what does not fit changes nothing', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const cases: [Plan, RegExp][] = [
    [(sources) => [[...sources], [3]], /either to stay or to be set aside but received 3/],
    [(sources) => [[...sources].slice(1), [N + 5]], /rows that are there .* to set aside but received 105/],
    [(sources) => [[...sources].slice(2), [1, 0]], /ascending rows .* received 0 after 1/],
  ]
  for (const [plan, message] of cases) {
    const session = model.session({ methods: [storing([], { 0: plan })] })
    const error = await raised(() => session.forward(ids))
    t.match(error, { code: 'ERR_PLAN', message })
    t.same([session.ids.length, session.stats.kv.storedBytes], [0, 0])
  }
  const mixed = model.session({ kv: 'q4_0', methods: [storing([], { 0: half })] })
  const error = await raised(() => mixed.forward(ids))
  t.match(error, { code: 'ERR_UNSUPPORTED', message: /one type/ })
  t.equal(mixed.ids.length, 0)
  const plain = model.session({
    kv: { keys: 'q4_0', values: 'q4_0', sinks: 0, recent: 0 },
    methods: [storing([], { 0: half })],
  })
  await plain.forward(ids)
  t.ok(plain.stats.kv.storedBytes > 0)
})

t.test('contextualMemoryReweaving: what is like the newest rows comes back with its neighbours', async (t) => {
  const { model } = await loadTiny(t)
  const of = methods.recent()
  const method = methods.contextualMemoryReweaving({
    of,
    keep: { tokens: 20 },
    capture: 0,
    span: 1,
    most: 6,
    window: 2,
  })
  const session = model.session({ methods: [method] })
  const needle = randomIds(6, 77)
  await session.forward(Int32Array.from([...ids.subarray(0, 40), ...needle, ...ids.subarray(46)]), { logits: 'none' })
  t.same(session.stats.kv.layers[0]?.rows, [20, 20])
  t.notOk(session.plan[0]?.keptPerHead?.[0]?.includes(43))
  await session.forward(needle.subarray(2, 4), { logits: 'none' })
  const entry = session.plan.find(({ action, layer }) => action === 'restore' && layer === 0)
  for (const kept of entry?.keptPerHead ?? [])
    t.ok(
      [42, 43].every((row) => kept.includes(row)),
      `${kept}`,
    )
  t.same(session.stats.kv.layers[0]?.rows, [20, 20], 'within the budget')
})
