// How a cache is stored: defaults, what misuse is told, what stays in float, and that a rotated cache looks to methods like any other.
import { join } from 'node:path'
import t from 'tap'
import { type CacheSeen, defineMethod, type KvTypes, methods, type SessionOptions } from '../lib/index.js'
import { parseKv } from '../lib/kv.js'
import { completeKv, nativeKv } from '../lib/kv-heads.js'
import type { ModelConfig } from '../lib/native.js'
import { apart, loadTiny, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { randomIds } from './numbers.js'

type Tap = Parameters<typeof loadTiny>[0]

const ids = randomIds(150, 61)
const more = randomIds(9, 62)
const PLAIN = { sinks: 0, recent: 0, rotate: false }

t.test('defaults', async (t) => {
  const heads = (headSize: number) => ({ headSize, layers: 4, kvHeads: 2 }) as ModelConfig
  const of = (given: unknown, size = 64, repack = false) => completeKv(parseKv(given), heads(size), repack)
  const none = { sinks: 0, recent: 0, residual: 0, fresh: 'f16', rotate: false }
  t.same(of(undefined), { keys: 'f16', values: 'f16', ...none })
  t.same(of('q8_0'), { keys: 'q8_0', values: 'q8_0', ...none })
  const some = { sinks: 4, recent: 32, residual: 0, fresh: 'f16', rotate: true }
  t.same(of('q4_0'), { keys: 'q4_0', values: 'q4_0', ...some })
  t.same(of({ keys: 'q8_0', values: 'kivi2' }), { keys: 'q8_0', values: 'kivi2', ...some, rotate: false })
  t.equal(of({ keys: 'kivi4', values: 'q4_0' }).rotate, true)
  t.same(of('q4_0', 96), { keys: 'q4_0', values: 'q4_0', ...some, rotate: false }, 'no power of two')
  t.same(of('q4_0', 64, true), { keys: 'q4_0', values: 'q4_0', ...some, rotate: false }, 're-packed positions')
  t.same(of({ keys: 'q8_0', values: 'q8_0', sinks: 2 }), { keys: 'q8_0', values: 'q8_0', ...none, sinks: 2 })
  t.same(of({ keys: 'kivi2', values: 'kivi2', residual: 128 }).recent, 0, "the paper's own split")
  t.same(of(of('q4_0')), of('q4_0'), 'complete options are options')
  const native = (given: unknown) => nativeKv(of(given), heads(64)).kv[0]
  t.match(native('q4_0'), { hadamardKeys: true, hadamardValues: true })
  const asked = { keys: 'kivi4', values: 'kivi4', rotate: true }
  t.match(native(asked), { hadamardKeys: false, hadamardValues: true }, 'scales of channels stay')
  t.match(native({ keys: 'f16', values: 'q4_0' }), { hadamardKeys: false, hadamardValues: true })
})

t.test('misuse is told in a sentence', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const wrong: [unknown, typeof TypeError | typeof RangeError, RegExp][] = [
    ['q4', TypeError, /Expected one of f32, .* for `kv` but received "?q4/],
    [{ key: 'f16' }, TypeError, /\{ keys, values, sinks, recent, residual, fresh, rotate, except \} for `kv`/],
    [{ values: 'q3' }, TypeError, /for `kv.values`/],
    [{ keys: 'q4_0', sinks: -1 }, RangeError, /a whole number from 0 for `kv.sinks` but received -1/],
    [{ keys: 'q4_0', sinks: 1.5 }, RangeError, /for `kv.sinks`/],
    [{ keys: 'q4_0', recent: '32' }, TypeError, /a number of rows for `kv.recent`/],
    [{ keys: 'kivi4', residual: 40 }, RangeError, /a multiple of 32 for `kv.residual`/],
    [{ keys: 'kivi4', residual: 64, recent: 32 }, RangeError, /`recent` or `residual`, not both/],
    [{ keys: 'q4_0', residual: 64 }, TypeError, /kivi4 or kivi2/],
    [{ keys: 'q4_0', fresh: 'bf16' }, TypeError, /f16 or q8_0 for `kv.fresh` but received/],
    [{ keys: 'q4_0', rotate: 1 }, TypeError, /true or false for `kv.rotate`/],
  ]
  for (const [kv, kind, said] of wrong) t.throws(() => model.session({ kv } as SessionOptions), said, kind.name)
  const repacked = { kv: { keys: 'q4_0', rotate: true }, methods: [methods.streamingLlm({ keep: 0.5 })] } as const
  t.throws(() => model.session(repacked), { code: 'ERR_UNSUPPORTED', message: /kv.rotate.*re-packed/ })
  const { model: odd } = await loadTiny(t, { headSize: 96 })
  t.throws(() => odd.session({ kv: { keys: 'q4_0', rotate: true } }), {
    code: 'ERR_UNSUPPORTED',
    message: /heads of 96/,
  })
  odd.session({ kv: 'q4_0' })
})

/** What a method sees of layer 1, head 0 after a prompt, what comes out of it, and what a probe of it gives. */
async function seenWith(t: Tap, kv: KvTypes): Promise<Record<string, Float32Array>> {
  const { model } = await loadTiny(t, { headSize: 32 }, { isa: 'reference' })
  const found: Record<string, Float32Array> = {}
  const look = defineMethod({
    name: 'look',
    acts: 'probe',
    looks: {
      at: 'prompt',
      needs: [
        { what: 'attention', rows: 4 },
        { what: 'expected', ahead: 8, skip: 0 },
      ],
    },
    decide(seen) {
      const { attention, expected, keyNorms, keys, layer, values } = seen as CacheSeen
      for (const [name, read] of Object.entries({ attention, expected, keyNorms, keys, values }))
        if (layer === 1) found[name] = read(0)
      return null
    },
  })
  const session = model.session({ kv, methods: [look()] })
  found.logits = await session.forward(ids)
  found.probe = await session.attention(more, { layer: 1, rows: [2] })
  found.next = await session.forward(more)
  return found
}

t.test('a rotated cache shows methods and logits what an f16 cache does', async (t) => {
  const float = await seenWith(t, 'f16')
  const turned = await seenWith(t, { keys: 'q4_0', values: 'q4_0', sinks: 1000, rotate: true })
  t.equal(Object.keys(float).length, 8)
  for (const [name, values] of Object.entries(float)) {
    const most = Math.max(...values.map(Math.abs))
    const off = apart(turned[name] ?? [], values)
    t.ok(off > 0 && off < 1e-2 * most, `${name}: ${off} of ${most}`)
  }
})

t.test('rows in float are counted, and forks and saved sessions go on with them', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const odd = { keys: 'q8_0', values: 'kivi2', sinks: 20, recent: 5 } as const
  for (const kv of ['q4_0', 'kivi4', odd, { ...odd, fresh: 'q8_0' }] as const) {
    const session = model.session({ kv, methods: [methods.h2o({ keep: { tokens: 120 } })] })
    await session.forward(ids, { logits: 'none' })
    await session.generate(more, { maxTokens: 40, ignoreEnd: true })
    const path = join(scratch(t), 'session.bin')
    await session.save(path)
    const others = [await session.fork(), await model.restore(path)]
    const expected = await session.forward(more)
    for (const other of others) t.ok(same(await other.forward(more), expected), JSON.stringify(kv))
    const other = { keys: 'q4_0', values: 'q4_0', rotate: false } as const
    t.match(await raised(() => model.restore(path, { kv: other })), { code: 'ERR_UNSUPPORTED', message: /`kv`/ })
  }
})

t.test('bytes: pages of what is quantized, of the sinks and of the newest rows', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const { kvHeads, layers } = model.config
  const pages = { f16: 32 * 32 * 2, q4_0: 32 * (16 + 2), q8_0: 32 * (32 + 2) }
  const bytes = async (kv: KvTypes) => {
    const session = model.session({ kv })
    await session.forward(ids, { logits: 'none' })
    return session.stats.kv.bytes / (2 * layers * kvHeads)
  }
  const tables = 8 * ids.length // sources of rows, and where pages are
  for (const [kv, side] of [
    // 4 sinks (of 16 and 4 places), 92 rows, 54 open ones
    ['q4_0', (16 + 4) * 32 + 3 * pages.q4_0 + 2 * pages.f16],
    [{ keys: 'q4_0', values: 'q4_0', fresh: 'q8_0' }, (16 + 4) * 32 + 3 * pages.q4_0 + 2 * pages.q8_0],
    [{ keys: 'q8_0', values: 'q8_0', sinks: 4, recent: 32, fresh: 'q8_0' }, 5 * pages.q8_0],
    [{ keys: 'q4_0', values: 'q4_0', ...PLAIN }, 5 * pages.q4_0],
    ['q8_0', 5 * pages.q8_0],
  ] as const) {
    const own = await bytes(kv)
    t.ok(own >= side && own < side + tables, `${JSON.stringify(kv)}: ${own} for ${side}`)
  }
})
