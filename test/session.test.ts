// Logits, hidden rows, attention and scores of a session against the float64 oracle.
import t from 'tap'
import { kernels, methods } from '../lib/index.js'
import { apart, flat, loadTiny, loadWith, same } from './engine.js'
import type { TinyOptions } from './model-fixture.js'
import { randomIds, roundBrain, roundHalf, roundQ4, roundQ8 } from './numbers.js'
import { logSoftmax, Reference } from './reference-model.js'

const kinds: Record<string, TinyOptions> = {
  llama: {},
  'llama, tied, with biases': { tied: true, biases: true, seed: 2 },
  'llama, linear scaling': { scaling: { type: 'linear', factor: 4 }, heads: 6, kvHeads: 2 },
  'llama, dynamic scaling': { scaling: { type: 'dynamic', factor: 2, original: 16 } },
  'llama, llama3 scaling': { scaling: { type: 'llama3', factor: 8, low: 1, high: 4, original: 64 }, headSize: 32 },
  'llama, q8_0 weights': { type: 'q8_0' },
  gemma3: { architecture: 'gemma3' },
  'gemma3, linear scaling': { architecture: 'gemma3', kvHeads: 2, scaling: { type: 'linear', factor: 2 } },
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: exact with plain loops`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const ids = randomIds(40, 7)
    const oracle = new Reference(tiny)
    const { attention, entered, logits } = oracle.run(ids, { watch: [0, 1, 2, 3] })
    const session = model.session({ kv: 'f32' })
    for (const layer of [0, 2]) {
      const hidden = await session.hidden(ids, { layer })
      t.ok(apart(hidden, flat([...(entered.get(layer)?.values() ?? [])])) < 1e-4, `hidden rows of layer ${layer}`)
    }
    const rows = await session.attention(ids, { layer: 3, rows: [-1, 5] })
    const lines = [39, 5].flatMap((row) => attention.get(3)?.get(row) ?? [])
    t.ok(apart(rows, flat(lines.map((line) => Float64Array.from(ids, (_, s) => line.get(s) ?? 0)))) < 1e-4, 'attention')
    t.equal(session.ids.length, 0)
    t.ok(apart(await session.forward(ids, { logits: 'all' }), flat(logits)) < 1e-4, 'logits of all rows')
    const next = oracle.run(randomIds(1, 8))
    t.ok(apart(await session.forward(randomIds(1, 8)), flat(next.logits)) < 1e-4, 'a decode step')
    const scores = await model.session({ kv: 'f32' }).score(ids)
    t.ok(Number.isNaN(scores[0]))
    const expected = logits.slice(0, -1).map((row, i) => logSoftmax(row)[ids[i + 1] as number] as number)
    t.ok(apart(scores.subarray(1), expected) < 1e-4, 'scores')
  })
}

for (const architecture of ['llama', 'gemma3'] as const) {
  t.test(`${architecture}: prompts around the size of a piece`, async (t) => {
    const { model, tiny } = await loadTiny(t, { architecture, layers: 3 }, { isa: 'reference' })
    const ids = randomIds(603, 3)
    const { logits } = new Reference(tiny).run(ids)
    for (const n of [512, 513]) {
      const session = model.session({ kv: 'f32' })
      t.ok(apart(await session.forward(ids.subarray(0, n)), logits[n - 1] as Float64Array) < 1e-4, `${n} tokens`)
      t.ok(apart(await session.forward(ids.subarray(n, n + 1)), logits[n] as Float64Array) < 1e-4, `one after ${n}`)
      await session.close()
    }
    const pieces = model.session({ kv: 'f32' })
    let at = 0
    for (const n of [1, 7, 513, 1, 3, 70]) {
      const all = await pieces.forward(ids.subarray(at, at + n), { logits: 'all' })
      t.ok(apart(all, flat(logits.slice(at, at + n))) < 1e-4, `tokens from ${at}`)
      at += n
    }
    const scored = model.session({ kv: 'f32' })
    const scores = [await scored.score(ids.subarray(0, 600)), await scored.score(ids.subarray(600, 601))]
    const expected = [...ids.subarray(1, 601)].map((id, i) => logSoftmax(logits[i] as Float64Array)[id] as number)
    t.ok(apart(flat(scores).subarray(1), expected) < 1e-4, 'scores across pieces and calls')
  })
}

t.test('the last layer runs the newest rows alone where others are not asked for, with the same bits', async (t) => {
  for (const architecture of ['llama', 'gemma3'] as const) {
    const { model, tiny } = await loadTiny(t, { architecture, layers: 3, headSize: 32 })
    const { hidden: hiddenSize, layers, vocabulary } = tiny.config
    const ids = randomIds(650, 5)
    const next = ids.subarray(640)
    for (const keys of ['f16', 'q4_0'] as const) {
      for (const n of [16, 17, 40, 600]) {
        const [all, last] = [0, 1].map(() => model.session({ kv: { keys, values: 'q8_0' }, reuse: false }))
        const rows = await all?.forward(ids.subarray(0, n), { logits: 'all' })
        const one = await last?.forward(ids.subarray(0, n))
        t.ok(same(one as Float32Array, (rows as Float32Array).subarray((n - 1) * vocabulary)), `${n} tokens, ${keys}`)
        const after = [await all?.forward(next), await last?.forward(next)]
        t.ok(same(after[0] as Float32Array, after[1] as Float32Array), `what follows ${n} tokens, ${keys}`)
      }
    }
    const hidden = (n: number) => model.session().hidden(ids.subarray(0, n), { layer: layers })
    t.ok(same((await hidden(40)).subarray(0, 20 * hiddenSize), await hidden(20)), 'rows that are looked at have run')
  }
})

t.test('the last layer runs the rows that methods look at, and what they see and leave is the same', async (t) => {
  for (const architecture of ['llama', 'gemma3'] as const) {
    const { model, tiny } = await loadTiny(t, { architecture, layers: 3, headSize: 32 })
    const ids = randomIds(700, 6)
    const lookers = [
      ...[3, 16, 17, 40, 300].map((window) => methods.snapkv({ keep: { tokens: 310 }, window })),
      methods.expectedAttention({ keep: 0.6 }),
      ...(architecture === 'llama' ? [methods.knorm({ keep: 0.6 })] : []), // it warns of keys with a norm
      methods.chain(methods.random({ keep: 0.9, positions: 'repack' }), methods.snapkv({ keep: 0.5 })),
      methods.tova({ keep: 0.6 }),
      methods.h2o({ keep: 0.6 }),
    ]
    for (const method of lookers) {
      for (const n of [20, 530, 690]) {
        const [all, last] = [0, 1].map(() => model.session({ methods: [method], reuse: false, trace: true }))
        const [rows, one] = [
          await all?.forward(ids.subarray(0, n), { logits: 'all' }),
          await last?.forward(ids.subarray(0, n)),
        ] as [Float32Array, Float32Array]
        const name = `${architecture}, ${method.label}, ${n} tokens`
        t.ok(same(one, rows.subarray((n - 1) * tiny.config.vocabulary)), `${name}: what comes next`)
        t.same(last?.plan, all?.plan, `${name}: what goes, by which scores`)
        const after = [await all?.forward(ids.subarray(690)), await last?.forward(ids.subarray(690))]
        t.ok(same(after[0] as Float32Array, after[1] as Float32Array), `${name}: what follows`)
        await Promise.all([all?.close(), last?.close()])
      }
    }
  }
})

// What a cache type leaves of a row, in the oracle too. KIVI's groups are not the oracle's business: it is near, that is all.
const STORED = {
  f32: (x: Float64Array) => x,
  f16: roundHalf,
  bf16: roundBrain,
  q8_0: roundQ8,
  q4_0: roundQ4,
  kivi4: undefined,
  kivi2: undefined,
}

t.test('every instruction set and every type of cache', async (t) => {
  for (const options of [{ headSize: 32 }, { headSize: 32, type: 'q8_0' }, { architecture: 'gemma3' }] as const) {
    const { path, tiny } = await loadTiny(t, options)
    const ids = randomIds(100, 5)
    const exact = new Map(
      Object.entries(STORED).map(([kv, stored]) => [kv, new Reference(tiny, stored && { stored }).run(ids).logits[99]]),
    )
    for (const isa of new Set(kernels.backends().map((backend) => backend.isa))) {
      const model = await loadWith(path, isa)
      for (const kv of Object.keys(STORED) as (keyof typeof STORED)[]) {
        const plain = { keys: kv, values: kv, sinks: 0, recent: 0, rotate: false }
        const session = model.session({ kv: kv === 'q4_0' ? plain : kv })
        await session.forward(ids.subarray(0, 90))
        for (let i = 90; i < 99; i++) await session.forward(ids.subarray(i, i + 1), { logits: 'none' })
        const off = distance(await session.forward(ids.subarray(99)), exact.get(kv) as Float64Array)
        // Int8 activations where weights are quantized; of prompts queries, keys and values too.
        const rounded = isa === 'reference' ? 0 : 'type' in options ? 0.12 : 0.04
        const coarse = { q8_0: 0.01, q4_0: rounded > 0 ? 0.25 : 0.01, kivi4: 0.2, kivi2: 0.8 } as Record<string, number>
        t.ok(off < 0.001 + rounded + (coarse[kv] ?? 0), `${JSON.stringify(options)}, ${isa}, ${kv}: ${off.toFixed(4)}`)
      }
      await model.close()
    }
  }
})

/** Of two vectors, as a share of the second one's length. */
function distance(a: ArrayLike<number>, b: Float64Array): number {
  return Math.hypot(...b.map((x, i) => x - (a[i] as number))) / Math.hypot(...b)
}

t.test('types of cache that need heads of 32 numbers say so', async (t) => {
  const { model } = await loadTiny(t, { headSize: 16 })
  for (const kv of ['q8_0', { keys: 'f16', values: 'q4_0' }, 'kivi4'] as const)
    t.throws(() => model.session({ kv }), { code: 'ERR_UNSUPPORTED', message: /multiple of 32/ })
})
