// MustDrop's output-aware cache: what the cut layers hold afterwards.
import t from 'tap'
import { methods } from '../../lib/methods/index.js'
import { loadTiny } from '../engine.js'
import { randomIds } from '../numbers.js'
import { keptRows, randomCache, shape } from './seen.js'

t.test('outputAware: rows of tokens that did not come through go, in every head', async (t) => {
  const method = methods.outputAware()
  t.same(method.looks(shape), [{ at: 'prompt', layers: [2, 3, 4, 5, 6, 7], needs: [] }])
  const sources = [
    [0, 1, 2, 5, 6, 9],
    [0, 3, 4, 9],
  ]
  const seen = randomCache(10, 1, { layer: 3, tokens: 10, sources, gone: [2, 3, 5] })
  t.same(keptRows(method, seen), [
    [0, 1, 6, 9],
    [0, 4, 9],
  ])
  t.same(method.decide(randomCache(10, 1)), [], 'nothing was dropped')
  t.same(method.decide(randomCache(10, 1, { at: 'decode', gone: [2] })), [])
  t.throws(() => methods.outputAware({ from: -1 }), { name: 'RangeError' })
})

t.test('outputAware: the layers between hold what those behind hold, the first ones everything', async (t) => {
  const { model } = await loadTiny(t, { layers: 6 })
  const ids = randomIds(60, 4)
  const prompt = [{ ids: ids.slice(0, 10) }, { ids: ids.slice(10, 50), droppable: true }, { ids: ids.slice(50) }]
  const drop = methods.pyramidDrop({ layers: [2, 3, 5], ratios: [0.5, 0.25, 0.125], positions: 'keep' })
  const rows = async (...own: Parameters<typeof model.session>) => {
    const session = model.session(...own)
    await session.forward(prompt, { logits: 'none' })
    await session.forward(prompt, { logits: 'none' })
    return session.stats.kv.layers.map(({ rows }) => rows[0])
  }
  t.same(await rows({ methods: [drop] }), [120, 120, 80, 60, 60, 50], 'forty, twenty, ten, five of each prompt')
  t.same(await rows({ methods: [drop, methods.outputAware()] }), [120, 120, 50, 50, 50, 50])
  const then = methods.chain(methods.outputAware({ from: 0 }), methods.recent({ keep: { tokens: 40 } }))
  t.same(await rows({ methods: [drop, then] }), Array(6).fill(40), 'and less')
})
