// Generation as text: pieces, stop texts, characters of several tokens, options, chances, conversations.
import t from 'tap'
import { type Model, methods, type Piece } from '../lib/index.js'
import { apart, loadTiny, raised } from './engine.js'
import { byteIds, chainModel, END, idOf, tinyModel } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { logSoftmax } from './reference-model.js'

const START = idOf('Ġthe')
const PROMPT = Int32Array.of(START)

/** A model that, after PROMPT, says these ids and ends. */
const saying = (t: { teardown(fn: () => unknown): void }, ids: readonly number[]) =>
  loadTiny(t, chainModel([START, ...ids]))

async function pieces(stream: AsyncIterable<Piece>): Promise<Piece[]> {
  const all: Piece[] = []
  for await (const piece of stream) all.push(piece)
  return all
}
const texts = (all: readonly Piece[]) => all.map(({ text }) => text)

t.test('text comes in whole characters and ids come with it', async (t) => {
  const said = [...byteIds('a€'), ...byteIds('🦊'), idOf('hello'), ...byteIds('é!')]
  const { model } = await saying(t, said)
  const session = model.session()
  const stream = session.stream(PROMPT)
  const all = await pieces(stream)
  t.same(texts(all), ['a', '', '', '€', '', '', '', '🦊', 'hello', '', 'é', '!', ''])
  t.same(
    all.flatMap(({ ids }) => [...ids]),
    [...said, END],
  )
  const { finishReason, ids, stats, text } = await stream.result
  t.match({ finishReason, text }, { finishReason: 'stop', text: 'a€🦊helloé!' })
  t.same([...ids], [...said, END], 'the end token too')
  t.same([...session.ids], [START, ...said, END])
  t.match(stats, { prompt: { tokens: 1 }, generated: { tokens: said.length + 1, proposed: 0, accepted: 0 } })
  const half = await model.session().generate(PROMPT, { maxTokens: 6 })
  t.match(half, { text: 'a€\uFFFD', finishReason: 'length' }, 'at the end a character that was cut')
  const on = await model.session().generate(PROMPT, { maxTokens: 20, ignoreEnd: true })
  t.equal(on.ids.length, 20)
  t.ok(on.ids.includes(END))
  t.notOk(on.text.includes('<|'), 'no special tokens in text')
})

t.test('stop texts', async (t) => {
  const { model } = await saying(t, [...byteIds('ab'), idOf('hello'), idOf('Ġworld'), ...byteIds('🦊xyz')])
  const whole = 'abhello world🦊xyz'
  const cases: [readonly string[], string, number][] = [
    [['lo w'], 'abhel', 4], // across tokens
    [['b'], 'a', 2],
    [['abh'], '', 3],
    [['world', 'hello'], 'ab', 3], // the first that comes
    [['hell', 'hello'], 'ab', 3],
    [['🦊'], 'abhello world', 8],
    [['xyz'], 'abhello world🦊', 11],
    [['zz', 'yzq', 'nothing'], whole, 12],
    [['z'], 'abhello world🦊xy', 11],
  ]
  for (const [stop, text, count] of cases) {
    const session = model.session()
    const stream = session.stream(PROMPT, { stop })
    const all = await pieces(stream)
    const result = await stream.result
    t.equal(result.text, text, `${stop}`)
    t.equal(texts(all).join(''), text, `${stop}: pieces`)
    t.equal(result.finishReason, 'stop')
    t.equal(result.ids.length, count, `${stop}: ids`)
    t.equal(
      all.reduce((sum, { ids }) => sum + ids.length, 0),
      count,
    )
    t.equal(session.ids.length, count + 1)
  }
  const held = await pieces(model.session().stream(PROMPT, { stop: ['hello world?'] }))
  t.same(texts(held).slice(0, 8), ['a', 'b', '', '', '', '', '', 'hello world🦊'], 'held back until it is known')
  t.equal(texts(held).join(''), whole)
  t.match(
    await model.session().generate(PROMPT, { stop: ['xyz'], maxTokens: 10 }),
    { text: 'abhello world🦊xy', finishReason: 'length' },
    'what was held back comes at the end',
  )
})

t.test('counts, chances, log-probabilities', async (t) => {
  const { model } = await loadTiny(t, { seed: 8 })
  const ids = randomIds(20, 4)
  const make = async (options: Parameters<ReturnType<Model['session']>['generate']>[1]) => {
    const session = model.session()
    const made = await session.generate(ids, { ignoreEnd: true, maxTokens: 16, ...options })
    await session.close()
    return made
  }
  t.match(await make({ maxTokens: 0 }), { text: '', finishReason: 'length', ids: new Int32Array(0) })
  t.equal((await make({ maxTokens: 1 })).ids.length, 1)
  const greedy = [...(await make({})).ids]
  t.same([...(await make({ temperature: 2, topK: 1, seed: 3 })).ids], greedy, 'top 1 is greedy')
  t.same([...(await make({ temperature: 1.5, minP: 1, seed: 3 })).ids], greedy)
  t.same([...(await make({ temperature: 1, topP: 0, seed: 3 })).ids], greedy)
  const hot = { temperature: 1.5, topP: 0.9, topK: 40, minP: 0.01 }
  const one = [...(await make({ ...hot, seed: 7 })).ids]
  t.same([...(await make({ ...hot, seed: 7 })).ids], one, 'the same seed')
  t.notSame([...(await make({ ...hot, seed: 8 })).ids], one, 'another seed')
  t.notSame([...(await make({ ...hot })).ids], [...(await make({ ...hot })).ids], 'no seed')
  const { model: exact } = await loadTiny(t, { seed: 8 }, { isa: 'reference' })
  const session = exact.session({ kv: 'f32' })
  const { ids: said, logprobs = new Float32Array(0) } = await session.generate(ids, {
    logprobs: true,
    maxTokens: 6,
    ignoreEnd: true,
    temperature: 1,
    seed: 2,
  })
  t.equal(logprobs.length, 6)
  const all = await exact.session({ kv: 'f32' }).forward(Int32Array.from([...ids, ...said]), { logits: 'all' })
  const expected = [...said].map((id, i) => logSoftmax(all.subarray((19 + i) * 272, (20 + i) * 272))[id] as number)
  t.ok(apart(logprobs, expected) < 1e-4, 'of the logits as they came')
  const streamed = await pieces(model.session().stream(ids, { logprobs: true, maxTokens: 3, ignoreEnd: true }))
  t.same(
    streamed.map(({ logprobs }) => logprobs?.length),
    [1, 1, 1],
  )
  t.notOk('logprobs' in (await make({})))
  const penalized = await make({ repeatPenalty: 100, maxTokens: 40 })
  const seen = new Set(ids)
  for (const id of penalized.ids) {
    if (seen.has(id)) t.fail('a token came again within the last 64')
    seen.add(id)
  }
})

t.test('a stream that is left, not read, or read twice', async (t) => {
  const { model } = await loadTiny(t)
  const unhandled: unknown[] = []
  const note = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', note)
  t.teardown(() => process.off('unhandledRejection', note))
  const session = model.session()
  let count = 0
  const left = session.stream('hello', { ignoreEnd: true, maxTokens: 3000 })
  for await (const _ of left) if (++count === 3) break
  const { length } = session.ids
  t.ok(length >= 4 && length < 20, `the work stopped: ${length} tokens`)
  t.equal((await raised(() => left.result)).name, 'AbortError')
  session.stream('hello', { signal: AbortSignal.abort() })
  session.stream(Int32Array.of(5), { maxTokens: 2 })
  session.stream(randomIds(5000, 1), { maxTokens: 2 })
  const both = model.session().stream('hello', { ignoreEnd: true, maxTokens: 12 })
  const [a, b] = await Promise.all([pieces(both), pieces(both)])
  const shared = [...a, ...b].reduce((sum, { ids }) => sum + ids.length, 0)
  t.equal(shared, 12, 'two readers share')
  await new Promise((next) => setTimeout(next, 20))
  t.same(unhandled, [])
  t.ok((await session.forward('hello')).every(Number.isFinite), 'the session goes on')
})

t.test('a conversation goes on from where it is', async (t) => {
  const { model } = await saying(t, [...byteIds('ok')])
  const template = (messages: { role: string; content: string }[]) =>
    model.tokenizer.encode(model.tokenizer.chat(messages), { parseSpecial: true })
  const { model: random } = await loadTiny(t, tinyModel({ seed: 3 }))
  for (const options of [{ maxTokens: 8 }, { maxTokens: 8, ignoreEnd: true }, { maxTokens: 1 }]) {
    const session = random.session()
    const first = [{ role: 'user', content: 'hello' }]
    const { ids, text } = await session.generate(first, options)
    const begun = [...template(first), ...ids]
    t.same([...session.ids], begun)
    await session.forward([{ role: 'user', content: 'the world' }], { logits: 'none' })
    const added = [...session.ids].slice(begun.length)
    const ended = ids.at(-1) === END
    const next = [...(ended ? [] : [END]), ...byteIds('\n'), 1, ...byteIds('user\n')]
    t.same(added.slice(0, next.length), next, `after ${JSON.stringify(text)}`)
    const twin = await session.fork()
    await Promise.all(
      [session, twin].map((one) => one.generate([{ role: 'user', content: 'a' }], { maxTokens: 2, ignoreEnd: true })),
    )
    t.same(twin.ids, session.ids)
  }
})

t.test('an answer that was stopped is ended before the next message', async (t) => {
  const { model } = await loadTiny(t, tinyModel({ seed: 3 }))
  const stopped = model.session()
  const hello = [{ role: 'user', content: 'hello' }]
  const stop = new AbortController()
  const stream = stopped.stream(hello, {
    ignoreEnd: true,
    signal: stop.signal,
    maxTokens: 3000,
  })
  await raised(async () => {
    let n = 0
    for await (const _ of stream) if (++n === 4) stop.abort(new Error('enough'))
  })
  const kept = [...stopped.ids]
  const said = kept.slice(model.tokenizer.encode(model.tokenizer.chat(hello), { parseSpecial: true }).length)
  t.ok(said.length >= 4, 'an answer that was stopped stays')
  await stopped.forward([{ role: 'user', content: 'b' }], { logits: 'none' })
  t.same([...stopped.ids].slice(0, kept.length), kept)
  t.same(
    [...stopped.ids].slice(kept.length, kept.length + 3),
    [END, ...byteIds('\n'), 1],
    'and is ended before the next message',
  )
  const system = model.session({ methods: [methods.streamingLlm({ keep: 0.9 })] })
  await system.generate(
    [
      { role: 'system', content: 'hello' },
      { role: 'user', content: 'a' },
    ],
    { maxTokens: 3 },
  )
  t.equal(system.ids[0], 1)
})

t.test('ids that the head has but the vocabulary has not', async (t) => {
  const tiny = tinyModel({ seed: 2, vocabulary: 304 } as never)
  const { model } = await loadTiny(t, tiny)
  t.equal(model.config.vocabularySize, 304)
  const made = await model.session().generate('hello', { maxTokens: 200, temperature: 3, seed: 1, ignoreEnd: true })
  t.ok(
    [...made.ids].some((id) => id >= 272),
    'they are drawn',
  )
  t.equal(made.ids.length, 200)
})
