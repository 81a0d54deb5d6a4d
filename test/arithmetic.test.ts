// Fine arithmetic: nearer to the exact model than fast one, and as true to itself: in batches, in pieces, saved, given back as a plan.
import { once } from 'node:events'
import t from 'tap'
import { type CacheSeen, defineMethod, methods, type PlanEntry, type SessionOptions } from '../lib/index.js'
import { apart, loadTiny, loadWith, raised, same } from './engine.js'
import { randomIds } from './numbers.js'

const ids = randomIds(90, 31)

for (const type of ['f32', 'q8_0'] as const) {
  t.test(`${type}: fine is nearer to the exact model`, async (t) => {
    const { model, path } = await loadTiny(t, { type, headSize: 32 })
    const exact = await loadWith(path, 'reference')
    const run = async (options: SessionOptions, of = model) => {
      const session = of.session({ kv: 'f32', reuse: false, ...options })
      const first = await session.forward(ids, { logits: 'all' })
      const steps = [await session.forward(ids.subarray(0, 1)), await session.forward(ids.subarray(1, 2))]
      await session.close()
      return [first, ...steps]
    }
    const [truth, fast, fine, again] = [
      await run({}, exact),
      await run({}),
      await run({ arithmetic: 'fine' }),
      await run({ arithmetic: 'fine' }, exact),
    ]
    for (const [i, said] of ['prompt', 'step', 'next step'].entries()) {
      const off = (made: Float32Array[]) => apart(made[i] as Float32Array, truth[i] as Float32Array)
      if (off(fast) > 1e-3) t.ok(off(fine) < off(fast) / 20, `${said}: off by ${off(fine)}, fast by ${off(fast)}`)
      else t.ok(off(fine) < 1e-3, `${said}: weights that need no rounding of activations here`)
      t.ok(same(again[i] as Float32Array, truth[i] as Float32Array), 'plain loops round nothing')
    }
    await exact.close()
  })
}

t.test('a prompt in pieces, and what methods see before a layer', async (t) => {
  const { model } = await loadTiny(t, { type: 'q8_0', headSize: 32 })
  const long = randomIds(700, 5)
  const all = model.session({ arithmetic: 'fine', reuse: false })
  const whole = await all.forward(long)
  const parts = model.session({ arithmetic: 'fine', reuse: false })
  for (const [from, to] of [
    [0, 100],
    [100, 612],
    [612, 690],
  ])
    await parts.forward(long.subarray(from, to))
  t.ok(same(await parts.forward(long.subarray(690)), whole))
})

t.test('methods that look at key norms have prompts read finely', async (t) => {
  const { model, tiny } = await loadTiny(t, { type: 'q8_0', headSize: 32 })
  const said = Int32Array.from([7, 8, 7, 9, 7, 8, 7, 9, 7, 8, 7, 9, 7, 8, 7, 9, 7, 10])
  const norms: Float32Array[] = []
  const look = (needs: readonly { what: 'keyNorms' }[]) =>
    defineMethod({
      name: 'look',
      acts: 'probe',
      looks: { at: 'prompt', layers: [0], needs },
      decide: (seen) => void norms.push((seen as CacheSeen).keyNorms(1)),
    })()
  for (const needs of [[{ what: 'keyNorms' }], []] as const) {
    const session = model.session({ kv: 'q8_0', methods: [look(needs)], reuse: false })
    await session.forward(said)
    await session.close()
  }
  const [came, stored] = norms as [Float32Array, Float32Array]
  for (const id of [7, 8, 9]) {
    const own = Array.from(said.keys()).filter((place) => said[place] === id)
    t.equal(new Set(own.map((place) => came[place])).size, 1, 'equal tokens have equal keys in the first layer')
    t.ok(new Set(own.map((place) => stored[place])).size > 1, 'that rotation and storing set apart')
  }
  t.ok(apart(came, stored) < 0.05 * Math.max(...came))
  const fine = (options: SessionOptions) => model.session({ reuse: false, ...options })
  const logits = [
    await fine({ arithmetic: 'fine' })
      .forward(ids, { logits: 'none' })
      .then(() => undefined),
    await fine({}).hidden(ids, { layer: tiny.config.layers }),
    await fine({ arithmetic: 'fine' }).hidden(ids, { layer: tiny.config.layers }),
    await fine({ methods: [methods.knorm()] }).hidden(ids, { layer: tiny.config.layers }),
  ]
  t.ok(same(logits[3] as Float32Array, logits[2] as Float32Array), 'its layers are those of a fine session')
  t.notOk(same(logits[2] as Float32Array, logits[1] as Float32Array))
})

t.test('a plan of such a method is read finely too', async (t) => {
  const { model } = await loadTiny(t, { type: 'q8_0', headSize: 32 })
  const run = async (options: SessionOptions) => {
    const session = model.session({ reuse: false, ...options })
    const first = await session.forward(ids)
    const next = await session.forward(ids.subarray(0, 1))
    return { first, next, plan: session.plan }
  }
  const made = await run({ methods: [methods.knorm({ keep: 0.3 })] })
  t.equal(made.plan[0]?.arithmetic, 'fine')
  const again = await run({ plan: JSON.parse(JSON.stringify(made.plan)) as PlanEntry[] })
  t.ok(same(again.first, made.first) && same(again.next, made.next), 'the same bits')
  t.same(
    again.plan.map(({ keptPerHead }) => keptPerHead),
    made.plan.map(({ keptPerHead }) => keptPerHead),
  )
})

t.test('misuse is told', async (t) => {
  const { model } = await loadTiny(t)
  const wrong = await raised(() => model.session({ arithmetic: 'exact' as 'fine' }))
  t.match(wrong, { name: 'TypeError', message: /'fast' or 'fine' for `arithmetic` but received "exact"/ })
  const { model: gemma } = await loadTiny(t, { architecture: 'gemma3' })
  const warned = once(process, 'warning')
  for (let i = 0; i < 2; i++) gemma.session({ methods: [methods.knorm()] })
  t.match(await warned, [{ code: 'TOKENSIEVE_NORMED_KEYS' }], 'keys that are normed say little')
})
