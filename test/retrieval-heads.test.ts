// Heads that fetch from afar, against what the oracle's own attention says.
import t from 'tap'
import { methods, retrievalHeads } from '../lib/index.js'
import { Draw } from '../lib/lab/draw.js'
import { loadTiny, raised } from './engine.js'
import { Reference } from './reference-model.js'

t.test('the heads whose rows look at earlier copies', async (t) => {
  const { model, tiny } = await loadTiny(t, { layers: 4 }, { isa: 'reference' })
  const { heads, kvHeads, layers } = tiny.config
  const half = Math.ceil(model.config.vocabularySize / 2)
  const draw = new Draw(7)
  const plain = Array.from({ length: 3 }, () => model.config.vocabularySize - 1 - draw.below(half))
  const begin = [...model.tokenizer.encode('')]
  const ids = [...begin, ...plain, ...plain]
  const run = new Reference(tiny).run(ids, { watch: Array.from({ length: layers }, (_, layer) => layer) })
  // Of three tokens read twice: row 3 saw 0 and then 1, row 4 saw 1 and then 2, row 5 saw 2 and then 3.
  const pairs = [
    [3, 0],
    [4, 1],
    [5, 2],
  ].map(([row = 0, copy = 0]) => [row + begin.length, copy + begin.length] as const)
  const score = (layer: number, kv: number, after: number) =>
    Math.max(
      ...Array.from({ length: heads / kvHeads }, (_, g) =>
        pairs.reduce((sum, [row, copy]) => {
          const line = run.attention.get(layer)?.get(row)?.[(kv * heads) / kvHeads + g]
          return sum + (line?.get(copy + after) ?? 0)
        }, 0),
      ),
    )
  const all = Array.from(
    { length: layers * kvHeads },
    (_, i) => [Math.floor(i / kvHeads), i % kvHeads] as [number, number],
  )
  const best = (after: number, count: number) =>
    [...all].sort((a, b) => score(b[0], b[1], after) - score(a[0], a[1], after)).slice(0, count)
  const found = await retrievalHeads(model, {
    period: 3,
    repeats: 2,
    seed: 7,
    induction: 2 / all.length,
    echo: 1 / all.length,
  })
  const expected = new Set([...best(1, 2), ...best(0, 1)])
  t.same(
    found,
    all.filter((one) => expected.has(one)),
  )
  t.equal((await retrievalHeads(model, { period: 8, induction: 1 })).length, all.length)
  t.same(await retrievalHeads(model, { period: 8, induction: 0, echo: 0 }), [])
  t.ok(methods.razorAttention({ heads: found, keep: 0.2 }).looks)
  t.equal((await raised(() => retrievalHeads(model, { period: 1 }))).name, 'RangeError')
})
