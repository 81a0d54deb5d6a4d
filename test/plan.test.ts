import { test } from 'tap'
import { type Decision, makeSchedule, methodFromPlan, methods, type Seen } from '../lib/methods/index.js'
import { checkDecision, entryOf, parsePlan } from '../lib/plan.js'
import { cacheSeen, layerSeen, randomCache, randomLayer, shape, span } from './methods/seen.js'

const { knorm } = methods

const layer = layerSeen({ layer: 3, rows: 8, droppable: Int32Array.of(2, 3, 5), sources: span(10, 18) })
const cache = cacheSeen({
  layer: 1,
  sources: [
    [0, 2, 4, 6],
    [1, 3, 5],
  ],
})
const session: Seen = { at: 'session', shape }

const drop = (kept: unknown, more: object = {}) =>
  ({ action: 'drop', layer: 3, kept, positions: 'keep', ...more }) as Decision
const merge = (into: unknown, more: object = {}) =>
  ({ action: 'merge', layer: 3, into, positions: 'keep', ...more }) as Decision
const evict = (keptPerHead: unknown, more: object = {}) =>
  ({ action: 'evict', layer: 1, keptPerHead, ...more }) as Decision
const rule = (given: object) => ({ action: 'rule', layer: 0, rule: given }) as Decision

test('what fits passes', async (t) => {
  const fine: [Decision, Seen][] = [
    [drop([10, 11, 14, 16, 17]), layer],
    [drop([10, 11, 12, 13, 14, 15, 16, 17], { positions: 'repack' }), layer],
    [merge([10, 11, 13, 13, 14, 15, 16, 17]), layer],
    [merge([10, 11, 15, 15, 14, 15, 16, 17]), layer],
    [evict([[0], [1, 5]]), cache],
    [evict([Int32Array.of(2, 6), Int32Array.of(3)]), cache],
    [rule({ kind: 'window', sinks: 4, tokens: 64, share: 0 }), session],
    [rule({ kind: 'mass', recent: 0.5, tokens: 0, share: 0.25 }), session],
    [{ action: 'skip', layer: 7, what: 'mlp' }, session],
  ]
  for (const [decision, seen] of fine) t.doesNotThrow(() => checkDecision(decision, seen, 'mine'))
})

test('what does not fit is one sentence that names the method', async (t) => {
  const wrong: [Decision, Seen, RegExp][] = [
    [drop([10, 11, 14, 16]), layer, /row 17 to stay, which is not droppable/],
    [drop([10, 14, 16, 17]), layer, /row 11 to stay/],
    [drop([]), layer, /at least one row before layer 3 but received none/],
    [drop([10, 11, 14, 16, 17, 18]), layer, /rows that are there before layer 3 but received 18/],
    [drop([9, 10, 11, 14, 16, 17]), layer, /but received 9/],
    [drop([10, 11, 11, 14, 16, 17]), layer, /ascending rows before layer 3 but received 11 after 11/],
    [drop([10, 14, 11, 16, 17]), layer, /11 after 14/],
    [drop([10, 11, 14, 16.5, 17]), layer, /16.5/],
    [drop([10, 11, Number.NaN, 14, 16, 17]), layer, /NaN/],
    [drop(undefined), layer, /indices of rows/],
    [drop([10], { positions: 'lost' }), layer, /keep, repack/],
    [drop([10], { layer: 4 }), layer, /for layer 3, which was seen, but received one for layer 4/],
    [drop([10], { layer: 8 }), layer, /a layer from 0 to 7 but received 8/],
    [drop([10]), cache, /'drop' where layer is seen but received it at 'prompt'/],
    [merge([10, 11, 13]), layer, /8 rows before layer 3 but received 3/],
    [merge([10, 11, 13, 15, 14, 15, 16, 17]), layer, /rows that hold themselves .* but received 13/],
    [merge([10, 11, 99, 13, 14, 15, 16, 17]), layer, /received 99/],
    [merge([10, 11, 11, 13, 14, 15, 16, 17]), layer, /among droppable rows but received row 12 into 11/],
    [merge([12, 11, 12, 13, 14, 15, 16, 17]), layer, /row 10 into 12/],
    [merge(undefined), layer, /received undefined/],
    [evict([[0]]), cache, /the rows of 2 KV heads of layer 1 but received 1/],
    [evict([[0], []]), cache, /at least one row of layer 1 head 1/],
    [evict([[0], [1, 2]]), cache, /rows that are there of layer 1 head 1 but received 2/],
    [evict([[0], [1, 7]]), cache, /received 7/],
    [evict([[2, 0], [1]]), cache, /0 after 2/],
    [evict([[0], [1]]), layer, /'evict' where prompt or decode is seen but received it at 'layer'/],
    [rule({ kind: 'ring', tokens: 4, share: 0 }), session, /window, mass/],
    [rule({ kind: 'window', sinks: 4, tokens: 4, share: 0.5 }), session, /either tokens or a share/],
    [rule({ kind: 'window', sinks: 4, tokens: 0, share: 0 }), session, /either tokens or a share/],
    [rule({ kind: 'window', sinks: 4, tokens: 1.5, share: 0 }), session, /either tokens or a share/],
    [rule({ kind: 'window', sinks: -1, tokens: 4, share: 0 }), session, /sinks but received -1/],
    [rule({ kind: 'mass', recent: 2, tokens: 4, share: 0 }), session, /recent rows but received 2/],
    [{ action: 'skip', layer: 7, what: 'head' } as never, session, /attention, mlp, block/],
    [{ action: 'explode', layer: 7 } as never, session, /an action that is known but received "explode"/],
    [null as never, session, /a decision but received null/],
    [{ action: 'skip', layer: -1, what: 'mlp' }, session, /received -1/],
  ]
  for (const [decision, seen, message] of wrong) {
    t.throws(
      () => checkDecision(decision, seen, 'mine'),
      { code: 'ERR_PLAN', message: /^\[mine\] expected .* but received .*/ },
      String(message),
    )
    t.throws(() => checkDecision(decision, seen, 'mine'), { message })
  }
})

test('entries say what was done, in plain data', async (t) => {
  t.strictSame(entryOf(drop(Int32Array.of(10, 11, 14, 16, 17)), layer, 'mine'), {
    phase: 'prefill',
    step: 0,
    layer: 3,
    method: 'mine',
    action: 'drop',
    before: 8,
    after: 5,
    kept: [10, 11, 14, 16, 17],
    positions: 'keep',
  })
  t.match(entryOf(merge([10, 11, 13, 13, 14, 15, 16, 17]), layer, 'mine'), {
    action: 'merge',
    before: 8,
    after: 7,
    into: [10, 11, 13, 13, 14, 15, 16, 17],
  })
  t.strictSame(
    entryOf(evict([[0, 6], [5]], { method: 'inner' }), { ...cache, at: 'decode', step: 9 }, 'mine', { repack: true }),
    {
      phase: 'decode',
      step: 9,
      layer: 1,
      method: 'inner',
      action: 'evict',
      before: 7,
      after: 3,
      keptPerHead: [[0, 6], [5]],
      positions: 'repack',
    },
  )
  t.match(entryOf(rule({ kind: 'window', sinks: 1, tokens: 9, share: 0 }), session, 'mine'), {
    phase: 'prompt',
    step: 0,
    action: 'evict',
    before: 0,
    after: 0,
    rule: { sinks: 1 },
  })
  t.match(entryOf({ action: 'skip', layer: 2, what: 'block' }, session, 'mine'), {
    phase: 'prompt',
    action: 'skip',
    what: 'block',
  })
})

test('a decision that removes nothing leaves no entry', async (t) => {
  t.equal(entryOf(drop([10, 11, 12, 13, 14, 15, 16, 17]), layer, 'mine'), null)
  t.equal(entryOf(merge(span(10, 18)), layer, 'mine'), null)
  t.equal(
    entryOf(
      evict([
        [0, 2, 4, 6],
        [1, 3, 5],
      ]),
      cache,
      'mine',
    ),
    null,
  )
})

test('scores only with trace', async (t) => {
  const scored = evict([[0], [1]], { scores: [Float32Array.of(4, 3, 2, 1), Float32Array.of(3, 2, 1)] })
  t.notOk('scores' in (entryOf(scored, cache, 'mine') ?? {}))
  t.same(entryOf(scored, cache, 'mine', { trace: true })?.scores, [4, 3, 2, 1, 3, 2, 1])
  t.same(entryOf(drop([10, 11, 14, 16, 17], { scores: [0.5, 1] }), layer, 'mine', { trace: true })?.scores, [0.5, 1])
})

test('a plan that was given back is read before it is used', async (t) => {
  const entry = { phase: 'prefill', step: 0, layer: 3, method: 'x', action: 'drop', before: 8, after: 1, kept: [3] }
  t.same(parsePlan([entry]), [entry])
  t.not(parsePlan([entry])[0], entry)
  for (const plan of [42, 'plan', {}, null])
    t.throws(() => parsePlan(plan), { name: 'TypeError', message: /array of plan entries for `plan`/ })
  t.throws(() => parsePlan([3]), { name: 'TypeError', message: /a plan entry for `plan\[0\]`/ })
  const wrong: [object, RegExp][] = [
    [{ phase: 'lunch' }, /\[plan\[0\]\] expected one of prompt, vision, prefill, decode/],
    [{ action: 'explode' }, /'action'/],
    [{ step: -1 }, /whole number for step but received -1/],
    [{ layer: 1.5 }, /whole number for layer/],
    [{ before: undefined }, /whole number for before but received undefined/],
    [{ kept: undefined }, /kept of 'drop' but received none/],
    [{ action: 'evict' }, /keptPerHead of 'evict'/],
    [{ action: 'merge' }, /into of 'merge'/],
  ]
  for (const [change, message] of wrong)
    t.throws(() => parsePlan([{ ...entry, ...change }]), { code: 'ERR_PLAN', message })
})

test('a plan on other tokens or another model is ERR_PLAN', async (t) => {
  const seen = randomLayer(2, 50, span(4, 44), 7)
  const plan = makeSchedule([methods.fastv()], shape)
    .decide(seen)
    .map(({ entry }) => entry)
  const replay = makeSchedule([methodFromPlan(plan)], shape)
  t.equal(replay.decide(seen).length, 1)
  t.throws(() => replay.decide(randomLayer(2, 30, span(4, 24), 7)), {
    code: 'ERR_PLAN',
    message: /50 rows for 'drop' at step 0, layer 2, of the plan but received 30/,
  })
  t.throws(() => replay.decide(randomLayer(2, 50, span(4, 14), 7)), {
    code: 'ERR_PLAN',
    message: /which is not droppable/,
  })
  t.same(replay.decide({ ...seen, step: 1 }), [], 'another prompt')
  t.throws(() => makeSchedule([methodFromPlan(plan)], { ...shape, layers: 2 }), {
    code: 'ERR_PLAN',
    message: /layer 2/,
  })
  t.throws(() => makeSchedule([methodFromPlan(plan), methods.fastv()], shape), { code: 'ERR_METHOD_CONFLICT' })
})

test('a plan of several steps and methods', async (t) => {
  const list = [methods.fastv(), methods.every(2, methods.chain(methods.random({ keep: 0.6 }), knorm({ keep: 0.3 })))]
  const seen: Seen[] = [
    session,
    randomLayer(2, 50, span(4, 44), 7),
    randomCache(100, 8, { layer: 3 }),
    randomCache(120, 9, { layer: 3, at: 'decode', step: 4 }),
  ]
  const run = (schedule: ReturnType<typeof makeSchedule>) =>
    seen.flatMap((one) => schedule.decide(one).map(({ entry }) => entry))
  const plan = run(makeSchedule(list, shape))
  t.equal(plan.length, 5)
  t.same(run(makeSchedule([methodFromPlan(JSON.parse(JSON.stringify(plan)))], shape)), plan)
  t.same(methodFromPlan([]).looks(shape), [])
})
