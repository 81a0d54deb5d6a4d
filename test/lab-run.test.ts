// Methods against the full cache on a tiny model: what is measured is what the session gives.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Calibration, calibrate, compare, type Method, methods } from '../lib/index.js'
import { withKeep } from '../lib/lab/contenders.js'
import { judge } from '../lib/lab/judge.js'
import { caseOf, runCase } from '../lib/lab/run.js'
import { taskOf } from '../lib/lab/tasks/index.js'
import { watchOf } from '../lib/lab/watch.js'
import { loadTiny, raised } from './engine.js'
import { scratch } from './model-fixture.js'

const text = 'the sea is wide and the wind is cold and we sail on. '.repeat(20)
const small = { lengths: [120], depths: 1, seeds: 2, keep: [0.5] } as const

t.test('the answer is scored after compression of what came before it', async (t) => {
  const { model } = await loadTiny(t)
  const snapkv = { name: 'mine', methods: [methods.snapkv({ keep: 0.3, window: 8 })], sweep: false }
  const prompts = [
    { prompt: 'hello world, the wind is cold.'.repeat(3), question: ' What is cold?', answer: ' the wind' },
  ]
  for (const question of ['after', 'before'] as const) {
    const { cases } = await compare(model, { methods: [snapkv], keep: [0.5], tasks: ['prompts'], prompts, question })
    const mine = cases.find(({ method }) => method === 'mine')
    const one = await caseOf(model, taskOf('prompts', { prompts }), { length: 0, depth: 0.5, seed: 1 }, question)
    t.equal(question === 'after' ? one.first.length - one.tokens : one.second.length - 1, 0)
    const session = model.session({ methods: snapkv.methods })
    await session.forward(one.first, { logits: 'none' })
    t.equal(session.stats.kv.bytes, mine?.bytes, 'bytes of the allocator')
    await session.forward(one.second, { logits: 'none' })
    const twin = model.session({ methods: snapkv.methods })
    await twin.forward(one.first, { logits: 'none' })
    const scores = (await twin.score(Int32Array.from([...one.second, ...one.answer]))).slice(one.second.length)
    const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length
    t.ok(Math.abs(mean - (mine?.logprob ?? 0)) < 1e-4, `${mean} ${mine?.logprob}`)
    t.match(mine, { query: question, keep: null, counted: Boolean })
  }
})

t.test('the ceiling, the floors, and a method that drops nothing', async (t) => {
  const { model } = await loadTiny(t)
  const all = { name: 'all', methods: [methods.snapkv({ keep: 1 })], sweep: false }
  const found = await compare(model, { ...small, methods: [all, methods.h2o], tasks: ['text', 'needle'], text })
  t.same([...new Set(found.rows.map(({ method }) => method))], ['full', 'random', 'recent', 'all', 'h2o'])
  t.same(
    [...new Set(found.rows.map(({ query, task }) => `${task} ${query}`))],
    ['text none', 'needle after', 'needle before'],
  )
  for (const { kl, method, query, share, top1, counted, cases } of found.rows.filter(({ task }) => task === 'text')) {
    t.same([query, cases, counted], ['none', 2, 2])
    if (method === 'full' || method === 'all') t.same([kl.mean, top1.mean, share], [0, 1, 1], method)
    else t.ok(kl.mean > 0 && share < 0.8, `${method}: ${kl.mean} at ${share}`)
  }
  const again = await compare(model, { ...small, methods: [all, methods.h2o], tasks: ['text', 'needle'], text })
  t.same(again.cases, found.cases, 'the same every time')
  t.doesNotThrow(() => JSON.stringify(found))
  t.ok(found.kept.every(({ plan, tokens }) => plan.length > 0 && tokens > 0))
})

t.test('a context that is read once for all budgets gives what each budget gives alone', async (t) => {
  const { model } = await loadTiny(t)
  const late = [methods.snapkv({ window: 4 }), methods.h2o(), methods.streamingLlm(), methods.adaKv(), methods.ems()]
  const some = [...late, methods.chain(methods.keyDiff(), methods.lagKv({ lag: 8 })), methods.fastv({ layer: 1 })]
  const keep = [0.5, 0.2]
  const mixes = some.map((method, i) => ({ name: `${i}`, methods: [method] }))
  const { cases } = await compare(model, { ...small, methods: mixes, keep, tasks: ['text'], text })
  const one = await caseOf(model, taskOf('text', { text }), { length: 120, depth: 0.5, seed: 1 }, 'none')
  const full = await runCase(model, one, { kv: 'f16', methods: [] })
  for (const [i, method] of some.entries()) {
    for (const share of keep) {
      const alone = await runCase(model, one, { kv: 'f16', methods: [withKeep(method, share)] })
      const want = { bytes: alone.bytes, ...judge(full.reading, alone.reading, one.answer) }
      const got = cases.find((made) => made.seed === 1 && made.method === `${i}` && made.keep === share)
      t.match(got, want, `${method.label} ${share}`)
    }
  }
})

t.test('methods that are watched together decide nothing before the end of a prompt', async (t) => {
  const { model } = await loadTiny(t)
  const shape = { ...model.config, rowBytes: 0 }
  const budgets = (make: (keep: number) => Method) => [[make(0.5)], [make(0.25)]]
  t.ok(
    watchOf(
      budgets((keep) => methods.tova({ keep })),
      shape,
    ),
  )
  t.same(
    watchOf(
      budgets((keep) => methods.h2o({ keep })),
      shape,
    )?.summed,
    Array.from({ length: model.config.layers }, (_, layer) => layer),
  )
  const not = { alone: [[methods.tova()]], none: [[], []], two: [[methods.tova(), methods.fastv()], [methods.tova()]] }
  for (const [name, lists] of Object.entries(not)) t.equal(watchOf(lists, shape), undefined, name)
  for (const make of [
    (keep: number) => methods.fastv({ keep, layer: 1 }),
    () => methods.zipVl(),
    () => methods.llmDrop({ layers: [1] }),
  ])
    t.equal(watchOf(budgets(make), shape), undefined)
})

t.test('cases that the full cache does not answer are not tried with methods', async (t) => {
  const { model } = await loadTiny(t)
  const { cases, rows } = await compare(model, { ...small, tasks: ['needle'], question: 'after' })
  const missed = cases.filter(({ counted }) => !counted)
  t.ok(missed.length > 0)
  t.ok(missed.every(({ method }) => method === 'full'))
  t.match(rows[0], { method: 'full', cases: 2, counted: 2 - missed.length })
})

t.test('progress, an abort, misuse', async (t) => {
  const { model } = await loadTiny(t)
  const seen: number[] = []
  const options = { ...small, tasks: ['text'], text }
  await compare(model, { ...options, onProgress: ({ done, total }) => seen.push(done / total) })
  t.same([seen.length, seen[0], seen.at(-1)], [2 * 5 + 1, 0, 1])
  const stopped = new Error('enough')
  t.equal(await raised(() => compare(model, { ...options, signal: AbortSignal.abort(stopped) })), stopped)
  const wrong: [object, string, RegExp][] = [
    [{ keep: [2] }, 'RangeError', /`keep` but received 2/],
    [{ tasks: ['magic'] }, 'TypeError', /received "magic"/],
    [{ tasks: [] }, 'TypeError', /list that is not empty/],
    [{ lengths: [2.5] }, 'RangeError', /`lengths`/],
    [{ seeds: '3' }, 'TypeError', /`seeds`/],
    [{ question: 'never' }, 'TypeError', /'after', 'before' or 'both'/],
    [{ methods: [methods.random] }, 'TypeError', /names that differ/],
    [{ nothing: 1 }, 'TypeError', /one of the options/],
    [{ kv: ['q3'] }, 'TypeError', /`kv`/],
  ]
  for (const [given, name, message] of wrong)
    t.match(await raised(() => compare(model, { ...options, ...given })), { name, message })
})

t.test('calibrate picks the smallest cache within the bound', async (t) => {
  const { model } = await loadTiny(t)
  const options = {
    text,
    length: 120,
    seeds: 2,
    methods: [methods.snapkv({ window: 8 }), methods.h2o()],
    keep: [0.75, 0.25],
  }
  const loose = await calibrate(model, { ...options, quality: { maxKl: 100 } })
  t.equal(loose.share, Math.min(...loose.tried.map(({ share }) => share)))
  t.match(loose.methods, [{ method: String, options: { keep: 0.25 } }])
  const strict = await calibrate(model, { ...options, quality: { maxKl: 0 } })
  t.same([strict.methods, strict.share, strict.kl.mean], [[], 1, 0])
  const middle = [...loose.tried].sort((a, b) => a.kl.mean - b.kl.mean)[2]?.kl.mean as number
  const some = await calibrate(model, { ...options, quality: { maxKl: middle } })
  t.ok(some.kl.mean <= middle)
  for (const { kl, share } of some.tried) t.ok(kl.mean > middle || share >= some.share)
  const quantized = await calibrate(model, { ...options, methods: [], kv: ['f32', 'f16'], quality: { maxKl: 1 } })
  t.match(quantized, { methods: [], kv: { keys: 'f16', values: 'f16' } })
  t.match(await raised(() => calibrate(model, { ...options, quality: { maxKl: -1 } })), { name: 'RangeError' })
  t.match(await raised(() => calibrate(model, { quality: { maxKl: 1 } })), { name: 'TypeError' })
})

t.test('a session takes what was found', async (t) => {
  const { model } = await loadTiny(t)
  const file = join(scratch(t), 'found.json')
  const prompts = [text.slice(0, 300)]
  const quality = { maxKl: 100 }
  const mix = { name: 'all', methods: [methods.every(4, methods.guard(methods.snapkv({ window: 4 }), 1))] }
  const found = await calibrate(model, { prompts, quality, methods: [mix], keep: [0.25], kv: ['f32'], file })
  const read = JSON.parse(readFileSync(file, 'utf8')) as Calibration
  t.same(read, JSON.parse(JSON.stringify(found)))
  const session = model.session({ quality: read })
  await session.forward(text, { logits: 'none' })
  const tokens = session.ids.length
  t.same(session.stats.kv.layers[0]?.rows, [Math.ceil(tokens / 4), Math.ceil(tokens / 4)])
  t.throws(() => model.session({ quality: read, methods: [] }), { name: 'TypeError', message: /one of them/ })
  t.throws(() => model.session({ quality: { kind: 'x' } as never }), {
    name: 'TypeError',
    message: /what calibrate\(\) gives/,
  })
  const { model: other } = await loadTiny(t, { layers: 2 })
  t.throws(() => other.session({ quality: read }), { code: 'ERR_UNSUPPORTED', message: /with 2 layers/ })
})
