// Many sessions at once: each is as if it were alone, bit for bit; calls queue; aborts and closes end what they mean and nothing else.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { type Generated, type Model, methods, type SessionOptions } from '../lib/index.js'
import type { Advance, Advanced, NativeModel } from '../lib/native.js'
import { Scheduler } from '../lib/scheduler.js'
import { loadTiny, loadWith, raised, same } from './engine.js'
import type { TinyOptions } from './model-fixture.js'
import { randomIds } from './numbers.js'

const kinds: Record<string, TinyOptions> = {
  llama: { headSize: 32 },
  'llama, quantized': { type: 'q8_0', headSize: 32, seed: 4 },
  'llama, dynamic scaling': { scaling: { type: 'dynamic', factor: 4, original: 16 }, headSize: 32 },
  gemma3: { architecture: 'gemma3' },
}

const sessions: [SessionOptions, number][] = [
  [{}, 3],
  [{ kv: 'f32' }, 40],
  [{ kv: 'q8_0', methods: [methods.h2o({ keep: { tokens: 12 } })] }, 33],
  [{ methods: [methods.streamingLlm({ keep: 0.5 })] }, 64],
  [{ methods: [methods.llmDrop({ layers: [1] })] }, 1],
  [{ kv: 'kivi4', methods: [methods.snapkv({ keep: 0.3, window: 4 })] }, 90],
  [{ methods: [methods.every(2, methods.random({ keep: 0.4, recent: 3 })), methods.fastv({ keep: 0.5 })] }, 25],
  [{ methods: [methods.llmDrop({ layers: [2], what: 'block' })], kv: 'bf16' }, 70],
  [{ arithmetic: 'fine' }, 50],
  [{ methods: [methods.skipHeads({ heads: [[0, 0]] }), methods.h2o({ keep: { tokens: 20 } })] }, 44],
]

interface Outcome {
  ids: number[]
  logits: Float32Array
}

async function life(model: Model, i: number, late = 0): Promise<Outcome> {
  await wait(late)
  const [options, prompt] = sessions[i] as [SessionOptions, number]
  const session = model.session(options)
  const parts = [{ ids: randomIds(prompt, 50 + i), droppable: true }]
  const first = await session.generate(parts, { maxTokens: 6 + i, temperature: i % 2, seed: 9, ignoreEnd: true })
  const second = await session.generate(randomIds(2, i), { maxTokens: 9, ignoreEnd: true, logprobs: true })
  const logits = await session.forward(randomIds(3 + 20 * (i % 3), 7))
  await session.close()
  return { ids: [...first.ids, ...second.ids], logits }
}

function agree(
  t: { same(a: unknown, b: unknown, said: string): void; ok(a: unknown, said: string): void },
  got: readonly Outcome[],
  alone: readonly Outcome[],
  said: string,
): void {
  for (const [i, one] of got.entries()) {
    const expected = alone[i % alone.length] as Outcome
    t.same(one.ids, expected.ids, `${said}, session ${i}`)
    t.ok(same(one.logits, expected.logits), `${said}, session ${i}: logits`)
  }
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: sessions at once are as each alone`, async (t) => {
    const { model, path } = await loadTiny(t, options, { threads: 2 })
    const all = sessions.map((_, i) => i)
    const alone: Outcome[] = []
    for (const i of all) alone.push(await life(model, i))
    agree(t, await Promise.all(all.map((i) => life(model, i))), alone, 'together')
    agree(t, await Promise.all([...all, ...all].map((i) => life(model, i, (i * 7) % 11))), alone, 'joining and leaving')
    for (const threads of [1, 3]) {
      const other = await loadWith(path, 'auto', threads)
      agree(t, await Promise.all(all.map((i) => life(other, i))), alone, `${threads} threads`)
      await other.close()
    }
    const twin = await loadWith(path, 'auto', 2)
    const [a, b] = await Promise.all([model, twin].map((one) => Promise.all(all.map((i) => life(one, i)))))
    agree(t, a ?? [], alone, 'two loads')
    agree(t, b ?? [], alone, 'two loads, the other')
    await twin.close()
  })
}

t.test('a prompt that is read lets the others speak between its pieces', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const long = randomIds(6 * 512, 3)
  const alone = await model.session({ reuse: false }).forward(long)
  for (const own of [[], [methods.snapkv({ keep: 0.3 })], [methods.fastv({ keep: 0.5 })]]) {
    const speakers = [0, 1, 2].map((i) => model.session({ methods: i === 1 ? own : [] }))
    const said = speakers.map(() => 0)
    const stop = new AbortController()
    const speaking = speakers.map(async (speaker, i) => {
      const options = { maxTokens: 4000, ignoreEnd: true, signal: stop.signal, temperature: 1, seed: i }
      for await (const _ of speaker.stream(randomIds(20 + i, i), options)) said[i] = (said[i] as number) + 1
    })
    while (said.some((count) => count < 3)) await wait(1)
    const before = [...said]
    const reader = model.session({ methods: own })
    const logits = await reader.forward(long)
    const during = said.map((count, i) => count - (before[i] as number))
    stop.abort(new Error('heard enough'))
    await Promise.all(speaking.map((one) => raised(() => one)))
    t.ok(
      during.every((count) => count >= 5),
      `${during} tokens while six pieces were read`,
    )
    t.ok(
      during.every((count) => Math.abs(count - (during[0] as number)) <= 1),
      'all in step',
    )
    if (own.length === 0) t.ok(same(logits, alone), 'and the prompt is as if it were alone')
    await Promise.all([reader, ...speakers].map((session) => session.close()))
  }
})

t.test('sessions join and leave at any step', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const options = (i: number) => ({ maxTokens: 24, ignoreEnd: true, temperature: i % 2, seed: i, logprobs: true })
  const prompt = (i: number) => randomIds(i === 2 ? 700 : 3 + i, 90 + i)
  const kinds = sessions.map(([kind]) => kind)
  const expected: Generated[] = []
  for (const [i, kind] of kinds.entries()) {
    const session = model.session({ ...kind, reuse: false })
    expected.push(await session.generate(prompt(i), options(i)))
    await session.close()
  }
  for (const stride of [1, 2, 5]) {
    // Session i begins when the one before it has said so many tokens, and leaves after 24 or, every third, after 7.
    const begun: Promise<void>[] = []
    const begin = async (i: number): Promise<void> => {
      const session = model.session(kinds[i] as SessionOptions)
      const ids: number[] = []
      const logprobs: number[] = []
      for await (const piece of session.stream(prompt(i), options(i))) {
        ids.push(...piece.ids)
        logprobs.push(...(piece.logprobs ?? []))
        if (begun.length === i + 1 && ids.length >= stride && i + 1 < kinds.length) begun.push(begin(i + 1))
        if (i % 3 === 0 && ids.length >= 7) break
      }
      const whole = expected[i] as Generated
      t.same(ids, [...whole.ids.subarray(0, ids.length)], `every ${stride} tokens: session ${i}`)
      t.same(logprobs, [...(whole.logprobs ?? [])].slice(0, ids.length), `every ${stride} tokens: session ${i}`)
      t.equal(ids.length, i % 3 === 0 ? 7 : 24)
      await session.close()
    }
    begun.push(begin(0))
    for (let i = 0; i < begun.length; i++) await begun[i]
    t.equal(begun.length, kinds.length)
  }
})

t.test('steps that are asked for in one turn are one stage call; pieces take turns with them', async (t) => {
  const calls: string[] = []
  const name = ({ session }: Advance) => (session as unknown as { name: string }).name
  const advance = async (batch: Advance[]): Promise<Advanced[]> => {
    calls.push(batch.map(name).join(' '))
    await wait(1)
    return batch.map((entry) => (name(entry) === 'bad' ? { error: new Error('full') } : { token: 1 }))
  }
  const scheduler = new Scheduler({ advance } as unknown as NativeModel)
  const entry = (said: string): Advance => ({ session: { name: said } as never, from: 0, to: 1, begin: 0, end: 1 })
  const speak = async (said: string, count: number) => {
    for (let i = 0; i < count; i++) await scheduler.step(entry(said))
  }
  const read = async (said: string, count: number) => {
    for (let i = 0; i < count; i++) await scheduler.chunk(entry(said))
  }
  const failed = raised(() => scheduler.step(entry('bad')))
  await Promise.all([speak('a', 4), speak('b', 2), read('P', 3), read('Q', 1), speak('c', 3)])
  t.match(await failed, { message: 'full' }, 'an error is one session’s')
  t.same(calls, ['P', 'bad a b c', 'Q', 'a b c', 'P', 'a c', 'P', 'a'])
})

t.test('an abort ends one session’s work and no other’s', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const reason = new Error('enough')
  for (const [options, prompt] of sessions) {
    const session = model.session(options)
    const other = model.session({ methods: [methods.llmDrop({ layers: [3] })] })
    const stop = new AbortController()
    const running = session.stream(randomIds(prompt, 1), { maxTokens: 4000, ignoreEnd: true, signal: stop.signal })
    const beside = other.generate(randomIds(5, 1), { maxTokens: 40, ignoreEnd: true })
    let pieces = 0
    const error = await raised(async () => {
      for await (const _ of running) if (++pieces === 12) setImmediate(() => stop.abort(reason))
    })
    t.equal(error, reason)
    const kept = session.ids
    t.same(kept.subarray(0, prompt), randomIds(prompt, 1), 'the prompt and the pieces so far stay')
    const twin = model.session(options)
    const so = { ignoreEnd: true }
    await twin.generate(randomIds(prompt, 1), { ...so, maxTokens: kept.length - prompt })
    t.same(twin.ids, kept)
    const next = (one: typeof session) => one.generate(randomIds(4, 2), { ...so, maxTokens: 10 })
    t.same((await next(session)).ids, (await next(twin)).ids, 'it goes on as if it had ended there')
    t.ok(same(await session.forward(randomIds(4, 2)), await twin.forward(randomIds(4, 2))), JSON.stringify(options))
    t.equal((await beside).ids.length, 40)
  }
})

t.test('aborts before and during a prompt leave nothing', async (t) => {
  const { model } = await loadTiny(t, { layers: 8, hidden: 128, feedForward: 512 })
  const long = randomIds(3000, 6)
  const session = model.session()
  const reason = new Error('no')
  t.equal(await raised(() => session.generate('hello', { signal: AbortSignal.abort(reason) })), reason)
  t.equal(await raised(() => session.forward(long, { signal: AbortSignal.abort(reason) })), reason)
  for (const call of ['generate', 'forward', 'score', 'hidden'] as const) {
    const stop = new AbortController()
    const started = performance.now()
    const options = { signal: stop.signal, ...(call === 'hidden' && { layer: 8 }) }
    const running = raised(() => session[call](long, options as never))
    await wait(5)
    const at = performance.now()
    stop.abort(reason)
    const error = await running
    if (at - started < 40) t.equal(error, reason, call)
    t.equal(session.ids.length, 0)
    t.match(session.stats, {
      prompt: { tokens: 0, seen: 0 },
      generated: { tokens: 0 },
      kv: { layers: [{ rows: [0, 0] }] },
    })
  }
  await session.forward(long.subarray(0, 700))
  const fresh = model.session()
  await fresh.forward(long.subarray(0, 700))
  t.ok(same(await session.forward(long.subarray(0, 9)), await fresh.forward(long.subarray(0, 9))), 'and it goes on')
})

t.test('calls on one session run one after another; who waits may leave', async (t) => {
  const { model } = await loadTiny(t)
  const session = model.session()
  const order: string[] = []
  const stop = new AbortController()
  const reason = new Error('not now')
  const long = session.generate(randomIds(30, 1), { maxTokens: 300, ignoreEnd: true }).then(() => order.push('first'))
  const waiting = raised(() => session.forward('hello', { signal: stop.signal })).then((error) => {
    order.push('left')
    return error
  })
  const last = session.forward(randomIds(4, 3)).then(() => order.push('last'))
  stop.abort(reason)
  t.equal(await waiting, reason, 'at once')
  await Promise.all([long, last])
  t.same(order, ['left', 'first', 'last'])
  t.equal(session.ids.length, 334)
  const prompt = randomIds(4, 3)
  const call = session.forward(prompt)
  prompt.fill(0)
  await call
  t.same(session.ids.subarray(-4), randomIds(4, 3), 'a prompt belongs to the call once it is given')
})

t.test('closing', async (t) => {
  const { model, path } = await loadTiny(t)
  const closed = { code: 'ERR_CLOSED' }
  const session = model.session()
  const work = [
    session.generate(randomIds(30, 1), { maxTokens: 4000, ignoreEnd: true }),
    session.forward('hello'),
    session.fork(),
    session.hidden(Int32Array.of(3), { layer: 1 }),
  ]
  const outcomes = Promise.all(work.map((one) => raised(() => one)))
  await wait(10)
  const stream = model.session().stream('hello', { maxTokens: 4000, ignoreEnd: true })
  await Promise.all([session.close(), session.close()])
  for (const error of await outcomes) t.match(error, closed)
  for (const call of [
    () => session.forward('x'),
    () => session.stats,
    () => session.truncate(0),
    () => session.reset(),
    () => session.save('x'),
    () => session.generate('x'),
  ])
    t.match(await raised(call), closed)
  const other = await loadWith(path, 'auto')
  const own = other.session()
  const idle = other.session()
  const running = raised(() => own.score(randomIds(2000, 2)))
  await Promise.all([other.close(), other.close()])
  t.match(await running, closed)
  t.match(await raised(() => idle.forward('x')), closed)
  for (const call of [() => other.session(), () => other.bytes, () => other.restore('x')])
    t.match(await raised(call), closed)
  t.equal(other.config.layers, 4, 'what it was may still be read')
  await other[Symbol.asyncDispose]()
  await own[Symbol.asyncDispose]()
  for await (const _ of stream) break
  await raised(() => stream.result)
})

t.test('the event loop is free while a prompt is read', async (t) => {
  const { model } = await loadTiny(t, { layers: 6, hidden: 128, feedForward: 256 })
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const session = model.session({ methods: [methods.snapkv({ keep: 0.3 }), methods.tome({ layers: [2] })] })
  const ids = randomIds(1500, 3)
  await wait(20)
  delay.enable()
  await session.forward([{ ids: ids.subarray(0, 300), droppable: true }, { ids: ids.subarray(300) }])
  delay.disable()
  t.ok(
    delay.percentile(50) < 50e6,
    `half of the turns come within ${Math.round(delay.percentile(50) / 1e6)} ms on a busy machine`,
  )
})
