// Caches on a card: whatever happens to their rows there leaves what it leaves on the processor, in every type.
import { join } from 'node:path'
import t from 'tap'
import { distance } from './cards.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'

const { defineMethod, load, methods } = await import('../lib/index.js')
type Lib = typeof import('../lib/index.js')
type Model = Awaited<ReturnType<Lib['load']>>
type Session = ReturnType<Model['session']>
type CacheSeen = import('../lib/index.js').CacheSeen
type Rows = { sources: number[]; keys: Float32Array; values: Float32Array }
type Found = Rows[][][] // [step][layer][head]

const [N, STEPS] = [80, 5]
const prompt = randomIds(N, 71)
const steps = Array.from({ length: STEPS }, (_, i) => randomIds(1, 72 + i))
const TYPES = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'kivi4', 'kivi2'] as const
type Type = (typeof TYPES)[number]
const kvOf = (type: Type) => ({ keys: type, values: type, sinks: 4, recent: 8, rotate: false })

const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ layers: 2, headSize: 32 }))
const [processor, card] = await Promise.all([load(path, { device: 'cpu' }), load(path, { device: 'cuda' })])
t.teardown(() => Promise.all([processor.close(), card.close()]))

/** Which rows stay of each call: many go after the prompt, some of what is packed by then at a step, two at another one. */
const STAYS: Record<number, (i: number, head: number) => boolean> = {
  0: (i, head) => i < 2 || i % 3 !== head,
  2: (i, head) => i % 5 !== 3 + head,
  3: (i, head) => i !== 7 && i !== 20 + head,
}

/** Writes down the rows of a layer, by head. */
function note(found: Found, seen: CacheSeen): Rows[] {
  const heads = Array.from({ length: seen.shape.kvHeads }, (_, head) => head)
  const rows = heads.map((h) => ({ sources: [...seen.sources(h)], keys: seen.keys(h), values: seen.values(h) }))
  found[seen.step] ??= []
  ;(found[seen.step] as Rows[][])[seen.layer] = rows
  return rows
}

/** Writes down the rows that it sees; those that go fold by halves into the one before them, which stays whole. */
function changing(found: Found, keys: boolean) {
  return defineMethod({
    name: 'changing',
    acts: 'cache',
    looks: [{ at: 'prompt' }, { at: 'decode', every: 1 }],
    decide(given) {
      const seen = given as CacheSeen
      const rows = note(found, seen)
      const stays = STAYS[seen.step]
      if (stays === undefined) return null
      const kept = rows.map(({ sources }, head) => sources.filter((_, i) => stays(i, head)))
      const into = (head: number, source: number) => kept[head]?.findLast((s) => s < source) as number
      const gone = rows.map(({ sources }, head) => sources.filter((_, i) => !stays(i, head)))
      const made = gone.map((from, h) => ({ from, into: from.map((s) => into(h, s)), weights: from.map(() => 0.5) }))
      return { action: 'evict', layer: seen.layer, keptPerHead: kept, folds: made, keys }
    },
  })()
}

async function run(session: Session, tokens = N): Promise<void> {
  await session.forward(prompt.subarray(0, tokens), { logits: 'none' })
  for (const ids of steps) await session.forward(ids, { logits: 'none' })
}

/** How far rows of the same tokens are apart; endlessly where the tokens are others. */
function apart(a: Found, b: Found): number {
  let worst = 0
  for (const [step, layers] of b.entries()) {
    for (const [layer, heads] of layers.entries()) {
      for (const [head, rows] of heads.entries()) {
        const own = a[step]?.[layer]?.[head] as Rows
        if (own.sources.join() !== rows.sources.join()) return Number.POSITIVE_INFINITY
        worst = Math.max(worst, distance(own.keys, rows.keys), distance(own.values, rows.values))
      }
    }
  }
  return worst
}

for (const type of TYPES) {
  t.test(`${type}: evicted, folded, settled, forked and saved as on the processor`, async (t) => {
    const found: Found[] = []
    for (const model of [processor, card]) {
      const seen: Found = []
      found.push(seen)
      // Groups of keys share their scales: no row of one is written alone.
      const method = () => changing(seen, !type.startsWith('kivi'))
      const session = model.session({ kv: kvOf(type), methods: [method()] })
      await run(session)
      const path = join(scratch(t), 'session.bin')
      await session.save(path)
      const [fork, restored] = [await session.fork(), await model.restore(path, { methods: [method()] })]
      const next = []
      for (const one of [session, fork, restored]) next.push(await one.forward(randomIds(1, 5)))
      const [own, forked, saved] = next as [Float32Array, Float32Array, Float32Array]
      t.same(forked, own, 'a fork goes on as its origin')
      t.ok(distance(saved, own) < 1e-5, 'what was saved too, but for the order in which its pages are added')
      t.ok(own.every(Number.isFinite))
    }
    const off = apart(found[1] as Found, found[0] as Found)
    t.ok(off < (type === 'kivi2' ? 0.15 : 0.05), `${off.toFixed(4)} apart at most`)
  })

  t.test(`${type}: standing rules`, async (t) => {
    const rows = []
    for (const model of [processor, card]) {
      const rules = [methods.streamingLlm({ keep: { tokens: 24 } }), methods.h2o({ keep: { tokens: 24 } })]
      const sessions = rules.map((rule) => model.session({ kv: kvOf(type), methods: [rule] }))
      await Promise.all(sessions.map((session) => run(session, 40))) // their steps are one batch
      rows.push(sessions.map((session) => session.stats.kv.layers.map((layer) => layer.rows)))
      const fork = await sessions[0]?.fork()
      t.same(await fork?.forward(randomIds(1, 5)), await sessions[0]?.forward(randomIds(1, 5)))
    }
    t.same(rows[1], rows[0], 'as many rows in every head')
  })
}

t.test('what is set aside on a card comes back bit for bit', async (t) => {
  for (const kv of ['f32', 'f16', 'bf16', 'q8_0'] as const) {
    const found: Found = []
    const storing = defineMethod({
      name: 'storing',
      acts: 'cache',
      looks: [{ at: 'prompt' }, { at: 'decode', every: 1 }],
      decide(given) {
        const seen = given as CacheSeen
        note(found, seen)
        if (seen.step > 1) return null
        const heads = Array.from({ length: seen.shape.kvHeads }, (_, head) => head)
        const all = heads.map((h) => [...seen.sources(h), ...seen.stored(h)].sort((a, b) => a - b))
        const half = (odd: number) => all.map((sources) => sources.filter((s) => s % 2 === odd))
        const aside = seen.step === 0 ? half(1) : all.map(() => [])
        return {
          action: 'evict',
          layer: seen.layer,
          keptPerHead: seen.step === 0 ? half(0) : all,
          storedPerHead: aside,
        }
      },
    })
    const session = card.session({ kv, methods: [storing()] })
    await session.forward(prompt, { logits: 'none' })
    for (const ids of steps.slice(0, 2)) await session.forward(ids, { logits: 'none' })
    for (const [layer, heads] of (found[0] as Rows[][]).entries()) {
      for (const [head, { keys, values, sources }] of heads.entries()) {
        const after = found[2]?.[layer]?.[head] as Rows
        t.same(after.sources.slice(0, N), sources)
        t.same([after.keys.slice(0, keys.length), after.values.slice(0, values.length)], [keys, values], kv)
      }
    }
  }
})
