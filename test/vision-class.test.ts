// What the class token of a tower looks at, asked for between layers of the decoder.
import { join } from 'node:path'
import t from 'tap'
import { defineMethod, type LayerSeen, load, type Method, type Prompt } from '../lib/index.js'
import { type FakeTower, fakeVision } from './fake-tower.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { picture } from './pictures.js'

const words = randomIds(20, 1)
const [cat, dog] = [picture(20, 12, 1), picture(9, 16, 2)]

/** Drops the first patches in the tower, and notes what it sees in the decoder. */
function spy(seen: LayerSeen[], first: number): Method {
  return defineMethod({
    name: 'spy',
    acts: 'layers',
    looks: [
      ...(first > 0 ? [{ at: 'vision', layer: 1, part: 'attention' } as const] : []),
      { at: 'layer', layer: 2, needs: [{ what: 'class' }] },
    ],
    decide(now) {
      if (now.at === 'vision') return { action: 'dropPatches', layer: 1, kept: now.sources.subarray(first) }
      if (now.at === 'layer') {
        now.class()
        seen.push(now)
      }
      return null
    },
  })()
}

for (const classToken of [true, false]) {
  t.test(classToken ? 'each patch has its own' : 'without a class token nobody looks', async (t) => {
    const { towers } = fakeVision({ classToken })
    const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ headSize: 32 }))
    const model = await load(path, { vision: 'test/fixtures/vision/embedded.gguf', threads: 2 })
    t.teardown(() => model.close())
    const tower = towers[0] as FakeTower
    const prompt: Prompt = [{ ids: words }, { image: cat }, { ids: words }, { image: dog }, { ids: words }]
    const seen: LayerSeen[] = []
    for (const first of [0, 3, 0]) await model.session({ reuse: false, methods: [spy(seen, first)] }).forward(prompt)
    const lines = [0, 1].map((image) =>
      classToken ? (tower.glances[image]?.seen(1, 'class') ?? []) : Array(16).fill(0),
    )
    const none = Array(20).fill(0)
    const all = [...none, ...(lines[0] as number[]), ...none, ...(lines[1] as number[]), ...none]
    const [whole, less, again] = seen as [LayerSeen, LayerSeen, LayerSeen]
    t.same([...whole.class()], all)
    t.same([...again.class()], all)
    t.match(whole, { given: 32, came: 32 })
    t.match(less, { given: 32, came: 26 })
    t.equal(less.sources.length, 60 + 26)
    t.ok([...less.class()].every((value, i) => (value === 0) === (all[less.sources[i] as number] === 0)))
  })
}

t.test('it is kept with the picture', async (t) => {
  const { towers } = fakeVision()
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ headSize: 32 }))
  const { methods } = await import('../lib/index.js')
  const model = await load(path, { vision: 'test/fixtures/vision/embedded.gguf', threads: 2 })
  t.teardown(() => model.close())
  const ask = async (text: Int32Array) => {
    const session = model.session({ methods: [methods.mustDrop({ gamma: 1, alpha: 1, similar: 2, spared: 0.25 })] })
    await session.forward([{ ids: text }, { image: cat }, { ids: text }])
    return session.plan.map(({ kept }) =>
      kept?.map((source) => source - text.length).filter((at) => at >= 0 && at < 16),
    )
  }
  const [first, second] = [await ask(words), await ask(randomIds(30, 3))]
  t.equal((towers[0] as FakeTower).opened.length, 1, 'encoded once')
  const given = (towers[0] as FakeTower).glances[0]?.seen(1, 'class') as Float32Array
  const best = [...given.keys()]
    .sort((a, b) => (given[b] as number) - (given[a] as number))
    .filter((i) => (given[i] as number) > 0)
  t.ok(best.length > 0 && first.length > 0)
  for (const kept of [first, second].flat())
    t.ok(
      best.slice(0, 4).every((place) => kept?.includes(place)),
      'the four that the class token looks at most',
    )
})
