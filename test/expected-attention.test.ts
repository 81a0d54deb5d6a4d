// Expected attention in the engine, against the oracle's own queries and keys: the scores of queries that stand for those to come are normal, so their mean and variance are enough.
import t from 'tap'
import { type CacheSeen, defineMethod, type Method, methods, type Session } from '../lib/index.js'
import { apart, loadTiny } from './engine.js'
import { randomIds } from './numbers.js'
import { Reference, type Run, type Vector } from './reference-model.js'

const AHEAD = 12
const SKIP = 3
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const dot = (a: Vector, b: Vector) => a.reduce((sum, value, i) => sum + value * (b[i] as number), 0)

/** Keeps what is expected in every layer and head: [layers][kvHeads][rows]. */
function watching(found: Float32Array[][], more: object = {}): Method {
  return defineMethod({
    name: 'watching',
    acts: 'probe',
    looks: { at: 'prompt', needs: [{ what: 'expected', ahead: AHEAD, skip: SKIP }] },
    decide(seen) {
      const { expected, layer, shape } = seen as CacheSeen
      found[layer] = range(0, shape.kvHeads).map((head) => expected(head))
      return null
    },
    ...more,
  })()
}

/** [rows alive]: mean over the group of the softmax over rows from SKIP on of mean + variance / 2 of what the turned queries of `run` give them. */
function foretold(oracle: Reference, run: Run, layer: number, head: number, repack: boolean): number[] {
  const { headSize, heads, kvHeads } = oracle.config
  const rows = oracle.alive(layer, head)
  const rotate = oracle.rotation(layer, oracle.tokens)
  const keys = rows.map((row, slot) => (repack ? rotate(row.key, slot) : row.rotated))
  const from = repack ? rows.length : oracle.tokens
  const asked = [...(run.queries.get(layer) ?? [])].filter(([source]) => source >= SKIP).map(([, all]) => all)
  const mean = rows.map(() => 0)
  for (let g = (head * heads) / kvHeads; g < ((head + 1) * heads) / kvHeads; g++) {
    const turned = asked.map((all) => {
      const ahead = range(from, from + AHEAD).map((position) => rotate(all[g] as Vector, position))
      return (all[g] as Vector).map((_, d) => ahead.reduce((sum, x) => sum + (x[d] as number), 0) / AHEAD)
    })
    const powers = keys.map((key, j) => {
      if ((rows[j]?.source ?? 0) < SKIP) return 0
      const x = turned.map((q) => dot(q, key) / Math.sqrt(headSize))
      const middle = x.reduce((a, b) => a + b) / x.length
      const variance = x.reduce((sum, value) => sum + (value - middle) ** 2, 0) / x.length
      return Math.exp(middle + variance / 2)
    })
    const total = powers.reduce((a, b) => a + b)
    for (const [j, power] of powers.entries()) mean[j] = (mean[j] as number) + (power / total) * (kvHeads / heads)
  }
  return mean
}

async function compare(t: Tap, session: Session, found: Float32Array[][], oracle: Reference, repack: boolean) {
  for (const [call, ids] of [randomIds(50, 1), randomIds(9, 2)].entries()) {
    await session.forward(ids)
    const run = oracle.run(ids)
    for (let layer = 0; layer < oracle.config.layers; layer++) {
      for (let head = 0; head < oracle.config.kvHeads; head++) {
        const ours = found[layer]?.[head] ?? []
        const window = oracle.windowOf(layer)
        const shown = (source: number) => window === 0 || source > oracle.tokens - window
        const all = foretold(oracle, run, layer, head, repack)
        const expected = all.filter((_, j) => shown(oracle.alive(layer, head)[j]?.source ?? 0))
        t.equal(ours.length, expected.length)
        t.ok(apart(ours, expected) < 1e-5, `call ${call}, layer ${layer}, head ${head}: ${apart(ours, expected)}`)
      }
    }
  }
}

type Tap = { ok(value: unknown, said: string): void; equal(a: unknown, b: unknown): void }

for (const architecture of ['llama', 'gemma3'] as const) {
  t.test(`${architecture}: queries like those of the call, at the positions to come`, async (t) => {
    // Rows that a sliding layer has trimmed between the calls are known to the oracle only: all windows hold both calls.
    const { model, tiny } = await loadTiny(
      t,
      { architecture, window: 64, ...(architecture === 'gemma3' && { layers: 6 }) },
      { isa: 'reference' },
    )
    for (const repack of [false, true]) {
      const found: Float32Array[][] = []
      const session = model.session({ kv: 'f32', methods: [watching(found, { repack })] })
      await compare(t, session, found, new Reference(tiny, { repack }), repack)
      await session.close()
    }
  })
}

t.test('the chunks of a long prompt add up', async (t) => {
  const { model } = await loadTiny(t, { context: 2048 }, { isa: 'reference' })
  const found: Float32Array[][] = []
  const session = model.session({ kv: 'f32', methods: [watching(found)] })
  await session.forward(randomIds(1100, 3))
  for (const heads of found) {
    for (const rows of heads) {
      t.equal(rows.length, 1100)
      t.same([...rows.subarray(0, SKIP)], [0, 0, 0])
      t.ok(Math.abs(rows.reduce((a, b) => a + b) - 1) < 1e-4, 'a distribution')
    }
  }
})

t.test('expectedAttention keeps what its scores say, and the sinks', async (t) => {
  const { model } = await loadTiny(t, {}, { isa: 'reference' })
  const session = model.session({
    kv: 'f32',
    trace: true,
    methods: [methods.expectedAttention({ keep: 0.4, future: 20 })],
  })
  await session.forward(randomIds(60, 5))
  t.ok(session.plan.length > 0)
  for (const { keptPerHead = [], scores = [] } of session.plan) {
    for (const [head, kept] of keptPerHead.entries()) {
      t.equal(kept.length, 24)
      t.same(kept.slice(0, 4), [0, 1, 2, 3])
      const worst = Math.min(...kept.slice(4).map((row) => scores[60 * head + row] as number))
      t.equal(scores.slice(60 * head + 4, 60 * head + 60).filter((score) => score > worst).length, 19)
    }
  }
})
