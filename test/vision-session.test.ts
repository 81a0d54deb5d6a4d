// Pictures in sessions: rows of a tower between tokens, whatever the session does with them. The tower is a small one in TypeScript (test/fake-tower.ts).
import { join } from 'node:path'
import t from 'tap'
import { load, type Model, methods, type Prompt, type Session } from '../lib/index.js'
import { defineMethod, type VisionSeen } from '../lib/methods/index.js'
import { raised, same } from './engine.js'
import { type FakeTower, fakeVision, tinyVision } from './fake-tower.js'
import { scratch, type TinyOptions, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { picture } from './pictures.js'

const text = randomIds(20, 1)
const cat = picture(20, 12, 1)
const dog = picture(9, 16, 2)
const asked: Prompt = [{ ids: text }, { image: cat }, { ids: randomIds(9, 2) }]

async function load2(
  t: Parameters<typeof scratch>[0],
  config: Parameters<typeof fakeVision>[0] = {},
  options: TinyOptions = {},
): Promise<{ model: Model; tower: FakeTower; path: string }> {
  const { towers } = fakeVision(config)
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ headSize: 32, ...options }))
  const model = await load(path, { vision: 'test/fixtures/vision/embedded.gguf', threads: 2 })
  t.teardown(() => model.close())
  return { model, tower: towers[0] as FakeTower, path }
}

const most = (layer: number, part: 'attention' | 'projector', tokens: number) =>
  defineMethod({
    name: 'most',
    acts: 'vision',
    looks: { at: 'vision', layer, part, needs: [{ what: 'class', layer: 0 }] },
    decide(given) {
      const seen = given as VisionSeen
      const scores = seen.seen('class', 0)
      const kept = [...seen.sources.keys()].sort((a, b) => scores[b]! - scores[a]!).slice(0, tokens)
      return { action: 'dropPatches', layer, kept: kept.map((i) => seen.sources[i]!).sort((a, b) => a - b) }
    },
  })()

t.test('a picture is its rows between the tokens', async (t) => {
  const { model, tower } = await load2(t)
  t.match(model.vision, { side: 4, outputSize: 64 })
  t.ok(Object.isFrozen(model.vision))
  t.equal(model.bytes.vision, 1234)
  const session = model.session()
  const rows = await session.hidden(asked, { layer: 0 })
  t.equal(rows.length, (20 + 16 + 9) * 64)
  t.equal(session.ids.length, 0, 'and the session is as it was')
  const features = tower.glances[0]?.hidden() as Float32Array
  t.ok(same(rows.subarray(20 * 64, 36 * 64), features), 'what the tower gave')
  const logits = await session.forward(asked, { logits: 'all' })
  t.equal(logits.length, 45 * model.config.vocabularySize)
  t.notOk(logits.some(Number.isNaN))
  t.same([...session.ids.subarray(0, 20)], [...text])
  t.ok(session.ids.subarray(20, 36).every((id) => id < 0))
  t.match(session.stats, { prompt: { tokens: 45, seen: 45, cached: 0 }, kv: { layers: [{ rows: [45, 45] }] } })
  t.ok(session.stats.time.vision > 0)
  t.same(tower.opened, [1], 'it was encoded once')
  const { text: said } = await session.generate([{ text: 'hello' }], {
    maxTokens: 5,
    ignoreEnd: true,
    repeatPenalty: 1.2,
  })
  t.type(said, 'string')
  t.equal(model.tokenizer.decode(session.ids.subarray(20, 36)), '')
  const attention = await session.attention([{ image: dog }], { layer: 1, rows: [-1] })
  t.equal(attention.length, 4 * (session.ids.length + 16))
  t.equal(
    tower.glances.every(({ closed }) => closed),
    true,
  )
})

t.test('what a picture changes: other pixels, other rows, other ids; equal ones are equal', async (t) => {
  const { model, tower } = await load2(t)
  const logitsOf = async (prompt: Prompt, options = {}) => {
    const session = model.session(options)
    return { logits: await session.forward(prompt), ids: session.ids, cached: session.stats.prompt.cached }
  }
  const first = await logitsOf(asked)
  const again = await logitsOf(asked)
  t.ok(same(first.logits, again.logits))
  t.same(first.ids, again.ids)
  t.ok(again.cached > 20, 'rows of the cache are taken, patches too')
  const alone = await logitsOf(asked, { reuse: false })
  t.ok(same(first.logits, alone.logits))
  t.same(tower.opened, [1])
  const other = await logitsOf([{ ids: text }, { image: dog }, { ids: randomIds(9, 2) }])
  t.notOk(same(other.logits, first.logits))
  t.equal(other.cached, 20, 'the tokens before it')
  t.notSame(other.ids.subarray(20, 36), first.ids.subarray(20, 36))
  const one = { ...cat, data: Uint8Array.from(cat.data) }
  one.data[0]! ^= 128
  t.notSame((await logitsOf([{ ids: text }, { image: one }])).ids.subarray(20), first.ids.subarray(20, 36))
})

t.test('several pictures, and films', async (t) => {
  const { model, tower } = await load2(t)
  const session = model.session()
  const frames = [1, 2, 3].map((seed) => picture(8, 8, seed))
  await session.forward([{ image: cat }, { text: 'and' }, { image: dog }, { video: frames }, { image: cat }])
  t.equal(session.stats.prompt.tokens, 16 + 3 + 16 + 48 + 16)
  t.same(tower.opened, [1, 1, 3])
  t.same(session.ids.subarray(0, 16), session.ids.subarray(-16))
  const seen: unknown[] = []
  const watch = defineMethod({
    name: 'watch',
    acts: 'layers',
    looks: { at: 'layer', layer: 1, needs: [] },
    decide(given) {
      if (given.at === 'layer')
        for (const at of [0, 15, 19 + 16 + 17]) seen.push(given.patch?.(given.sources[given.droppable[0]! + at]!))
      return null
    },
  })
  const watched = model.session({ methods: [watch()] })
  await watched.forward([{ image: cat }, { text: 'and' }, { image: dog }, { video: frames }, { image: cat }])
  t.match(seen, [
    { crop: { kind: 'whole', image: 0, rows: 4 }, row: 0, column: 0 },
    { row: 3, column: 3 },
    { crop: { kind: 'frame', image: 2, row: 1 }, row: 0, column: 1 },
  ])
})

t.test('patches that go in the tower never reach the decoder', async (t) => {
  const { model, tower } = await load2(t)
  for (const [method, late] of [
    [most(1, 'attention', 5), false],
    [most(2, 'projector', 5), true],
  ] as const) {
    const session = model.session({ methods: [method], trace: true })
    const logits = await session.forward(asked, { logits: 'all' })
    const [entry] = session.plan
    t.match(entry, { phase: 'vision', step: 0, action: 'drop', before: 16, after: 5, method: 'most' })
    t.equal(session.ids.length, 45, 'ids count all')
    t.match(session.stats, { prompt: { tokens: 45, seen: 34 }, kv: { layers: [{ rows: [34, 34] }] } })
    const kept = entry?.kept as number[]
    t.equal(kept.length, 5)
    t.ok(kept.every((id, i) => id >= 20 && id < 36 && (i === 0 || id > kept[i - 1]!)))
    const vocabulary = model.config.vocabularySize
    for (let row = 0; row < 45; row++)
      t.equal(Number.isNaN(logits[row * vocabulary]), row >= 20 && row < 36 && !kept.includes(row), `row ${row}`)
    // Behind the last block they are those of the whole picture; before it they have seen less.
    const features = (tower.glances.at(-1) as { hidden(): Float32Array }).hidden()
    const plain = model.session({ reuse: false })
    const rows = await plain.hidden([{ ids: text }, { image: cat }], { layer: 0 })
    t.equal(features.length, 5 * 64)
    t.equal(same(features, gather(rows, kept)), late)
    const replay = model.session({ plan: session.plan })
    t.ok(same(await replay.forward(asked, { logits: 'all' }), logits), 'the plan gives the same')
    t.same(
      replay.plan.map(({ kept: k }) => k),
      [kept],
    )
    t.equal((await session.generate([{ text: 'hello' }], { maxTokens: 3, ignoreEnd: true })).ids.length, 3)
  }
})

function gather(rows: Float32Array, places: readonly number[]): Float32Array {
  return Float32Array.from(places.flatMap((place) => [...rows.subarray(place * 64, (place + 1) * 64)]))
}

t.test('what methods made of a picture is kept for the next prompt with it', async (t) => {
  const { model, tower } = await load2(t)
  const options = { methods: [methods.visionZip({ keep: 0.5 })] }
  const run = async (prompt: Prompt) => {
    const session = model.session(options)
    return { logits: await session.forward(prompt), plan: session.plan }
  }
  const first = await run(asked)
  t.ok(first.plan.length > 0)
  const count = tower.opened.length
  const second = await run([{ ids: randomIds(30, 5) }, { image: cat }, { ids: randomIds(9, 2) }])
  t.equal(tower.opened.length, count, 'not encoded again')
  for (const [i, { kept, into }] of second.plan.entries())
    for (const list of ['kept', 'into'] as const)
      t.same(
        { kept, into }[list],
        first.plan[i]?.[list]?.map((id) => id + 10),
        'places are those of the session',
      )
  const third = await run(asked)
  t.ok(same(first.logits, third.logits))
  t.same(third.plan, first.plan)
  const plain = model.session()
  await plain.forward(asked)
  t.equal(plain.stats.prompt.cached, 20, "rows after a patch that methods saw are no one else's")
})

t.test('every method of the tower, its plan applied again', async (t) => {
  const { model } = await load2(t)
  const film: Prompt = [{ ids: text }, { video: [1, 2, 3, 4].map((seed) => picture(8, 8, seed)) }, { text: '?' }]
  const made = methods as unknown as Record<string, (options: object) => ReturnType<typeof methods.fastv>>
  for (const { acts, name, options } of methods.list()) {
    if (acts !== 'vision') continue
    const takesKeep = 'keep' in options
    const make = (keep: number) => (made[name] as (typeof made)['x'])(takesKeep ? { keep } : {})
    for (const prompt of [asked, film]) {
      const session = model.session({ methods: [make(0.5)] })
      const logits = await session.forward(prompt)
      t.notOk(logits.some(Number.isNaN), name)
      const { plan } = session
      const phases = name === 'mustDrop' ? ['vision', 'prefill'] : ['vision'] // which goes on in the decoder
      const cuts = plan.filter(({ action }) => !['join', 'carry', 'recall'].includes(action))
      t.ok(cuts.every(({ after, before }) => after < before && after > 0))
      t.ok(plan.every(({ phase }) => phases.includes(phase)))
      const replay = model.session({ plan })
      t.ok(same(await replay.forward(prompt), logits), `${name} again`)
      t.same(
        replay.plan.map(({ method, ...entry }) => entry),
        plan.map(({ method, ...entry }) => entry),
      )
      if (!takesKeep) continue
      const all = model.session({ methods: [make(1)] })
      t.ok(same(await all.forward(prompt), await model.session().forward(prompt)), `${name}: keep 1 changes no bit`)
    }
  }
})

t.test('fork, truncate, save, restore', async (t) => {
  const { model, path, tower } = await load2(t)
  const rest = randomIds(7, 9)
  const expected = async (prompt: Prompt) => model.session({ reuse: false }).forward(prompt)
  const session = model.session()
  await session.forward(asked)
  const twin = await session.fork()
  t.ok(same(await session.forward(rest), await twin.forward(rest)))
  session.truncate(30)
  t.equal(session.ids.length, 30)
  const half = await session.forward(rest)
  t.notOk(half.some(Number.isNaN))
  const file = join(scratch(t), 'session.bin')
  await twin.save(file)
  const restored = await model.restore(file)
  t.same(restored.ids, twin.ids)
  t.ok(same(await restored.forward(rest), await twin.forward(rest)))
  restored.truncate(36)
  t.ok(same(await restored.score(rest), await scored(model, asked, 36, rest)), 'the last patch is run again')
  t.same(tower.opened, [1])
  await session.reset()
  t.equal(session.ids.length, 0)
  t.ok(same(await session.forward(asked), await expected(asked)))
  const blind = await load(path, { vision: false })
  t.equal(blind.vision, null)
  t.match(await raised(() => blind.restore(file)), { code: 'ERR_FILE_FORMAT', message: /vision tower/ })
  await blind.close()
})

async function scored(model: Model, prompt: Prompt, tokens: number, ids: Int32Array): Promise<Float32Array> {
  const session = model.session()
  await session.forward(prompt)
  session.truncate(tokens)
  return session.score(ids)
}

t.test('sliding layers: rows that were given up are computed again, pictures too', async (t) => {
  const { model, tower } = await load2(t, {}, { architecture: 'gemma3' })
  const session = model.session({ reuse: false })
  await session.forward(asked)
  await session.forward(randomIds(40, 4))
  session.truncate(40)
  const again = await session.forward(randomIds(8, 5))
  const plain = model.session({ reuse: false })
  await plain.forward(asked, { logits: 'none' })
  plain.truncate(40)
  t.ok(same(again, await plain.forward(randomIds(8, 5))))
  t.same(tower.opened, [1])
})

t.test('a conversation with pictures', async (t) => {
  const { towers } = fakeVision()
  const template = `{% for m in messages %}<|im_start|>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}`
  for (const changes of [[], [['tokenizer.chat_template', 'string', template]]] as never[]) {
    const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ headSize: 32 }), changes)
    const model = await load(path, { vision: 'test/fixtures/vision/embedded.gguf' })
    const session = model.session()
    const ask = (content: Prompt & readonly object[]) =>
      session.generate([{ role: 'user', content }], { maxTokens: 3, ignoreEnd: true })
    await ask([{ image: cat }, { text: 'a <image> here' }] as never)
    const { ids } = session
    t.equal(ids.filter((id) => id < 0).length, 16)
    const before = model.tokenizer.decode(ids, { special: true })
    t.match(before, /a <image> here<\|im_end\|>/)
    t.equal(before.split('<image>').length, 2, 'what the user wrote stays, the placeholder goes')
    const place = ids.findIndex((id) => id < 0)
    t.match(model.tokenizer.decode(ids.subarray(0, place), { special: true }), /^<\|im_start\|>(user\n)?$/)
    await ask([{ text: 'and ' }, { image: dog }, { text: '?', droppable: true }] as never)
    t.equal(session.ids.filter((id) => id < 0).length, 32)
    t.same(session.ids.subarray(0, ids.length), ids, 'it goes on')
    const twin = await session.fork()
    await twin.generate([{ role: 'user', content: 'more' }], { maxTokens: 2, ignoreEnd: true })
    t.equal(towers.at(-1)?.opened.length, 2)
    const file = join(scratch(t), 'talk.bin')
    await session.save(file)
    const restored = await model.restore(file)
    const more = [{ role: 'user', content: [{ image: dog }, { text: 'more' }] }]
    const [one, other] = [session, restored].map((each) => each.generate(more, { maxTokens: 2, ignoreEnd: true }))
    t.same((await one)?.ids, (await other)?.ids)
    t.same(restored.ids, session.ids)
    t.equal(restored.ids.filter((id) => id < 0).length, 48)
    await model.close()
  }
})

t.test('what does not fit is said before there is work', async (t) => {
  const { model, path, tower } = await load2(t)
  const session = model.session({ contextLength: 100 })
  const many = Array.from({ length: 40 }, () => ({ image: cat }))
  t.match(await raised(() => session.forward(many)), { code: 'ERR_CONTEXT_FULL', message: /at most 100 rows/ })
  t.same(tower.opened, [])
  const wide = model.session({ contextLength: 1000 })
  await wide.forward(many, { logits: 'none' })
  t.equal(wide.stats.prompt.tokens, 640)
  t.same(tower.opened, [1])
  const bytes = session.forward([{ image: Buffer.from('no picture') }])
  t.match(await raised(() => bytes), { code: 'ERR_FILE_FORMAT' })
  t.equal(session.ids.length, 0)
  t.throws(() => session.stream([{ image: 3 }] as never), TypeError)
  t.throws(() => session.stream([{ image: { ...cat, width: 21 } }]), RangeError)
  t.throws(() => session.stream([{ image: { ...cat, channels: 2 } }] as never), RangeError)
  t.throws(() => session.stream([{ image: { ...cat, data: [1] } }] as never), TypeError)
  t.throws(() => session.stream([{ video: [] }]), RangeError)
  t.throws(() => session.stream([{ video: 3 }] as never), TypeError)
  t.throws(() => session.stream(Int32Array.of(-5)), RangeError, 'ids below 0 are not for users')
  const { towers } = fakeVision({ outputSize: 48 })
  t.match(await raised(() => load(path, { vision: 'test/fixtures/vision/embedded.gguf' })), {
    code: 'ERR_FILE_FORMAT',
    message: /rows of 64 numbers.*have 48/,
  })
  t.equal(towers.length, 1)
})

t.test('an abort stops the tower', async (t) => {
  const { model, tower } = await load2(t, { layers: 5000 })
  const session = model.session()
  const stop = new AbortController()
  const running = raised(() => session.forward(asked, { signal: stop.signal }))
  while (tower.opened.length === 0) await new Promise((next) => setTimeout(next, 1))
  stop.abort(new Error('enough'))
  t.equal((await running).message, 'enough')
  t.equal(session.ids.length, 0)
  t.equal(tower.glances[0]?.closed, true)
  const closing = raised(() => session.forward(asked))
  while (tower.opened.length === 1) await new Promise((next) => setTimeout(next, 1))
  await session.close()
  t.match(await closing, { code: 'ERR_CLOSED' })
})

t.test('four patches to a row: methods act behind the projector', async (t) => {
  const { model } = await load2(t, { pool: 2, projector: 'pixelShuffle', classToken: false })
  const last = defineMethod({
    name: 'last',
    acts: 'vision',
    looks: { at: 'vision', part: 'decoder' },
    decide: (seen) => ({ action: 'dropPatches', layer: 2, kept: (seen as VisionSeen).sources.slice(-2) }),
  })
  const session = model.session({ methods: [last()] })
  await session.forward(asked)
  t.equal(session.ids.length, 20 + 4 + 9)
  t.match(session.plan, [{ part: 'decoder', before: 4, after: 2, kept: [22, 23] }])
})

t.test('layer methods thin patches', async (t) => {
  const { model } = await load2(t)
  const session = model.session({ methods: [methods.fastv({ keep: 0.25 })] })
  await session.forward(asked)
  const [entry] = session.plan
  t.match(entry, { phase: 'prefill', layer: 2, action: 'drop', before: 45, after: 33 })
  const both: Session = model.session({ methods: [most(2, 'projector', 8), methods.fastv({ keep: 0.25 })] })
  await both.forward(asked)
  t.match(both.plan, [
    { phase: 'vision', after: 8 },
    { phase: 'prefill', before: 37, after: 33 },
  ])
  t.equal(tinyVision.pool, 1)
})
