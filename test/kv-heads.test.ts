// Layers and heads that are stored in other ways than the rest: options, text, plans, bytes, budgets, forks and files.
import { join } from 'node:path'
import t from 'tap'
import { type KvTypes, type Model, methods, type Session, type SessionOptions } from '../lib/index.js'
import { type KvGiven, parseKv } from '../lib/kv.js'
import { completeKv, headsOf } from '../lib/kv-heads.js'
import { kvText, parseKvText } from '../lib/kv-text.js'
import { loadTiny, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { randomIds } from './numbers.js'

const ids = randomIds(200, 71)
const more = randomIds(9, 72)
const heads = { layers: 6, kvHeads: 2, headSize: 64 }

t.test('exceptions take the rest from the others, the later one holds', async (t) => {
  const kv = {
    ...{ keys: 'kivi4', values: 'q4_0', recent: 64 },
    except: [
      { layers: [0, 2], keys: 'q8_0' },
      { layers: [-1], keys: 'f16', values: 'f16' },
      { layers: [1, -1], heads: [1], recent: 0 },
    ],
  }
  const { kinds, of } = headsOf(completeKv(parseKv(kv), heads, false), heads)
  t.same([...of], [0, 0, 0, 1, 2, 1, 2, 1, 2, 1, 3, 3])
  t.match(kinds, [
    { keys: 'q8_0', values: 'q4_0', recent: 64 },
    { keys: 'kivi4', values: 'q4_0', recent: 0 },
    { keys: 'kivi4', values: 'q4_0', recent: 64, sinks: 4, rotate: true },
    { keys: 'f16', values: 'f16', rotate: false },
  ])
  const done = completeKv(parseKv(kv), heads, false)
  t.same(
    completeKv(parseKv(JSON.parse(JSON.stringify(done))), heads, false),
    done,
    'complete options are options, JSON too',
  )
  t.same(headsOf(completeKv(parseKv({ except: [{ layers: [0], keys: 'f16' }] }), heads, false), heads).kinds.length, 1)
  const split = {
    keys: 'kivi4',
    values: 'kivi4',
    residual: 64,
    except: [
      { layers: [0, 1], keys: 'f16', values: 'f16' },
      { layers: [1, 2], recent: 32 },
    ],
  }
  const [, second, third] = headsOf(completeKv(parseKv(split), heads, false), heads).kinds
  t.match(
    [second, third],
    [
      { recent: 32, residual: 0 },
      { recent: 0, residual: 64 },
    ],
    'a split of its own replaces the other',
  )
})

t.test('text that command lines take is read back as it was', async (t) => {
  const cases: [string, unknown][] = [
    ['q8_0', { keys: 'q8_0', values: 'q8_0' }],
    ['kivi4/q4_0:recent=64:rotate=false', { keys: 'kivi4', values: 'q4_0', recent: 64, rotate: false }],
    [
      'q4_0@0..2=q8_0@-1..=f16',
      {
        keys: 'q4_0',
        values: 'q4_0',
        except: [
          { layers: [0, 2], keys: 'q8_0', values: 'q8_0' },
          { layers: [-1], keys: 'f16', values: 'f16' },
        ],
      },
    ],
    [
      'q4_0@3=q8_0/@#0+1=:recent=0',
      {
        keys: 'q4_0',
        values: 'q4_0',
        except: [
          { layers: [3, 4], keys: 'q8_0' },
          { heads: [0, 1], recent: 0 },
        ],
      },
    ],
  ]
  for (const [text, kv] of cases) {
    t.same(parseKvText(text), kv, text)
    t.equal(kvText(kv as KvGiven), text)
  }
  for (const text of ['q4', 'a/b/c', 'q4_0@', 'q4_0@x=f16', 'q4_0:recent', 'q4_0:recent=x', 'q4_0@0..2=f16:size=3'])
    t.throws(() => parseKvText(text), { name: 'TypeError' }, text)
})

t.test('misuse is told in a sentence', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const wrong: [unknown, string, RegExp][] = [
    [{}, 'TypeError', /an array .* for `kv.except`/],
    [[{ keys: 'f16' }], 'TypeError', /layers or heads for `kv.except\[0\]`/],
    [[{ layers: [0, 1], size: 3 }], 'TypeError', /\{ layers, heads, keys/],
    [[{ layers: 3 }], 'TypeError', /\[from, to\]/],
    [[{ layers: [0, 1], keys: 'q3' }], 'TypeError', /`kv.except\[0\].keys`/],
    [[{ heads: [] }], 'TypeError', /an array of KV heads/],
    [[{ heads: [9] }], 'RangeError', /KV heads below/],
    [[{ layers: [0, 99] }], 'RangeError', /some of the layers \[0, \d+\]/],
    [[{ layers: [2, 1] }], 'RangeError', /layers/],
    [[{ layers: [0, 1], recent: 32, residual: 32 }], 'RangeError', /not both/],
  ]
  for (const [except, name, message] of wrong)
    t.throws(() => model.session({ kv: { keys: 'kivi4', values: 'kivi4', except } } as SessionOptions), {
      name,
      message,
    })
})

const mixed = {
  keys: 'q4_0',
  values: 'q4_0',
  except: [
    { layers: [0, 1], keys: 'q8_0', values: 'kivi2' },
    { layers: [1], heads: [1], keys: 'f16', values: 'f16' },
  ],
} as const

async function read(model: Model, options: SessionOptions, tokens = ids): Promise<Session> {
  const session = model.session(options)
  await session.forward(tokens, { logits: 'none' })
  return session
}

t.test('bytes of each layer are those of its own types', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const bytes = async (kv: KvTypes) => (await read(model, { kv })).stats.kv.layers.map((layer) => layer.bytes)
  const [own, coarse, first, float] = await Promise.all([
    bytes(mixed),
    bytes('q4_0'),
    bytes({ keys: 'q8_0', values: 'kivi2' }),
    bytes('f16'),
  ])
  t.equal(own[0], first[0])
  t.ok((own[1] ?? 0) > (coarse[1] ?? 0) && (own[1] ?? 0) < (float[1] ?? 0))
  const everywhere = { keys: 'f16', values: 'f16', except: [{ layers: [0], keys: 'q4_0', values: 'q4_0' }] } as const
  t.same(await bytes(everywhere), coarse)
  const outputs = await Promise.all(
    [everywhere, 'q4_0' as const].map(async (kv) => (await read(model, { kv })).forward(more)),
  )
  t.ok(same(outputs[0] as Float32Array, outputs[1] as Float32Array), 'and so is what comes out')
})

t.test('the plan says it and can be given back; forks, saved sessions and prefixes carry it', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const session = await read(model, { kv: mixed, methods: [methods.h2o({ keep: 0.5, every: 0 })] })
  const entries = session.plan.filter(({ action }) => action === 'quantize')
  t.match(entries[0], {
    phase: 'prompt',
    step: 0,
    layer: 0,
    method: 'kv',
    kv: { keys: 'q8_0', values: 'kivi2', sinks: 4 },
  })
  t.match(entries[1], { layer: 1, heads: [0], kv: { keys: 'q4_0' } })
  t.notOk(entries[1]?.heads?.includes(1))
  const plan = JSON.parse(JSON.stringify(session.plan))
  const path = join(scratch(t), 'session.bin')
  await session.save(path)
  const others = [
    await session.fork(),
    await model.restore(path),
    await read(model, { plan }),
    await read(model, { kv: mixed, methods: [methods.h2o({ keep: 0.5, every: 0 })] }),
  ]
  t.equal(others[3]?.stats.prompt.cached, ids.length, 'the same prompt is taken from the first session')
  const expected = await session.forward(more)
  for (const other of others) {
    t.same(other.plan.slice(0, plan.length), plan)
    t.ok(same(await other.forward(more), expected))
  }
  t.match(await raised(() => model.restore(path, { kv: 'q4_0' })), { code: 'ERR_UNSUPPORTED', message: /`kv`/ })
  t.match(await raised(() => model.session({ plan: [{ ...plan[0], layer: 99 }] })), {
    code: 'ERR_PLAN',
    message: /layer 99/,
  })
  t.match(await raised(() => model.session({ plan: [{ ...plan[0], heads: [9] }] })), {
    code: 'ERR_PLAN',
    message: /head 9/,
  })
  t.match(await raised(() => model.session({ plan: [{ ...plan[0], kv: 3 }] })), { name: 'TypeError' })
})

t.test('sessions of several mixes in one batch are each as alone', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const run = (kv: KvTypes) =>
    model.session({ kv, reuse: false }).generate(ids, { maxTokens: 12, ignoreEnd: true, logprobs: true })
  const kvs = [mixed, 'q4_0', 'f16', { keys: 'f16', values: 'q4_0' }] as const
  const together = await Promise.all(kvs.map(run))
  for (const [i, kv] of kvs.entries()) {
    const alone = await run(kv)
    t.same([...(together[i]?.ids ?? [])], [...alone.ids], JSON.stringify(kv))
  }
})

t.test('keep: { bytes } counts rows as each layer stores them', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const { kvHeads, layers } = model.config
  const long = randomIds(900, 73)
  for (const kv of [mixed, 'q4_0', 'f16', 'q8_0'] as const) {
    const full = (await read(model, { kv }, long)).stats.kv.bytes
    const bytes = Math.round(0.6 * full)
    const methodOf = methods.snapkv({ keep: { bytes }, window: 8 })
    const { kv: cut } = (await read(model, { kv, methods: [methodOf] }, long)).stats
    const off = (cut.bytes - bytes) / (layers * kvHeads)
    t.ok(
      Math.abs(off) < 2 * 32 * 32 * 2 + (0.05 * full) / layers / kvHeads,
      `${JSON.stringify(kv)}: within a page a side and tables, ${off} of ${full / layers / kvHeads}`,
    )
  }
})
