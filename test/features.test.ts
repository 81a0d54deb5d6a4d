// Rows of features in a prompt: what stands where ids have none of their own.
import t, { type Test } from 'tap'
import { type NativeModel, type NativeSession, native } from '../lib/native.js'
import { apart, raised } from './engine.js'
import { scratch, type TinyModel, type TinyOptions, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { Reference } from './reference-model.js'

const float = {
  keys: 'f32',
  values: 'f32',
  sinks: 0,
  recent: 0,
  residual: 0,
  hadamardKeys: false,
  hadamardValues: false,
} as const
const options = {
  contextLength: 128,
  kv: [float],
  kvOf: new Int32Array(0),
  skipAttention: new Int32Array(0),
  skipMlp: new Int32Array(0),
  repack: false,
}

async function loadNative(test: Test, made: TinyOptions): Promise<{ model: NativeModel; tiny: TinyModel }> {
  const tiny = tinyModel(made)
  const file = await native().open(writeGguf(`${scratch(test)}/tiny.gguf`, tiny))
  const model = await native().load(file, { threads: 2, isa: 'reference' }, null).model
  test.teardown(() => model.close())
  file.close()
  return { model, tiny }
}

async function stage(
  model: NativeModel,
  session: NativeSession,
  logits: 'last' | 'all' | 'scores' = 'all',
): Promise<Float32Array> {
  const { layers } = model.config
  const entry = { session, from: 0, to: layers, begin: 0, end: session.rows().length, head: { logits } } as const
  const [done] = await model.advance([entry])
  if (done?.error) throw done.error
  return done?.logits as Float32Array
}

/** The places as patches: ids below 0, and the rows that the embedding has for those ids. */
function patched(tiny: TinyModel, ids: Int32Array, places: readonly number[]) {
  const { architecture, hidden } = tiny.config
  const scale = architecture === 'gemma3' ? Math.fround(Math.sqrt(hidden)) : 1
  const embedding = tiny.tensors.get('token_embd.weight')?.data as Float32Array
  const rows = new Float32Array(places.length * hidden)
  const given = ids.slice()
  for (const [i, place] of places.entries()) {
    const id = ids[place] as number
    rows.set(
      embedding.subarray(id * hidden, (id + 1) * hidden).map((x) => x * scale),
      i * hidden,
    )
    given[place] = -1 - i
  }
  return { ids: given, features: { places: Int32Array.from(places), rows } }
}

const PLACES = [0, 3, 4, 5, 11]

for (const architecture of ['llama', 'gemma3'] as const) {
  t.test(`${architecture}: a patch with a token's row is that token`, async (t) => {
    const { model, tiny } = await loadNative(t, { architecture })
    const ids = randomIds(12, 5)
    const patches = patched(tiny, ids, PLACES)
    const plain = model.session(options)
    plain.begin(ids, [])
    const expected = await stage(model, plain)
    const seen = model.session(options)
    seen.begin(patches.ids, [], patches.features)
    t.same(await stage(model, seen), expected, 'bit for bit, and no scale')
    for (const session of [plain, seen]) session.commit()

    const next = patched(tiny, randomIds(1, 6), [0])
    plain.begin(randomIds(1, 6), [])
    seen.begin(next.ids, [], next.features)
    t.same(await stage(model, seen), await stage(model, plain), 'a patch alone')
    seen.rollback()
    const before = seen.cacheRows(0, 0)
    seen.peek(next.ids, next.features)
    await stage(model, seen)
    seen.rollback()
    t.equal(seen.cacheRows(0, 0), before)
  })
}

t.test('scores of patches are not known, those of tokens after them are', async (t) => {
  const { model, tiny } = await loadNative(t, {})
  const ids = randomIds(12, 5)
  const patches = patched(tiny, ids, PLACES)
  const plain = model.session(options)
  plain.begin(ids, [])
  const expected = await stage(model, plain, 'scores')
  const seen = model.session(options)
  seen.begin(patches.ids, [], patches.features)
  const scores = await stage(model, seen, 'scores')
  for (const i of ids.keys()) {
    if (PLACES.includes(i)) t.ok(Number.isNaN(scores[i]), `patch ${i}`)
    else t.equal(scores[i], expected[i], `token ${i}`)
  }
})

t.test('patches go before the call is embedded, with or without a row', async (t) => {
  const { model, tiny } = await loadNative(t, {})
  const ids = randomIds(12, 5)
  const kept = [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
  const { logits } = new Reference(tiny).run(ids, { cut: new Map([[0, { drop: kept, repack: false }]]) })
  const all = patched(tiny, ids, PLACES)
  const { hidden } = tiny.config
  const staying = PLACES.flatMap((place, i) => (kept.includes(place) ? [i] : []))
  const rows = new Float32Array(staying.length * hidden)
  for (const [i, from] of staying.entries()) {
    rows.set(all.features.rows.subarray(from * hidden, (from + 1) * hidden), i * hidden)
  }
  const some = { places: Int32Array.from(staying, (i) => PLACES[i] as number), rows }
  for (const features of [all.features, some]) {
    const session = model.session(options)
    session.begin(all.ids, [], features)
    await model.apply(session, [{ drop: Int32Array.from(kept), repack: false }])
    const got = await stage(model, session)
    const expected = Float64Array.from(logits.flatMap((row) => [...row]))
    t.ok(apart(got, expected) < 1e-4, 'as plain loops')
    session.commit()
    t.same([...session.cacheSources(1, 0)], kept)

    const saved = await model.save(session)
    const again = await model.restore(options, saved)
    const twin = session.fork()
    const taker = model.session(options)
    taker.take(session, 12)
    const answers: Float32Array[] = []
    for (const one of [session, again, twin, taker]) {
      one.begin(randomIds(3, 9), [])
      answers.push(await stage(model, one))
      one.commit()
      one.truncate(2)
      t.same([...one.cacheSources(0, 0)], [0, 1])
    }
    for (const answer of answers) t.same(answer, answers[0])
  }
})

t.test('a patch that stays needs a row; others of the batch go on', async (t) => {
  const { model, tiny } = await loadNative(t, {})
  const { ids, features } = patched(tiny, randomIds(12, 5), PLACES)
  const without = model.session(options)
  const whole = model.session(options)
  without.begin(ids, [])
  whole.begin(ids, [], features)
  const part = { from: 0, to: model.config.layers, begin: 0, end: 12, head: { logits: 'last' } } as const
  const [failed, done] = await model.advance([
    { session: without, ...part },
    { session: whole, ...part },
  ])
  t.match(failed?.error, { code: 'ERR_PLAN', message: /every patch that is not dropped, token 0 has none/ })
  t.equal(done?.logits?.length, model.config.vocabularySize)
})

t.test('features that do not fit', async (t) => {
  const { model, tiny } = await loadNative(t, {})
  const { ids, features } = patched(tiny, randomIds(12, 5), PLACES)
  const session = model.session(options)
  const { rows } = features
  const wrong = {
    'too few numbers': { places: features.places, rows: rows.subarray(1) },
    'a place of a token': { places: Int32Array.of(0, 3, 4, 5, 10), rows },
    'a place outside': { places: Int32Array.of(0, 3, 4, 5, 12), rows },
    'places that do not ascend': { places: Int32Array.of(0, 4, 3, 5, 11), rows },
    'a number that is none': { places: features.places, rows: rows.map((x, i) => (i === 70 ? Number.NaN : x)) },
  }
  for (const [what, given] of Object.entries(wrong)) {
    const error = await raised(() => session.begin(ids, [], given))
    t.equal(error.code, 'ERR_PLAN', `${what}: ${error.message}`)
  }
  t.match(await raised(() => session.begin(Int32Array.of(1 << 20), [])), { code: 'ERR_PLAN' })
  session.begin(ids, [], features)
  t.equal((await stage(model, session)).length, 12 * model.config.vocabularySize, 'nothing has happened before')
})
