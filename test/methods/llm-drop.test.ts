// LLM-Drop. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { shape } from './seen.js'

test('llmDrop skips what it names', async (t) => {
  const seen = { at: 'session', shape } as const
  t.same(methods.llmDrop({ layers: [5, 2] }).decide(seen), [
    { action: 'skip', layer: 5, what: 'attention' },
    { action: 'skip', layer: 2, what: 'attention' },
  ])
  t.same(methods.llmDrop({ layers: [3], what: 'mlp' }).decide(seen), [{ action: 'skip', layer: 3, what: 'mlp' }])
  t.same(
    methods
      .llmDrop()
      .decide({ at: 'session', shape: { ...shape, layers: 32 } })
      .map(({ layer }) => layer),
    [22, 24, 25, 26],
  )
  t.same(methods.llmDrop({ layers: [] }).looks(shape), [])
  t.throws(() => methods.llmDrop({ layers: [8] }).looks(shape), { name: 'RangeError', message: /received 8/ })
  t.throws(() => methods.llmDrop({ what: 'all' as never }), { name: 'TypeError' })
})
