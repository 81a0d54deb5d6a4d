// What calls leave behind: continuation, tokens that wait, looks that change nothing, reset, truncate, fork, refusals.
import t from 'tap'
import { type Model, methods, type Session } from '../lib/index.js'
import { apart, loadTiny, raised, same } from './engine.js'
import { BOS, byteIds, idOf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { argmax, Reference } from './reference-model.js'

const ids = randomIds(60, 11)
const more = randomIds(9, 12)
const kinds = { llama: {}, gemma3: { architecture: 'gemma3' } } as const

/** What a session says next: greedy text and logits. */
async function future(session: Session): Promise<{ ids: number[]; logits: Float32Array }> {
  const { ids } = await session.generate(more, { maxTokens: 6, ignoreEnd: true })
  return { ids: [...ids], logits: await session.forward(more) }
}
async function filled(model: Model, options = {}): Promise<Session> {
  const session = model.session(options)
  await session.forward(ids, { logits: 'none' })
  return session
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: looks leave the session as it was`, async (t) => {
    const { model } = await loadTiny(t, options)
    for (const kv of ['f32', 'f16'] as const) {
      for (const own of [[], [methods.h2o({ keep: { tokens: 20 } })], [methods.streamingLlm({ keep: 0.5 })]]) {
        const given = { kv, methods: own }
        const expected = await future(await filled(model, given))
        const session = await filled(model, given)
        for (let round = 0; round < 2; round++) {
          for (const n of [1, 9]) {
            await session.hidden(more.subarray(0, n), { layer: 3 })
            await session.hidden(more.subarray(0, n), { layer: model.config.layers })
            await session.attention(more.subarray(0, n), { layer: 2, rows: [0] })
          }
          await raised(() => session.forward(Int32Array.of(5, 272)))
          await raised(() => session.forward(ids, { signal: AbortSignal.abort() }))
        }
        const { stats } = session
        t.equal(stats.prompt.tokens, 60)
        const got = await future(session)
        t.same(got.ids, expected.ids)
        t.ok(same(got.logits, expected.logits), `${kv}, ${own.map((m) => m.name)}`)
      }
    }
  })

  t.test(`${name}: the newest token waits and runs with the next call`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const session = model.session({ kv: 'f32' })
    const { ids: said } = await session.generate(ids, { maxTokens: 5, ignoreEnd: true })
    t.same([...session.ids], [...ids, ...said])
    const whole = () => Int32Array.from([...ids, ...said])
    const oracle = (given: Int32Array) => new Reference(tiny).run(given).logits
    t.same([...said], oracle(whole()).slice(59, -1).map(argmax), 'greedy')
    const expected = oracle(Int32Array.from([...whole(), ...more]))
    const hidden = await session.hidden(more, { layer: model.config.layers })
    t.equal(hidden.length, 9 * model.config.hiddenSize, 'rows of the ids alone')
    const attention = await session.attention(more, { layer: 1, rows: [-1] })
    t.equal(attention.length, model.config.heads * (60 + 5 + 9))
    const twin = await session.fork()
    const all = await session.forward(more, { logits: 'all' })
    t.ok(
      apart(
        all,
        expected.slice(-9).flatMap((row) => [...row]),
      ) < 1e-4,
      'with several tokens',
    )
    const scores = await twin.score(more.subarray(0, 1))
    const last = expected.at(-10) as Float64Array
    const lse = Math.log(last.reduce((sum, x) => sum + Math.exp(x), 0))
    t.ok(apart(scores, [(last[more[0] as number] as number) - lse]) < 1e-4, 'with one, scored by the one that waited')
    t.same(twin.ids.length, 66)
    const again = await twin.fork()
    const logits = await again.forward([])
    const { ids: next } = await twin.generate('', { maxTokens: 2, ignoreEnd: true })
    t.same(
      next,
      [argmax(logits), argmax(await again.forward(next.subarray(0, 1)))],
      'an empty prompt goes on from here',
    )
    t.equal(twin.stats.prompt.tokens, 61)
    t.equal(twin.stats.prompt.seen, 61)
    t.equal(twin.stats.generated.tokens, 7)
  })

  t.test(`${name}: truncate is as if the rest had never been`, async (t) => {
    const { model, tiny } = await loadTiny(t, options, { isa: 'reference' })
    const logits = new Reference(tiny).run(Int32Array.from([...ids.subarray(0, 31), ...more])).logits
    const session = await filled(model, { kv: 'f32' })
    await session.generate('', { maxTokens: 1 }).catch(() => {})
    session.truncate(31)
    t.equal(session.ids.length, 31)
    const scores = await session.score(more.subarray(0, 1))
    const before = logits[30] as Float64Array
    const lse = Math.log(before.reduce((sum, x) => sum + Math.exp(x), 0))
    t.ok(apart(scores, [(before[more[0] as number] as number) - lse]) < 1e-4, 'the first score after it')
    t.ok(apart(await session.forward(more.subarray(1)), logits.at(-1) as Float64Array) < 1e-4, 'logits after it')
    session.truncate(100)
    t.equal(session.ids.length, 40, 'more than there are')
    session.truncate(0)
    t.ok(Number.isNaN((await session.score(ids))[0]), 'empty')
    const busy = session.forward(more)
    const done = session.truncate(20)
    await Promise.all([busy, done])
    t.equal(session.ids.length, 20, 'after what is under way')
    t.throws(() => session.truncate(-1), RangeError)
    t.throws(() => session.truncate('2' as never), TypeError)
  })

  t.test(`${name}: reset and fork`, async (t) => {
    const { model } = await loadTiny(t, options)
    const own = { methods: [methods.snapkv({ keep: { tokens: 20 }, window: 4 })], kv: 'f16' } as const
    const expected = await future(await filled(model, own))
    const session = await filled(model, own)
    await future(session)
    await session.reset()
    t.equal(session.ids.length, 0)
    t.same(session.plan, [])
    t.match(session.stats, { prompt: { tokens: 0, seen: 0 }, generated: { tokens: 0 }, kv: { fullBytes: 0 } })
    t.same(new Set(session.stats.kv.layers.flatMap(({ rows }) => rows)), new Set([0]))
    await session.forward(ids, { logits: 'none' })
    const twins = [await session.fork(), await session.fork()]
    t.same(twins[0]?.plan, session.plan)
    const results = await Promise.all([session, ...twins].map(future))
    await session.close()
    results.push(await future(await filled(model, own)))
    for (const result of results) {
      t.same(result.ids, expected.ids)
      t.ok(same(result.logits, expected.logits))
    }
    const [left, right] = twins as [Session, Session]
    const before = [...right.ids]
    await left.generate(ids, { maxTokens: 30, ignoreEnd: true })
    left.truncate(3)
    t.same([...right.ids], before)
    t.ok((await right.forward(more)).every(Number.isFinite))
  })
}

t.test('a context holds so many live rows', async (t) => {
  const { model } = await loadTiny(t)
  const session = model.session({ contextLength: 64 })
  await session.forward(ids.subarray(0, 50), { logits: 'none' })
  const full = await raised(() => session.forward(ids.subarray(0, 15)))
  t.equal(full.code, 'ERR_CONTEXT_FULL')
  t.match(full.message, /at most 64 rows/)
  t.equal(session.ids.length, 50)
  for (const call of ['score', 'hidden'] as const)
    t.equal(
      (await raised(() => session[call](ids.subarray(0, 15), { layer: 1 } as never))).code,
      call === 'score' ? undefined : 'ERR_CONTEXT_FULL',
    )
  const made = await session.generate(ids.subarray(0, 4), { ignoreEnd: true })
  t.equal(made.finishReason, 'length')
  t.equal(session.ids.length, 64)
  t.equal((await raised(() => session.generate(ids.subarray(0, 1)))).code, 'ERR_CONTEXT_FULL')
  session.truncate(60)
  t.equal((await session.forward(ids.subarray(0, 4))).length, 272)
  const exact = await model.session({ contextLength: 60 }).generate(ids, { ignoreEnd: true })
  t.match(exact, { finishReason: 'length', text: '' })
  t.equal(exact.ids.length, 0, 'a prompt that fills it leaves no room')
  const rolling = model.session({ contextLength: 64, methods: [methods.streamingLlm({ keep: { tokens: 32 } })] })
  const long = await rolling.generate(ids, { maxTokens: 200, ignoreEnd: true })
  t.equal(long.ids.length, 200, 'evicted rows make room')
  t.equal(Math.max(...rolling.stats.kv.layers.flatMap(({ rows }) => rows)), 32)
})

t.test('prompts of every kind', async (t) => {
  const { model } = await loadTiny(t, { bos: true })
  const session = () => model.session()
  const after = async (prompt: Parameters<Session['forward']>[0]) => {
    const one = session()
    await one.forward(prompt, { logits: 'none' })
    return [...one.ids]
  }
  const hello = [BOS, idOf('hello'), idOf('Ġworld')]
  t.same(await after('hello world'), hello, 'a begin token in front of text')
  t.same(await after(Int32Array.of(7, 8)), [7, 8], 'never of ids')
  t.same(await after([{ ids: [7] }, { text: 'hello world' }]), [7, ...hello.slice(1)])
  t.same(await after([{ text: 'hello' }, { text: ' world', droppable: true }, { ids: [9], droppable: true }]), [
    ...hello,
    9,
  ])
  const twice = session()
  await twice.forward('hello')
  await twice.forward(' world')
  t.same([...twice.ids], hello, 'never twice')
  t.same((await after('<|im_end|>')).length, 1 + 10, 'special text in a plain string is text')
  const chat = await after([{ role: 'user', content: 'hello' }])
  const user = [1, ...byteIds('user\n'), idOf('hello'), 2, ...byteIds('\n'), 1]
  t.same(chat.slice(0, 2), [BOS, 1])
  t.same(chat.slice(1, 1 + user.length), user)
  const parts = [{ text: 'hel' }, { text: 'lo' }, { text: ' world', droppable: true }, { ids: [9, 9], droppable: true }]
  const mixed = await after([{ role: 'user', content: parts }])
  t.same(mixed.slice(1, -byteIds('assistant\n').length - 3), [...user.slice(0, -3), idOf('Ġworld'), 9, 9])
  const dropping = model.session({ methods: [methods.random({ acts: 'layers', layer: 2, keep: { tokens: 1 } })] })
  await dropping.forward([{ role: 'user', content: parts }])
  const [entry] = dropping.plan
  t.equal((entry?.before ?? 0) - (entry?.after ?? 0), 2, 'marked parts of a message may be thinned')
  t.same(await after([]), [])
})
