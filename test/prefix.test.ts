// Prefix reuse: what others have read is taken, counted and stored once; what a session gives is bit for bit what it gives alone.
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { methods, type Session, type SessionOptions } from '../lib/index.js'
import { native } from '../lib/native.js'
import { pieceEnd } from '../lib/pieces.js'
import { loadTiny, loadWith, raised, same } from './engine.js'
import { scratch, type TinyOptions } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { agree, alone, joined, more, type Outcome, one, outcome, system, two } from './outcome.js'

const models: Record<string, TinyOptions> = {
  llama: { headSize: 32 },
  'llama, quantized': { type: 'q8_0', headSize: 32 },
  gemma3: { architecture: 'gemma3' },
}

for (const [name, kind] of Object.entries(models)) {
  t.test(`${name}: the rows of another session's prompt are taken, bit for bit`, async (t) => {
    const { model } = await loadTiny(t, kind)
    for (const kv of ['f16', 'f32', 'bf16', 'q8_0', 'q4_0'] as const) {
      // Row by row: what stays float until the prompt is read cannot be taken once it is quantized.
      const options = { kv: { keys: kv, values: kv, sinks: 0, recent: 0 } }
      const [first, second] = [await alone(model, options, one), await alone(model, options, two)]
      const giver = model.session(options)
      agree(t, await outcome(giver, one), first, `${kv}, the giver`)
      const taker = model.session(options)
      const logits = await taker.forward(two)
      t.match(taker.stats.prompt, { tokens: 130, seen: 30, cached: 100 }, kv)
      t.ok(same(logits, second.logits), `${kv}: logits`)
      await taker.reset()
      t.equal(taker.stats.prompt.cached, 0, 'forgotten')
      agree(t, await outcome(taker, two), second, `${kv}, the taker`)
      t.equal(taker.stats.prompt.cached, 100)
      await giver.close()
      const third = model.session(options)
      agree(t, await outcome(third, two), second, `${kv}, from the taker`)
      t.equal(third.stats.prompt.cached, 125, 'all but those that keep the path of prompts')
      await Promise.all([taker.close(), third.close()])
    }
  })
}

t.test('where a prompt is cut does not depend on what was there before it', async (t) => {
  for (const rows of [5, 511, 512, 513, 516, 517, 1024, 1027, 1029, 1700]) {
    const ends = [0]
    for (let begin = 0; begin < rows; begin = ends.at(-1) as number) ends.push(pieceEnd(begin, rows))
    for (const [i, end] of ends.entries())
      if (i > 0) t.ok(end - (ends[i - 1] as number) >= 5 && end - (ends[i - 1] as number) <= 512, `${rows}: ${ends}`)
    t.equal(ends.at(-1), rows)
    for (let begin = 0; begin < rows; begin++) t.ok(ends.includes(pieceEnd(begin, rows)), `${rows} from ${begin}`)
  }
  const { model } = await loadTiny(t, { headSize: 32, layers: 2 })
  const long = randomIds(1100, 30)
  for (const rows of [515, 530, 1026]) {
    for (const shared of [100, 507, 509, 512, 513]) {
      const prompt = joined(long.subarray(0, shared), randomIds(rows - shared, 31))
      for (const options of [{}, { methods: [methods.snapkv({ keep: 0.2 })] }]) {
        const expected = await alone(model, options, prompt)
        const giver = model.session()
        await giver.forward(long.subarray(0, shared), { logits: 'none' })
        const taker = model.session(options)
        agree(t, await outcome(taker, prompt), expected, `${shared} of ${rows}`)
        t.ok(taker.stats.prompt.cached > 90 && taker.stats.prompt.cached <= shared, `${shared} of ${rows}`)
        await Promise.all([giver.close(), taker.close()])
      }
    }
  }
})

t.test('only rows that a prompt computed, with all before them, are taken', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const cached = async (fill: (giver: Session) => Promise<unknown>, options: SessionOptions = {}, from = options) => {
    const giver = model.session(from)
    await fill(giver)
    const taker = model.session(options)
    const ids = joined(giver.ids, randomIds(8, 40))
    agree(t, await outcome(taker, ids), await alone(model, options, ids), JSON.stringify(options))
    const { cached } = taker.stats.prompt
    await Promise.all([giver.close(), taker.close()])
    return cached
  }
  const read = (giver: Session) => giver.forward(system)
  t.equal(await cached(read), 100)
  t.equal(await cached((giver) => giver.generate(system, { maxTokens: 20, ignoreEnd: true })), 100, 'not decode steps')
  t.equal(await cached((giver) => giver.generate(system, { maxTokens: 1 }).then(() => giver.forward(more))), 110)
  t.equal(await cached((giver) => read(giver).then(() => giver.forward(more.subarray(0, 3)))), 100, 'nor short calls')
  t.equal(await cached((giver) => read(giver).then(() => giver.truncate(60))), 60)
  t.equal(await cached((giver) => read(giver).then(() => giver.reset())), 0)
  t.equal(await cached((giver) => read(giver), { kv: 'f32' }, {}), 0, 'another type')
  t.equal(await cached(read, { methods: [methods.llmDrop({ layers: [1] })] }, {}), 0, 'a skipped sub-layer')
  t.equal(await cached(read, { methods: [methods.llmDrop({ layers: [1] })] }), 100)
  t.equal(await cached(read, { arithmetic: 'fine' }, {}), 0, 'another arithmetic')
  t.equal(await cached(read, { arithmetic: 'fine' }), 100)
  const dormant = { methods: [methods.skipHeads({ heads: [[1, 0]] })] }
  t.equal(await cached(read, dormant, {}), 0, 'skipped heads')
  t.equal(await cached(read, dormant), 100)
  t.equal(await cached(read, {}, { methods: [methods.knorm()] }), 0, 'norms are of keys as they come')
  t.equal(await cached(read, { methods: [methods.streamingLlm()] }, {}), 0, 'keys that are not rotated')
  t.equal(await cached(read, {}, { methods: [methods.snapkv({ keep: 0.5 })] }), 0, 'rows that went')
  const float = { kv: { keys: 'kivi4', values: 'q4_0', recent: 128 } } as const
  t.equal(await cached(read, float), 100, 'while they are float')
  t.equal(await cached(read, { kv: 'q4_0' }), 0, 'quantized when their prompt was read')
  t.equal(await cached(read, { kv: { ...float.kv, recent: 96 } }, float), 0, 'quantized otherwise')
  t.equal(await cached((giver) => giver.forward(system.subarray(0, 12))), 0, 'too few')
  t.equal(await cached(read, { reuse: false }, {}), 0)
  t.equal(await cached(read, {}, { reuse: false }), 0)
  const { model: dynamic } = await loadTiny(t, { scaling: { type: 'dynamic', factor: 4, original: 16 }, headSize: 32 })
  const giver = dynamic.session()
  await giver.forward(one)
  const taker = dynamic.session()
  agree(t, await outcome(taker, two), await alone(dynamic, {}, two), 'angles by the length')
  t.equal(taker.stats.prompt.cached, 0)
  t.throws(() => model.session({ reuse: 1 } as never), { name: 'TypeError', message: /`reuse`/ })
})

t.test('who wants something of every row computes it', async (t) => {
  const { model } = await loadTiny(t)
  const giver = model.session()
  const [all, scores] = [await giver.forward(one, { logits: 'all' }), await model.session().score(two)]
  const taker = model.session()
  t.ok(same(await taker.forward(one, { logits: 'all' }), all))
  const scorer = model.session()
  t.ok(same(await scorer.score(two), scores))
  t.equal(taker.stats.prompt.cached + scorer.stats.prompt.cached, 0)
})

t.test('givers that go on, roll, go back or close change nothing for takers', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const expected = await alone(model, {}, two)
  const after: ((giver: Session) => Promise<unknown>)[] = [
    (giver) => giver.generate(more, { maxTokens: 50, ignoreEnd: true }),
    async (giver) => giver.truncate(17),
    (giver) => giver.reset(),
    (giver) => giver.close(),
    async (giver) => {
      await giver.truncate(90)
      await giver.forward(randomIds(200, 3))
    },
  ]
  for (const [i, change] of after.entries()) {
    const giver = model.session()
    await giver.forward(one)
    const takers = [model.session(), model.session()]
    const [logits] = await Promise.all(takers.map((taker) => taker.forward(two)))
    t.ok(same(logits as Float32Array, expected.logits))
    await change(giver)
    await (takers[1] as Session).truncate(20)
    await (takers[1] as Session).forward(randomIds(60, 5))
    const { ids } = await (takers[0] as Session).generate(more, {
      maxTokens: 7,
      ignoreEnd: true,
      temperature: 1,
      seed: 3,
    })
    t.same([...ids], expected.ids, `change ${i}`)
    t.ok(same(await (takers[0] as Session).forward(more), expected.later), `change ${i}: later`)
    await Promise.all([giver, ...takers].map((session) => session.close()))
  }
})

t.test('rows are taken while their giver decodes', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const expected = await alone(model, {}, two)
  const giver = model.session()
  const beside = giver.stream(one, { maxTokens: 300, ignoreEnd: true })
  const said: number[] = []
  let taking: Promise<void> | undefined
  for await (const { ids } of beside) {
    said.push(...ids)
    if (said.length !== 5) continue
    taking = (async () => {
      const taker = model.session()
      agree(t, await outcome(taker, two), expected, 'the taker')
      t.equal(taker.stats.prompt.cached, 100)
    })()
  }
  await taking
  const twin = model.session({ reuse: false })
  t.same(said, [...(await twin.generate(one, { maxTokens: 300, ignoreEnd: true })).ids], 'the giver')
})

t.test('sessions that begin at once read what they share once', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const long = randomIds(900, 61)
  for (const options of [{}, { methods: [methods.h2o({ keep: 0.4 })] }] as SessionOptions[]) {
    const own = (i: number) => (options.methods ? long : joined(long, randomIds(10 + i, 70 + i)))
    const expected: Outcome[] = []
    for (const i of [0, 1, 2, 3]) expected.push(await alone(model, options, own(i)))
    const sessions = [0, 1, 2, 3].map(() => model.session(options))
    const got = await Promise.all(sessions.map((session, i) => outcome(session, own(i))))
    for (const [i, one] of got.entries()) agree(t, one, expected[i] as Outcome, `session ${i}`)
    t.same(
      sessions.map(({ stats }) => stats.prompt.cached),
      [0, 900, 900, 900],
    )
    await Promise.all(sessions.map((session) => session.close()))
  }
  const reason = new Error('no')
  const stop = new AbortController()
  const [first, waits, closes, last] = [0, 1, 2, 3].map(() => model.session()) as [Session, Session, Session, Session]
  const running = raised(() => first.forward(long, { signal: stop.signal }))
  const leaver = new AbortController()
  const leaving = raised(() => waits.forward(long, { signal: leaver.signal }))
  const closing = raised(() => closes.forward(long))
  const logits = last.forward(long)
  await wait(1)
  leaver.abort(reason)
  void closes.close()
  t.equal(await leaving, reason, 'who waits may leave')
  t.match(await closing, { code: 'ERR_CLOSED' })
  stop.abort(reason)
  await running
  t.ok(same(await logits, (await alone(model, {}, long)).logits), 'and who read it may stop')
  t.equal(waits.ids.length, 0)
})

t.test('a call that fails leaves an empty session empty', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32, layers: 8, hidden: 128, feedForward: 512 })
  const long = joined(system, randomIds(3000, 50))
  const giver = model.session()
  await giver.forward(one, { logits: 'none' })
  const taker = model.session()
  const stop = new AbortController()
  const running = raised(() => taker.forward(long, { signal: stop.signal }))
  while (taker.stats.prompt.seen === 0 && taker.stats.kv.bytes === 0) await wait(1)
  stop.abort(new Error('enough'))
  t.equal((await running).message, 'enough')
  t.equal(taker.ids.length, 0)
  t.match(taker.stats, { prompt: { tokens: 0, seen: 0, cached: 0 }, kv: { layers: [{ rows: [0, 0] }] } })
  agree(t, await outcome(taker, two), await alone(model, {}, two), 'and it goes on')
  t.equal(taker.stats.prompt.cached, 100)
  const narrow = model.session({ contextLength: 125 })
  t.match(await raised(() => narrow.forward(two)), { code: 'ERR_CONTEXT_FULL' })
  t.equal((await narrow.forward(one)).length, model.config.vocabularySize)
})

t.test('saved sessions and forks give too', async (t) => {
  const { model, path } = await loadTiny(t, { headSize: 32 })
  const file = join(scratch(t), 'prefix.bin')
  const session = model.session()
  await session.generate(one, { maxTokens: 5, ignoreEnd: true })
  await session.save(file)
  const twin = await session.fork()
  await session.close()
  const expected = await alone(model, {}, two)
  const fromTwin = model.session()
  agree(t, await outcome(fromTwin, two), expected, 'a fork')
  t.equal(fromTwin.stats.prompt.cached, 100)
  await Promise.all([twin.close(), fromTwin.close()])
  const restored = await model.restore(file)
  const fromFile = model.session()
  agree(t, await outcome(fromFile, two), expected, 'restored')
  t.equal(fromFile.stats.prompt.cached, 100)
  await Promise.all([restored.close(), fromFile.close()])
  const private_ = await model.restore(file, { reuse: false })
  const nothing = model.session()
  await nothing.forward(two)
  t.equal(nothing.stats.prompt.cached, 0)
  await private_.close()
  const exact = await loadWith(path, 'reference')
  await exact.restore(file)
  const other = exact.session()
  agree(t, await outcome(other, two), await alone(exact, {}, two), 'another instruction set')
  t.equal(other.stats.prompt.cached, 0, 'its rows are others')
  await exact.close()
})

t.test('shared rows are stored once', async (t) => {
  const { model } = await loadTiny(t, { headSize: 64, layers: 6 })
  const long = randomIds(2000, 80)
  const before = native().cacheBytes()
  const giver = model.session()
  await giver.forward(long, { logits: 'none' })
  const own = native().cacheBytes() - before
  const takers = [1, 2, 3].map(() => model.session())
  for (const [i, taker] of takers.entries())
    await taker.forward(joined(long, randomIds(20, 81 + i)), { logits: 'none' })
  const added = (native().cacheBytes() - before - own) / 3
  t.ok(added < own / 10, `${added} bytes more for each, ${own} for the first`)
  for (const { stats } of takers) {
    t.ok(stats.kv.bytes > own * 0.9, 'each counts what it refers to')
    t.match(stats.prompt, { tokens: 2020, seen: 20, cached: 2000 })
  }
  const quarter = model.session({ methods: [methods.snapkv({ keep: 0.25 })] })
  await quarter.forward(joined(long, randomIds(40, 90)), { logits: 'none' })
  t.equal(quarter.stats.prompt.cached, 2000)
  t.ok(quarter.stats.kv.bytes < own * 0.3, 'a method evicts from what it took')
  await Promise.all([giver, quarter, ...takers].map((session) => session.close()))
  t.ok(native().cacheBytes() <= before + own / 20, 'and all of it goes')
})

t.test('what sliding layers give up is kept for others, or goes back at once', async (t) => {
  const { model } = await loadTiny(t, { architecture: 'gemma3', headSize: 64 })
  const long = randomIds(3000, 95)
  const before = native().cacheBytes()
  const held = async (reuse: boolean) => {
    const session = model.session({ reuse })
    await session.forward(long, { logits: 'none' })
    return { session, added: native().cacheBytes() - before }
  }
  const own = await held(false)
  await own.session.close()
  const open = await held(true)
  t.ok(own.added < open.added * 0.6, `${own.added} of ${open.added} bytes`)
  open.session.truncate(2900)
  const after = native().cacheBytes() - before
  t.ok(after < open.added * 0.6, `${after} bytes when it is held no longer`)
})
