// Profiles: what a recording says, worked by hand, and what a tiny model tells.
import t from 'tap'
import { kernels, Profile, profile, TokensieveError } from '../lib/index.js'
import { loadTiny } from './engine.js'

const NAMES = ['stage', 'layer', 'matmul', 'gate', 'wait']
const [STAGE, LAYER, MATMUL, GATE, WAIT] = [0, 1, 2, 3, 4]
const [CALL, IN_LAYER, KERNEL, WORK, WAITS] = [0, 1, 2, 3, 4]

/** kind, name, thread, layer, begin, end, threads, rows, columns */
type Fields = [number, number, number, number, number, number, number, number, number]

/**
 * 0 to 100 ms. Caller (thread 5): a call 10..90, layer 0 in it 20..80, a matmul 20..60 of two threads (own tasks 22..50,
 * then a wait), a gate 60..70 alone. Worker (thread 6): waits 12..25, works on the matmul 25..59, waits 59..90.
 */
const RECORDED: Fields[] = [
  [WAITS, WAIT, 5, 0, 50, 60, 1, 0, 0],
  [WORK, MATMUL, 5, 0, 22, 50, 1, 0, 0],
  [KERNEL, MATMUL, 5, 0, 20, 60, 2, 48, 32],
  [KERNEL, GATE, 5, 0, 60, 70, 2, 0, 0],
  [IN_LAYER, LAYER, 5, 0, 20, 80, 1, 0, 0],
  [CALL, STAGE, 5, -1, 10, 90, 1, 0, 0],
  [WAITS, WAIT, 6, -1, 12, 25, 1, 0, 0],
  [WORK, MATMUL, 6, 0, 25, 59, 1, 0, 0],
  [WAITS, WAIT, 6, -1, 59, 90, 1, 0, 0],
]
const made = (events: Fields[]) =>
  new Profile({ time: 100, lost: 0, names: NAMES, events: Float64Array.from(events.flat()) })

t.test('kernels, by hand', async (t) => {
  const profiled = made(RECORDED)
  t.equal(profiled.threads, 2)
  t.equal(profiled.called, 80)
  t.same(profiled.kernels(), [
    { name: 'matmul 48×32', calls: 1, time: 40, busy: 28 + 34, waiting: 18, share: 0.4 },
    { name: 'gate', calls: 1, time: 10, busy: 10, waiting: 10, share: 0.1 },
    { name: 'between kernels', calls: 1, time: 80 - 50, busy: 30, waiting: 30, share: 0.3 },
    { name: 'between calls', calls: 0, time: 20, busy: 0, waiting: 40, share: 0.2 },
  ])
})

t.test('layers and threads, by hand', async (t) => {
  const profiled = made(RECORDED)
  t.same(profiled.layers(), [
    { layer: 0, time: 60, kernels: { other: 10, matmul: 40, gate: 10 } },
    { layer: null, time: 20, kernels: { other: 20 } },
  ])
  t.same(profiled.threadTimes(), [
    { name: 'caller', busy: 70, waiting: 10, idle: 20 },
    { name: 'worker 1', busy: 34, waiting: 44, idle: 22 },
  ])
})

t.test('calls that take turns on several of Node’s threads are one caller; those at once are not', async (t) => {
  const call = (thread: number, begin: number, end: number): Fields => [CALL, STAGE, thread, -1, begin, end, 1, 0, 0]
  t.same(
    made([call(1, 0, 10), call(2, 20, 30)])
      .threadTimes()
      .map(({ name, busy }) => [name, busy]),
    [['caller', 20]],
  )
  t.same(
    made([call(1, 0, 10), call(2, 5, 30)])
      .threadTimes()
      .map(({ name, busy }) => [name, busy]),
    [
      ['caller', 10],
      ['caller 2', 25],
    ],
  )
  t.same(
    made([])
      .kernels()
      .map(({ name, share }) => [name, share]),
    [
      ['between kernels', 0],
      ['between calls', 1],
    ],
  )
})

/** Spans of one line: any two are apart or one holds the other. */
function nest(spans: readonly { ts?: number; dur?: number }[]): boolean {
  const ends: number[] = []
  return spans.every(({ dur = 0, ts = 0 }) => {
    while (ends.length > 0 && (ends.at(-1) as number) <= ts) ends.pop()
    const fits = ends.length === 0 || ts + dur <= (ends.at(-1) as number) + 1e-6
    ends.push(ts + dur)
    return fits
  })
}

t.test('a trace for chrome://tracing', async (t) => {
  const { traceEvents } = JSON.parse(JSON.stringify(made(RECORDED).chromeTrace({ id: 3, name: 'by hand' })))
  t.same(
    traceEvents.filter(({ ph }: { ph: string }) => ph === 'M').map(({ args }: { args: { name: string } }) => args.name),
    ['by hand', 'caller', 'worker 1'],
  )
  const spans = traceEvents.filter(({ ph }: { ph: string }) => ph === 'X')
  t.same(spans[0], { ph: 'X', name: 'stage', cat: 'call', pid: 3, tid: 0, ts: 10000, dur: 80000, args: {} })
  t.ok(spans.some(({ name }: { name: string }) => name === 'layer 0'))
  for (const tid of [0, 1]) t.ok(nest(spans.filter((span: { tid: number }) => span.tid === tid)), `line ${tid}`)
})

t.test('a tiny model tells of every layer and kernel, and counts the same', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32, layers: 3 })
  const ids = Int32Array.from({ length: 40 }, (_, i) => 2 + (i % 20))
  const plain = model.session({ contextLength: 64 })
  const expected = await plain.forward(ids)
  const session = model.session({ contextLength: 64 })
  const { profile: told, result } = await profile(() => session.forward(ids))
  t.same(result, expected, 'the same bits')
  t.equal(told.lost, 0)
  const names = new Set(told.events.filter(({ kind }) => kind === 'kernel').map(({ name }) => name))
  for (const name of ['embedding', 'rms_norm', 'matmul', 'rope', 'append', 'attention', 'matmul_gate'])
    t.ok(names.has(name), name)
  const calls = told.events.filter(({ kind, name }) => kind === 'call' && name === 'stage')
  t.equal(calls.length, 1)
  const layers = told.events.filter(({ kind }) => kind === 'layer')
  t.same(
    layers.map(({ layer }) => layer),
    [0, 1, 2],
  )
  for (const { begin, end } of layers) t.ok(begin >= (calls[0]?.begin ?? 0) && end <= (calls[0]?.end ?? 0))
  for (const { begin, end } of told.events) t.ok(begin >= 0 && end >= begin && end <= told.time)
  const { traceEvents } = told.chromeTrace()
  const tids = new Set(traceEvents.map(({ tid }) => tid))
  for (const tid of tids)
    t.ok(nest(traceEvents.filter((event) => event.ph === 'X' && event.tid === tid)), `line ${tid}`)
  const all = told.kernels().reduce((sum, { time }) => sum + time, 0)
  t.ok(Math.abs(all - told.time) < 1e-6 * told.time + 1e-9, 'the rows of the table are the whole time')
  await session.close()
  await plain.close()
})

t.test('one at a time, and off again after an error', async (t) => {
  await profile(async () => {
    await t.rejects(
      profile(async () => {}),
      { name: 'TokensieveError', code: 'ERR_UNSUPPORTED' },
    )
  })
  await t.rejects(
    profile(() => {
      throw new TokensieveError('ERR_CLOSED', 'on purpose')
    }),
    { code: 'ERR_CLOSED' },
  )
  t.same((await profile(() => 5)).result, 5)
  await t.rejects(profile(5 as never), { name: 'TypeError', message: /a function for `work` but received 5/ })
})

t.test('limits of this machine', async (t) => {
  const isas = new Set(kernels.backends().map(({ isa }) => isa))
  for (const backend of ['cpu', ...isas]) {
    const { bf16, f32, int8, isa, read, threads } = await kernels.limits({ backend, threads: 1, bytes: 2 ** 22 })
    t.equal(isa, backend === 'cpu' ? kernels.backends()[0]?.isa : backend)
    t.equal(threads, 1)
    t.equal(bf16 === null, !/bf16|reference/.test(isa), isa)
    for (const rate of [read, f32, int8, bf16]) if (rate) t.ok(rate.median > 0 && rate.best >= rate.median)
  }
  await t.rejects(kernels.limits({ threads: 0 }), { name: 'RangeError', message: /`threads` but received 0/ })
  await t.rejects(kernels.limits({ bytes: 5 }), { name: 'RangeError', message: /`bytes` but received 5/ })
  await t.rejects(kernels.limits({ backend: 'avx9' }), { code: 'ERR_DEVICE' })
})
