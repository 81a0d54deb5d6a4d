// Where methods look in the tower, what they see there, what they may decide, and how that becomes a plan.
import { test } from 'tap'
import { ofPatches } from '../../lib/methods/gather.js'
import {
  type Decision,
  defineMethod,
  type LookAsked,
  makeSchedule,
  methodFromPlan,
  methods,
  type Seen,
} from '../../lib/methods/index.js'
import { bestOfCrops, evenly, visionMethod } from '../../lib/methods/vision-method.js'
import { checkDecision, entryOf, parsePlan } from '../../lib/plan.js'
import { crop, keptPatches, pictured, randomVision, shape, span, visionSeen } from './seen.js'

const mine = (looks: LookAsked | LookAsked[], name = 'mine', decide: () => Decision[] = () => []) =>
  defineMethod({ name, acts: 'vision', looks, decide })()
const most = visionMethod({
  name: 'most',
  title: '',
  paper: '',
  options: {},
  needs: () => [{ what: 'class', layer: 3 }],
  score: (seen) => seen.seen('class', 3),
})
const pair = [crop(2, 2, { kind: 'thumbnail' }), crop(2, 2, { kind: 'tile' })]
const drop = (kept: unknown, more: object = {}) => ({ action: 'dropPatches', layer: 4, kept, ...more }) as Decision
const merge = (into: unknown, more: object = {}) => ({ action: 'mergePatches', layer: 4, into, ...more }) as Decision

test('looks into the tower come in full', async (t) => {
  t.same(mine({ at: 'vision', part: 'projector' }).looks(pictured), [
    { at: 'vision', layer: 4, part: 'projector', needs: [] },
  ])
  t.same(mine({ at: 'vision', part: 'mlp', layer: 2, needs: [{ what: 'keys', layer: 2 }] }).looks(pictured), [
    { at: 'vision', layer: 2, part: 'mlp', needs: [{ what: 'keys', layer: 2 }] },
  ])
  t.same(mine({ at: 'vision', part: 'projector' }).looks(shape), [], 'a model without tower has nothing to look into')
  t.same(most().looks(shape), [])
  t.same(most({ keep: 1 }).looks(pictured), [])
})

test('looks that the tower does not have are one sentence', async (t) => {
  const wrong: [LookAsked, RegExp][] = [
    [{ at: 'vision', part: 'head' as never }, /one of attention, mlp, projector, decoder for `part of mine`/],
    [{ at: 'vision', part: 'mlp', layer: 4 }, /a block of the tower from 0 to 3 for `mine` but received 4/],
    [{ at: 'vision', part: 'mlp' }, /a block of the tower from 0 to 3 for `mine`/],
    [{ at: 'vision', part: 'decoder', layer: 2 }, /block 4 for `mine` but received 2/],
    [
      { at: 'vision', part: 'mlp', layer: 1, needs: [{ what: 'taste' as never, layer: 1 }] },
      /one of class, .* "taste"/,
    ],
    [
      { at: 'vision', part: 'attention', layer: 1, needs: [{ what: 'keys', layer: 1 }] },
      /a block that has run before the attention of block 1 for `needs of mine` but received 1/,
    ],
    [
      { at: 'vision', part: 'mlp', layer: 2, needs: [{ what: 'keyCosines', layer: 1 }] },
      /has run before the MLP of block 2 for `needs of mine` but received 1/,
    ],
    [
      { at: 'vision', part: 'projector', needs: [{ what: 'keys', layer: 4 }] },
      /has run before the projector for `needs of mine` but received 4/,
    ],
  ]
  for (const [look, message] of wrong) t.throws(() => mine(look).looks(pictured), { message })
  const blind = { ...pictured, vision: { ...pictured.vision, classToken: false } }
  t.throws(() => most().looks(blind), { name: 'RangeError', message: /a tower with a class token for `most`/ })
  const shuffled = { ...pictured, vision: { ...pictured.vision, pool: 2 } }
  t.throws(() => mine({ at: 'vision', part: 'projector' }).looks(shuffled), {
    name: 'RangeError',
    message: /a projector of single patches for `mine` but received one that joins 2 × 2/,
  })
  t.equal(mine({ at: 'vision', part: 'decoder' }).looks(shuffled).length, 1)
})

test('stops are in the order of the work, with what all methods need there', async (t) => {
  const looks: LookAsked[] = [
    { at: 'vision', part: 'decoder' },
    { at: 'vision', part: 'projector' },
    { at: 'vision', part: 'attention', layer: 2, needs: [{ what: 'keys', layer: 1 }] },
    { at: 'vision', part: 'mlp', layer: 1 },
  ]
  const both = methods.chain(
    mine(looks),
    mine({
      at: 'vision',
      part: 'attention',
      layer: 2,
      needs: [
        { what: 'class', layer: 0 },
        { what: 'keys', layer: 1 },
      ],
    }),
  )
  const { vision } = makeSchedule([both], pictured)
  t.same(
    vision.map(({ layer, part }) => `${part} ${layer}`),
    ['mlp 1', 'attention 2', 'projector 4', 'decoder 4'],
  )
  t.same(vision[1]?.needs, [
    { what: 'keys', layer: 1 },
    { what: 'class', layer: 0 },
  ])
  t.same(makeSchedule([both], shape).vision, [])
  t.throws(() => makeSchedule([mine(looks), most()], pictured), {
    code: 'ERR_METHOD_CONFLICT',
    message: /one method for the patches before the projector, but received mine and most/,
  })
  t.throws(() => makeSchedule([mine(looks[3] as LookAsked), mine(looks, 'other')], pictured), {
    message: /the patches before the MLP of block 1, but received mine and other/,
  })
  t.doesNotThrow(() => makeSchedule([most(), mine(looks[0] as LookAsked), methods.fastv(), methods.snapkv()], pictured))
})

test('a budget is a share of the patches that were there at first, and every crop has its own', async (t) => {
  const scores = [9, 8, 7, 6, 1, 2, 3, 4]
  const seen = visionSeen({ crops: pair, seen: { class: scores } })
  t.same(keptPatches(most({ keep: 0.5 }), seen), [0, 1, 6, 7])
  t.same(keptPatches(most({ keep: { tokens: 3 } }), seen), [0, 1, 7], 'of equal shares the lower crop has more')
  const fewer = { ...seen, sources: Int32Array.of(0, 4, 5, 6, 7), seen: () => Float32Array.of(9, 1, 2, 3, 4) }
  t.same(keptPatches(most({ keep: 0.5 }), fewer), [0, 5, 6, 7], 'what one crop has not, another may keep')
  t.same(most({ keep: 0.625 }).decide(fewer), [])
  t.same(evenly(seen, 5), [3, 2])
  t.same([...bestOfCrops(seen, [0, 1], scores)], [7])
})

test('what does not fit is one sentence', async (t) => {
  const seen = visionSeen({ crops: pair, sources: Int32Array.of(0, 1, 2, 5, 6, 7) })
  const wrong: [Decision, Seen, RegExp][] = [
    [drop([]), seen, /at least one row before the projector but received none/],
    [drop([0, 3]), seen, /rows that are there before the projector but received 3/],
    [drop([1, 0]), seen, /ascending rows before the projector but received 0 after 1/],
    [drop([0], { layer: 3 }), seen, /a decision for layer 4, which was seen, but received one for layer 3/],
    [drop([0]), { at: 'session', shape }, /'dropPatches' where vision is seen/],
    [{ action: 'drop', layer: 4, kept: [0], positions: 'keep' }, seen, /'drop' where layer is seen .* at 'vision'/],
    [merge([0, 0, 0]), seen, /6 rows before the projector but received 3/],
    [merge([1, 0, 2, 5, 6, 7]), seen, /rows that hold themselves before the projector/],
    [merge([0, 3, 2, 5, 6, 7]), seen, /rows that hold themselves before the projector but received 3/],
    [merge([0, 1, 5, 5, 6, 7]), seen, /merges within a crop before the projector but received row 2 into 5/],
    [merge([0, 0, 2, 5, 6, 7], { weights: [1] }), seen, /6 weights before the projector but received 1/],
    [merge([0, 0, 2, 5, 6, 7], { weights: [1, 0, 1, 1, 1, 1] }), seen, /finite weights above 0 .* received 0/],
    [merge([0, 0, 2, 5, 6, 7], { weights: [1, Number.NaN, 1, 1, 1, 1] }), seen, /received NaN/],
  ]
  for (const [decision, at, message] of wrong)
    t.throws(() => checkDecision(decision, at, 'mine'), { code: 'ERR_PLAN', message }, String(message))
  t.doesNotThrow(() => checkDecision(merge([0, 0, 2, 5, 7, 7], { weights: [1, 2, 3, 4, 5, 6] }), seen, 'mine'))
})

test('entries say what was done to the patches', async (t) => {
  const seen = visionSeen({ crops: pair, step: 2 })
  const head = { phase: 'vision', step: 2, layer: 4, part: 'projector', method: 'mine', before: 8 }
  t.strictSame(entryOf(drop(span(0, 5), { scores: [3] }), seen, 'mine'), {
    ...head,
    action: 'drop',
    after: 5,
    kept: [0, 1, 2, 3, 4],
  })
  t.same(entryOf(drop([0], { scores: [3] }), seen, 'mine', { trace: true })?.scores, [3])
  const into = [0, 0, 2, 3, 4, 5, 6, 6]
  t.strictSame(entryOf(merge(into, { proportional: true, weights: span(1, 9) }), seen, 'mine'), {
    ...head,
    action: 'merge',
    after: 6,
    into,
    weights: [1, 2, 3, 4, 5, 6, 7, 8],
    sizes: true,
  })
  t.equal(entryOf(drop(span(0, 8)), seen, 'mine'), null)
  const placed = visionSeen({ crops: pair, place: (source) => 10 + source })
  t.same(entryOf(drop([1, 7]), placed, 'mine')?.kept, [11, 17], 'by their places in the session')
})

test('what is left after a decision is seen by the next', async (t) => {
  const seen = randomVision([2, 2, 2], 3)
  const views: Seen[] = []
  const spy = defineMethod({
    name: 'spy',
    acts: 'vision',
    looks: { at: 'vision', part: 'projector', needs: [{ what: 'pairs', layer: 3 }] },
    decide(now) {
      views.push(now)
      return []
    },
  })
  const first = mine({ at: 'vision', part: 'projector' }, 'first', () => [
    merge([0, 0, 2, 3, 4, 5, 5, 7]),
    drop([0, 3, 5, 7]),
  ])
  makeSchedule([methods.chain(first, spy())], pictured).decide(seen)
  const [left] = views
  if (left?.at !== 'vision') return t.fail('seen')
  t.same([...left.sources], [0, 3, 5, 7])
  t.same([...left.sizes()], [2, 1, 2, 1])
  t.equal(left.given, 8)
  const { keys, pairs, hidden } = { keys: seen.seen('keys', 3), pairs: seen.seen('pairs', 3), hidden: seen.hidden() }
  t.same(
    [...left.seen('keys', 3)],
    [0, 3, 5, 7].flatMap((row) => [...keys.subarray(3 * row, 3 * row + 3)]),
  )
  t.same(
    [...left.hidden()],
    [0, 3, 5, 7].flatMap((row) => [...hidden.subarray(6 * row, 6 * row + 6)]),
  )
  const at = (crop: number, row: number, column: number) => pairs[16 * crop + 4 * row + column]
  t.same(
    [...left.seen('pairs', 3)],
    [at(0, 0, 0), at(0, 0, 3), at(0, 3, 0), at(0, 3, 3), at(1, 1, 1), at(1, 1, 3), at(1, 3, 1), at(1, 3, 3)],
  )
  const all = { had: span(0, 8), left: span(0, 8), crops: pair }
  t.equal(ofPatches('pairs', pairs, all), pairs)
})

test('plans on patches survive JSON, and given back decide the same', async (t) => {
  const method = mine({ at: 'vision', part: 'projector' }, 'first', () => [
    merge([0, 0, 2, 3, 4, 5, 5, 7], { weights: span(1, 9), proportional: true }),
    drop([0, 3, 5, 7]),
  ])
  const seen = randomVision([2, 2, 2], 3, { place: (source) => 20 + source })
  const record = (schedule: ReturnType<typeof makeSchedule>) => schedule.decide(seen).map(({ entry }) => entry)
  const plan = record(makeSchedule([method], pictured))
  t.same(plan[0]?.into, [20, 20, 22, 23, 24, 25, 25, 27])
  const replay = methodFromPlan(JSON.parse(JSON.stringify(plan)))
  t.equal(replay.acts, 'vision')
  t.same(record(makeSchedule([replay], pictured)), plan)
  const other = randomVision([2, 2, 2], 3, { place: (source) => 40 + source })
  t.same(makeSchedule([replay], pictured).decide(other), [], 'another picture of the prompt')
  const again = makeSchedule([replay], pictured)
  t.throws(() => again.decide(randomVision([1, 2, 2], 3, { place: (source) => 20 + source })), {
    code: 'ERR_PLAN',
    message: /8 rows for 'merge' at step 0, layer 4, of the plan but received 4/,
  })
  t.throws(() => makeSchedule([replay], shape), { code: 'ERR_PLAN', message: /a model that reads text only/ })
  const [entry] = plan
  t.throws(() => parsePlan([{ ...entry, part: 'door' }]), { message: /attention, mlp, projector, decoder for 'part'/ })
  t.throws(() => parsePlan([{ ...entry, action: 'skip' }]), { message: /drop, merge, .*, recall for 'vision'/ })
})

test('wrappers on methods that act in the tower', async (t) => {
  const both = mine([
    { at: 'vision', part: 'mlp', layer: 1 },
    { at: 'vision', part: 'decoder' },
    { at: 'layer', layer: 5 },
  ])
  const places = (from: number, to: number) =>
    methods
      .onLayers([from, to], both)
      .looks(pictured)
      .map((look) => ('layer' in look ? `${look.at} ${look.layer}` : ''))
  t.same(places(0, 2), ['vision 1', 'layer 5'], 'blocks of the tower')
  t.same(places(2, 5), ['vision 4', 'layer 5'])
  t.throws(() => places(2, 6), { name: 'RangeError' })
  t.same(methods.perLayer(most(), (layer) => (layer === 4 ? 1 : 0.5)).looks(pictured), [])
  const seen = randomVision([1, 4, 4], 2)
  t.equal(
    keptPatches(
      methods.perLayer(most(), () => ({ tokens: 3 })),
      seen,
    ).length,
    3,
  )
  t.equal(keptPatches(methods.chain(most({ keep: 0.5 }), most({ keep: 0.25 })), seen).length, 8)
  t.throws(() => methods.every(2, most()), { name: 'TypeError' })
})
