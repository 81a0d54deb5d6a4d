// The parts of the quality lab that compute: luck from seeds, tasks, measures, intervals, rows.
import t from 'tap'
import type { CaseResult } from '../lib/index.js'
import { Draw, seedOf } from '../lib/lab/draw.js'
import { judge, readingOf } from '../lib/lab/judge.js'
import { parsePrompts } from '../lib/lab/prompt-file.js'
import { bootstrap, quantile } from '../lib/lab/statistics.js'
import { summarize } from '../lib/lab/summary.js'
import { type Place, TASK_NAMES, type Task, taskOf } from '../lib/lab/tasks/index.js'
import { haystack, type Pair, randomPairs, threaded } from '../lib/lab/tasks/threads.js'

const close = (t: { ok(value: unknown, what: string): unknown }, a: number, b: number, what: string) =>
  t.ok(Math.abs(a - b) < 1e-9, `${what}: ${a}, ${b}`)

t.test('the same seed gives the same bytes, another one others', async (t) => {
  t.equal(new Draw(1).uuid(), new Draw(1).uuid())
  t.not(new Draw(1).uuid(), new Draw(2).uuid())
  t.match(new Draw(7).uuid(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.not(seedOf('needle', 12, 3), seedOf('needle', 1, 23))
  const draw = new Draw(3)
  const counts = new Array(5).fill(0)
  for (let i = 0; i < 5000; i++) counts[draw.below(5)]++
  for (const count of counts) t.ok(Math.abs(count - 1000) < 120, `${counts}`)
  t.same(new Draw(4).shuffled([1, 2, 3, 4, 5]).sort(), [1, 2, 3, 4, 5])
  for (let i = 0; i < 100; i++) t.match(draw.digits(5), /^[1-9]\d{4}$/)
})

t.test('UUID pairs: 80 characters each, threads that lead on', async (t) => {
  const pairs = randomPairs(new Draw(1), 25)
  t.equal(haystack(pairs).length, 2000)
  t.same(Object.entries(JSON.parse(haystack(pairs))), pairs)
  const made = threaded(pairs, [3, 9, 20])
  const of = (place: number) => made[place] as Pair
  t.same([of(9)[0], of(20)[0]], [of(3)[1], of(9)[1]])
  t.equal(of(20)[1], pairs[20]?.[1], 'the last value is its own')
})

/** Words as tokens. */
const words = (text: string) => (text.match(/\S+/g) ?? []).length
const inputs = {
  text: Array.from({ length: 400 }, (_, i) => `word${i}`).join(' '),
  prompts: [{ prompt: 'One. Two.', answer: ' Three.' }],
}

function sampleOf(task: Task, place: Place) {
  return task.make({ ...place, draw: new Draw(seedOf(task.name, place.seed)), tokens: words })
}

t.test('every task: near its length, the answer follows from the context', async (t) => {
  for (const name of TASK_NAMES) {
    const task = taskOf(name, inputs)
    const places = task.places({ lengths: [150, 300], depths: [0, 0.5, 1], seeds: 2 })
    t.ok(places.length > 0)
    for (const place of places) {
      const made = sampleOf(task, place)
      t.same(made, sampleOf(task, place), `${name}: the same again`)
      const tokens = words(made.context)
      if (name !== 'prompts')
        t.ok(tokens <= place.length + 8 && tokens > place.length - 40, `${name}: ${tokens} of ${place.length}`)
      t.ok((made.answer ?? '').length > 0, name)
      if (made.mark !== undefined) t.ok(made.context.includes(made.mark), name)
    }
  }
  t.throws(() => taskOf('magic', {}), { name: 'TypeError', message: /one of needle, .*but received "magic"/ })
  t.throws(() => taskOf('text', {}), TypeError)
  t.throws(() => taskOf('prompts', { prompts: [] }), TypeError)
})

t.test('needles lie where they should', async (t) => {
  const at = (depth: number) => {
    const { answer = '', context } = sampleOf(taskOf('needle', {}), { length: 400, depth, seed: 1 })
    return context.indexOf(answer) / context.length
  }
  t.ok(at(0) < 0.05 && Math.abs(at(0.5) - 0.5) < 0.05 && at(1) > 0.95)
  const { answer, context, question } = sampleOf(taskOf('multikey', {}), { length: 400, depth: 0.3, seed: 2 })
  t.equal(context.match(/The secret code of \w+ is \d{5}\./g)?.length, 8)
  const asked = /secret code of (\w+)\?/.exec(question)?.[1]
  t.match(context, `The secret code of ${asked} is${answer}.`)
})

t.test('tasks that are solved by following the text', async (t) => {
  const place = { length: 300, depth: 0.5, seed: 4 }
  const variables = sampleOf(taskOf('variables', {}), place)
  const set = new Map(
    [...variables.context.matchAll(/Set (\w+) = (\w+)\./g)].map(([, name = '', value = '']) => [name, value]),
  )
  let value = /What number is (\w+)\?/.exec(variables.question)?.[1] ?? ''
  while (set.has(value)) value = set.get(value) as string
  t.equal(variables.answer, ` ${value}`)
  const counting = sampleOf(taskOf('counting', {}), place)
  const counts = new Map<string, number>()
  for (const [word] of counting.context.matchAll(/\b[a-z]+\b/g)) counts.set(word, (counts.get(word) ?? 0) + 1)
  const [[first, most], [, second]] = [...counts].sort((a, b) => b[1] - a[1]) as [[string, number], [string, number]]
  t.equal(counting.answer, first)
  t.ok(most > 2.5 * second)
  const thread = sampleOf(taskOf('threadBack', {}), { ...place, length: 60 })
  const object = JSON.parse(thread.context) as Record<string, string>
  const key = /Key: "(.*)"/.exec(thread.question)?.[1] as string
  t.equal(thread.answer, object[object[key] as string])
  const keys = Object.keys(object)
  t.ok(keys.indexOf(object[key] as string) < keys.indexOf(key), 'backward')
  const repeated = sampleOf(taskOf('repetition', {}), place)
  const list = `${repeated.context}${repeated.answer}`.replace('Pattern: ', '').split(' ')
  for (let i = 24; i < list.length; i++) t.equal(list[i], list[i - 24])
  const text = sampleOf(taskOf('text', inputs), { ...place, seed: 2 })
  t.match(inputs.text, `${text.context}${text.answer}`)
})

t.test('measures, by hand', async (t) => {
  // Two answer tokens, three words in the vocabulary; a row before them and one after, which do not count.
  const logits = (rows: number[][]) => Float32Array.from(rows.flat(), Math.log)
  const full = readingOf(
    logits([
      [9, 9, 9],
      [0.5, 0.25, 0.25],
      [0.25, 0.5, 0.25],
      [9, 9, 9],
    ]),
    2,
    3,
  )
  const own = readingOf(
    logits([
      [1, 1, 1],
      [0.25, 0.5, 0.25],
      [0.25, 0.5, 0.25],
      [1, 1, 1],
    ]),
    2,
    3,
  )
  const found = judge(full, own, [0, 1])
  close(t, found.logprob, (Math.log(0.25) + Math.log(0.5)) / 2, 'log p')
  // KL of the first: .5 ln 2 + .25 ln .5 + 0
  t.ok(Math.abs(found.kl - (0.25 * Math.LN2) / 2) < 1e-6)
  t.same([found.top1, found.exact], [0.5, 0])
  t.match(judge(full, full, [0, 1]), { kl: 0, top1: 1, exact: 1 })
  t.equal(judge(full, full, [0, 2]).exact, 0)
})

t.test('intervals', async (t) => {
  t.same(
    [0, 0.25, 0.5, 1].map((share) => quantile([10, 20, 40], share)),
    [10, 15, 20, 40],
  )
  t.same(bootstrap([2, 2, 2]), { mean: 2, low: 2, high: 2 })
  t.same(bootstrap([3]), { mean: 3, low: 3, high: 3 })
  t.ok(Number.isNaN(bootstrap([]).mean))
  // Zeros and ones, 50 each: the standard error of the mean is .05, so 95 % lie within about .1.
  const { high, low, mean } = bootstrap(Array.from({ length: 100 }, (_, i) => i % 2))
  t.equal(mean, 0.5)
  t.ok(Math.abs(low - 0.4) < 0.02 && Math.abs(high - 0.6) < 0.02, `${low} ${high}`)
  t.same(bootstrap([1, 2, 3, 9]), bootstrap([1, 2, 3, 9]), 'the same every time')
})

function result(method: string, seed: number, logprob: number, rest: Partial<CaseResult> = {}): CaseResult {
  const place = { task: 'needle', query: 'after', length: 100, depth: 0.5, seed, tokens: 100, characters: 400 } as const
  const cost = { method, keep: 0.5, kv: 'f16', bytes: 50, share: 0.5 }
  return { ...place, ...cost, logprob, kl: 0.1, top1: 1, exact: 1, counted: true, ...rest }
}

t.test('rows: only what the full cache answers counts, chance is subtracted case by case', async (t) => {
  const cases = [
    result('random', 1, -2),
    result('random', 2, -4),
    result('random', 3, -100, { counted: false }),
    result('snapkv', 1, -1),
    result('snapkv', 2, -1),
    result('snapkv', 3, 0, { counted: false, exact: 0 }),
    result('snapkv', 1, -3, { query: 'before' }),
    result('snapkv', 1, -1, { keep: 0.25, bytes: 25 }),
  ]
  const rows = summarize(cases)
  t.same(
    rows.map(({ keep, method, query }) => [method, query, keep]),
    [
      ['random', 'after', 0.5],
      ['snapkv', 'after', 0.5],
      ['snapkv', 'before', 0.5],
      ['snapkv', 'after', 0.25],
    ],
  )
  t.match(rows[0], { cases: 3, counted: 2, logprob: { mean: -3 }, overRandom: undefined })
  t.match(rows[1], { logprob: { mean: -1 }, overRandom: { mean: 2, low: 1, high: 3 }, exact: { mean: 1 }, bytes: 50 })
  t.equal(rows[3]?.overRandom, undefined, 'chance was not run at this budget')
})

t.test('the effective length: three of four answers, up to there', async (t) => {
  const at = (length: number, ...exact: number[]) =>
    exact.map((one, i) => result('snapkv', i, -1, { length, exact: one }))
  const reach = (...cases: CaseResult[][]) => summarize(cases.flat())[0]?.effectiveLength
  t.equal(reach(at(100, 1, 1, 1, 1), at(200, 1, 1, 1, 0), at(400, 1, 1, 0, 0)), 200)
  t.equal(reach(at(400, 1, 1, 1, 1), at(200, 1, 0, 0, 0)), 0)
})

t.test('prompts in a file', async (t) => {
  t.same(parsePrompts('{"prompt":"a","answer":"b"}\n\n{"prompt":"c","question":"d"}\n', 'x'), [
    { prompt: 'a', answer: 'b' },
    { prompt: 'c', question: 'd' },
  ])
  t.same(parsePrompts('one\ntwo\n---\n\nthree\n', 'x'), [{ prompt: 'one\ntwo' }, { prompt: 'three' }])
  const bad = ['', '{"prompt":"a"}\nb', '{"answer":"a"}', '{"prompt":1}', '{"prompt":"a","more":"b"}', '{"prompt":""}']
  for (const text of bad)
    t.throws(() => parsePrompts(text, 'x'), { code: 'ERR_FILE_FORMAT', message: /^\[x(:\d)?\]/ }, text)
})
