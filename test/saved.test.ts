// Saved sessions: they go on bit for bit, whatever they hold; what is damaged, foreign or not what options ask for is refused.
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import t from 'tap'
import { defineMethod, methods, type Session, type SessionOptions } from '../lib/index.js'
import { loadTiny, raised, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { generator, randomIds } from './numbers.js'

const ids = randomIds(70, 41)
const more = randomIds(7, 42)

async function future(session: Session): Promise<{ ids: number[]; logits: Float32Array; plan: object }> {
  const { ids } = await session.generate(more, { maxTokens: 12, ignoreEnd: true })
  return { ids: [...ids], logits: await session.forward(more), plan: session.plan }
}

const cases: Record<string, SessionOptions> = {
  plain: {},
  f32: { kv: 'f32' },
  'bf16 and q8_0': { kv: { keys: 'bf16', values: 'q8_0' } },
  q4_0: { kv: 'q4_0', methods: [methods.h2o({ keep: { tokens: 30 } })] },
  kivi4: { kv: 'kivi4', methods: [methods.snapkv({ keep: 0.5, window: 8 })] },
  kivi2: { kv: 'kivi2' },
  'rolling, repacked': { methods: [methods.streamingLlm({ keep: 0.4 })], contextLength: 200 },
  'ragged heads': { methods: [methods.adaKv({ keep: 0.3 })], trace: true },
  skipped: { methods: [methods.llmDrop({ layers: [1] }), methods.every(3, methods.random({ keep: 0.4, recent: 4 }))] },
  'budgets by layer and head': { methods: [methods.perHead(methods.h2o(), (layer, head) => (layer + 1 + head) / 10)] },
  fine: { arithmetic: 'fine' },
  'skipped heads': { methods: [methods.skipHeads({ heads: [[1, 0]] }), methods.snapkv({ keep: 0.5, window: 8 })] },
  chained: {
    methods: [methods.chain(methods.snapkv({ keep: 0.8 }), methods.onLayers([0, 2], methods.h2o({ keep: 0.5 })))],
  },
  dropped: { methods: [methods.pyramidDrop({ layers: [1, 2], ratios: [0.5, 0.25] })] },
  merged: { methods: [methods.tome({ layers: [1] })] },
}

for (const architecture of ['llama', 'gemma3'] as const) {
  t.test(`${architecture}: a session is saved and restored`, async (t) => {
    const { model } = await loadTiny(t, { architecture, headSize: 32 })
    const folder = scratch(t)
    const parts = [{ ids: ids.slice(0, 60), droppable: true }, { ids: ids.slice(60) }]
    for (const [said, options] of Object.entries(cases)) {
      const session = model.session(options)
      await session.forward(parts, { logits: 'none' })
      const begun = await session.generate(more, { maxTokens: 5, ignoreEnd: true }) // the last token waits
      const path = join(folder, 'session.bin')
      await session.save(path)
      const through = new PassThrough()
      const chunks: Buffer[] = []
      through.on('data', (chunk: Buffer) => chunks.push(chunk))
      await session.save(through)
      t.ok(Buffer.concat(chunks).equals(readFileSync(path)), `${said}: the same bytes`)
      const restored = [await model.restore(path), await model.restore(Readable.from(chunks))]
      const rows = (one: Session) => one.stats.kv.layers.map((layer) => layer.rows)
      for (const one of restored) {
        t.same(one.ids, session.ids)
        t.same(one.plan, session.plan)
        t.same(rows(one), rows(session), `${said}: rows`)
        t.equal(one.contextLength, session.contextLength)
      }
      const expected = await future(session)
      for (const one of restored) {
        const got = await future(one)
        t.same(got.ids, expected.ids, said)
        t.ok(same(got.logits, expected.logits), `${said}: the same bits`)
        t.same(got.plan, expected.plan)
        await one.close()
      }
      t.equal(begun.ids.length, 5)
      await session.close()
    }
    t.same(readdirSync(folder), ['session.bin'], 'nothing else is left')
  })
}

t.test('options override', async (t) => {
  const { model } = await loadTiny(t)
  const path = join(scratch(t), 'session.bin')
  const session = model.session({ methods: [methods.h2o({ keep: { tokens: 30 }, every: 0 })], contextLength: 100 })
  await session.forward(ids, { logits: 'none' })
  await session.save(path)
  const other = await model.restore(path, {
    methods: [methods.snapkv({ keep: { tokens: 10 }, window: 4 })],
    contextLength: 500,
  })
  t.equal(other.contextLength, 500)
  await other.forward(more)
  t.same(new Set(other.stats.kv.layers.flatMap(({ rows }) => rows)), new Set([10]))
  t.same(
    other.plan.map(({ method }) => method),
    [...Array(4).fill('h2o'), ...Array(4).fill('snapkv')],
  )
  const bare = await model.restore(path, { methods: [], contextLength: undefined })
  t.equal(bare.contextLength, 100, 'undefined is no option')
  const refused = async (options: SessionOptions, code: string) =>
    t.equal((await raised(() => model.restore(path, options))).code, code)
  await refused({ kv: 'f32' }, 'ERR_UNSUPPORTED')
  await refused({ methods: [methods.streamingLlm()] }, 'ERR_UNSUPPORTED')
  await refused({ methods: [methods.llmDrop({ layers: [0] })] }, 'ERR_UNSUPPORTED')
  await refused({ contextLength: 20 }, 'ERR_CONTEXT_FULL')
  t.match(await raised(() => model.restore(path, { kw: 1 } as never)), { name: 'TypeError', message: /`options`/ })
  t.match(await raised(() => model.restore(3 as never)), { name: 'TypeError', message: /a path or a Readable/ })
})

t.test('methods of one’s own are named by the options', async (t) => {
  const { model } = await loadTiny(t)
  const path = join(scratch(t), 'session.bin')
  const half = defineMethod({
    name: 'half',
    acts: 'cache',
    looks: { at: 'prompt' },
    options: { pick: (x: number) => x % 2 === 0 },
    decide: (seen, { pick }) => {
      if (seen.at !== 'prompt') return null
      const keptPerHead = [0, 1].map((head) => seen.sources(head).filter((_, place) => pick(place)))
      return { action: 'evict', layer: seen.layer, keptPerHead }
    },
  })
  const session = model.session({ methods: [half()] })
  await session.forward(ids)
  await session.save(path)
  const error = await raised(() => model.restore(path))
  t.match(error, { code: 'ERR_UNSUPPORTED', message: /methods.*half/ })
  const again = await model.restore(path, { methods: [half] })
  t.same((await future(again)).ids, (await future(session)).ids)
})

t.test('what is no saved session of this model', async (t) => {
  const folder = scratch(t)
  const path = join(folder, 'session.bin')
  const { model } = await loadTiny(t)
  const { model: other } = await loadTiny(t, { seed: 5 })
  const session = model.session({ methods: [methods.h2o({ keep: 0.5 })] })
  await session.forward(ids, { logits: 'none' })
  await session.save(path)
  const bytes = readFileSync(path)
  t.match(await raised(() => other.restore(path)), { code: 'ERR_FILE_FORMAT', message: /another/ })
  t.match(await raised(() => model.restore(join(folder, 'none'))), { code: 'ERR_FILE_NOT_FOUND' })
  t.match(await raised(() => model.restore(folder)), { code: 'ERR_FILE_NOT_FOUND' })
  t.match(await raised(() => session.save(join(folder, 'no', 'such', 'folder'))), { code: 'ERR_FILE_NOT_FOUND' })
  t.match(await raised(() => session.save(3 as never)), { name: 'TypeError' })
  const refused = async (content: Buffer, said: string) => {
    writeFileSync(path, content)
    const error = await raised(async () => (await model.restore(path)).close())
    t.equal(error.code, 'ERR_FILE_FORMAT', `${said}: ${error.message}`)
  }
  for (const length of [0, 1, 20, 21, 30, 60, 400, bytes.length - 33, bytes.length - 1])
    await refused(bytes.subarray(0, length), `cut at ${length}`)
  const next = generator(9)
  for (let i = 0; i < 30; i++) {
    const changed = Buffer.from(bytes)
    const at = Math.floor(next() * changed.length)
    changed[at] = (changed[at] as number) ^ (1 << Math.floor(next() * 8))
    await refused(changed, `a bit at ${at}`)
  }
  t.notOk(existsSync(join(folder, 'no')))
  t.ok((await session.forward(more)).every(Number.isFinite), 'the session goes on')
})

t.test('bytes that somebody changed and hashed anew never crash or hang', async (t) => {
  const path = join(scratch(t), 'session.bin')
  const { model } = await loadTiny(t)
  const session = model.session({ methods: [methods.h2o({ keep: 0.5 })] })
  await session.forward(ids, { logits: 'none' })
  await session.save(path)
  const next = generator(10)
  const body = readFileSync(path).subarray(0, -32)
  const json = body.readUInt32LE(21)
  for (let i = 0; i < 300; i++) {
    const changed = Buffer.from(body)
    const from = i % 2 === 0 ? 25 : 25 + json
    const reach = i % 2 === 0 ? json : Math.min(2000, changed.length - from - 1)
    for (let n = 0; n < 2; n++)
      changed[from + Math.floor(next() * reach)] = i % 3 === 0 ? 255 : Math.floor(next() * 256)
    writeFileSync(path, Buffer.concat([changed, createHash('sha256').update(changed).digest()]))
    try {
      const loaded = await model.restore(path)
      await raised(() => loaded.forward(more))
      await loaded.close()
    } catch (error) {
      const { code, name } = error as { code?: string; name: string }
      if (name !== 'TokensieveError' && name !== 'TypeError' && name !== 'RangeError')
        t.fail(`edit ${i}: ${name} ${code} ${error}`)
    }
  }
})
