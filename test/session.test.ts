// Logits, hidden rows, attention and scores of a session against the float64 oracle.
import t from 'tap'
import { apart, flat, loadTiny, raised, same } from './engine.js'
import type { TinyOptions } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { logSoftmax, Reference } from './reference-model.js'

const kinds: Record<string, TinyOptions> = {
  'llama': {},
  'llama, tied, with biases': { tied: true, biases: true, seed: 2 },
  'llama, linear scaling': { scaling: { type: 'linear', factor: 4 }, heads: 6, kvHeads: 2 },
  'llama, dynamic scaling': { scaling: { type: 'dynamic', factor: 2, original: 16 } },
  'llama, llama3 scaling': { scaling: { type: 'llama3', factor: 8, low: 1, high: 4, original: 64 }, headSize: 32 },
  'llama, q8_0 weights': { type: 'q8_0' },
  'gemma3': { architecture: 'gemma3' },
  'gemma3, linear scaling': { architecture: 'gemma3', kvHeads: 2, scaling: { type: 'linear', factor: 2 } },
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: exact with plain loops`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const ids = randomIds(40, 7)
    const oracle = new Reference(tiny)
    const { attention, entered, logits } = oracle.run(ids, { watch: [0, 1, 2, 3] })
    const session = model.session({ kv: 'f32' })
    const hidden = await session.hidden(ids, { layer: 2 })
    t.ok(apart(hidden, flat([...(entered.get(2)?.values() ?? [])])) < 1e-4, 'hidden rows')
    const rows = await session.attention(ids, { layer: 3, rows: [-1, 5] })
    const wanted = [39, 5].flatMap((row) => (attention.get(3)?.get(row) ?? []).map((line) => Float64Array.from(ids, (_, s) => line.get(s) ?? 0)))
    t.ok(apart(rows, flat(wanted)) < 1e-4, 'attention rows')
    t.equal(session.ids.length, 0)
    const all = await session.forward(ids, { logits: 'all' })
    t.ok(apart(all, flat(logits)) < 1e-4, `logits: ${apart(all, flat(logits))}`)
    const more = oracle.run(randomIds(1, 8)).logits
    t.ok(apart(await session.forward(randomIds(1, 8)), flat(more)) < 1e-4, 'a decode step')
    const scores = await model.session({ kv: 'f32' }).score(ids)
    t.ok(Number.isNaN(scores[0]))
    const expected = logits.slice(0, -1).map((row, i) => logSoftmax(row)[ids[i + 1] as number] as number)
    t.ok(apart(scores.subarray(1), expected) < 1e-4, 'scores')
  })
}
void raised
void same
