// What methods see of a prompt before a layer, beside what is under test in methods-oracle.test.ts: what the words behind it look at, and rows as they were embedded.
import { test } from 'tap'
import { defineMethod, methods } from '../lib/index.js'
import { apart, loadTiny } from './engine.js'
import { randomIds } from './numbers.js'

test('the question is asked, and rows are known as they were embedded', async (t) => {
  const { model } = await loadTiny(t)
  const ids = randomIds(90, 7)
  const prompt = [{ ids: ids.slice(0, 3) }, { ids: ids.slice(3, 80), droppable: true }, { ids: ids.slice(80) }]
  const session = model.session({ kv: 'f32' })
  const embedded = await session.hidden(ids, { layer: 0 })
  const { heads, hiddenSize } = model.config
  const lines = await session.attention(ids, { layer: 2, rows: [-10, -9, -8, -7, -6, -5, -4, -3, -2, -1] })
  const mean = (line: number, token: number) => {
    let sum = 0
    for (let head = 0; head < heads; head++) sum += (lines[(line * heads + head) * 90 + token] as number) / heads
    return sum
  }
  let looks = 0
  const spy = defineMethod({
    name: 'spy',
    acts: 'layers',
    looks: [2, 3].map(
      (layer) => ({ at: 'layer', layer, needs: [{ what: 'question' }, { what: 'embedded' }] }) as const,
    ),
    decide(seen) {
      if (seen.at !== 'layer') return null
      looks++
      const { asking, attention } = seen.question()
      const rows = seen.sources.length
      t.same(
        [...asking].map((place) => seen.sources[place]),
        [80, 81, 82, 83, 84, 85, 86, 87, 88, 89],
      )
      const own = Float32Array.from(seen.sources).map((_, i) => i)
      const wanted = Array.from(own, (place) => {
        const source = seen.sources[place] as number
        return embedded.subarray(source * hiddenSize, (source + 1) * hiddenSize)
      })
      t.ok(apart(seen.embedded(), Float32Array.from(wanted.flatMap((line) => [...line]))) === 0, 'embedded')
      t.equal(rows, seen.layer === 2 ? 90 : 60)
      if (seen.layer === 3) return null
      const expected = Float32Array.from({ length: 10 * rows }, (_, i) => mean(Math.floor(i / rows), i % rows))
      t.ok(apart(attention, expected) < 1e-6, `question: ${apart(attention, expected)}`)
      const kept = seen.sources.filter((source) => source < 3 || source >= 33)
      return { action: 'drop', layer: 2, kept, positions: 'keep' }
    },
  })
  await model.session({ kv: 'f32', methods: [spy()] }).forward(prompt)
  t.equal(looks, 2)
})

test('methods that were made for pictures thin text that may go', async (t) => {
  const { model } = await loadTiny(t)
  const ids = randomIds(90, 7)
  const prompt = [{ ids: ids.slice(0, 3) }, { ids: ids.slice(3, 80), droppable: true }, { ids: ids.slice(80) }]
  const rows = async (...list: Parameters<typeof model.session>[0][]) => {
    const session = model.session(list[0])
    await session.forward(prompt)
    return session.stats.kv.layers.map(({ rows }) => rows[0])
  }
  t.same(await rows({ methods: [methods.llavolta({ layer: 2, stride: 7 })] }), [90, 90, 24, 24])
  t.same(await rows({ methods: [methods.dyvte({ layer: 3 })] }), [90, 90, 90, 13])
  t.same(await rows({ methods: [methods.sparseVlm({ layers: [1, 3], ratios: [0.5, 0.25] })] }), [
    90,
    13 + 38 + 2,
    53,
    13 + 19 + 1,
  ])
  const some = await rows({ methods: [methods.atpLlava({ layers: [1], redundant: 0.9 })] })
  t.ok(some[0] === 90 && (some[1] as number) > 13 && (some[1] as number) < 60, `atpLlava leaves ${some}`)
  t.same((await rows({ methods: [methods.mustDrop({ layers: [2], gamma: 1, alpha: 1 })] })).slice(0, 2), [90, 90])
})
