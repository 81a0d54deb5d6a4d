// Sessions that ask about the same new picture at the same moment.
import { join } from 'node:path'
import t from 'tap'
import { load, type Model, methods, type Prompt, type Session } from '../lib/index.js'
import { raised, same } from './engine.js'
import { type FakeTower, fakeVision } from './fake-tower.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { picture } from './pictures.js'

const asked: Prompt = [{ ids: randomIds(20, 1) }, { image: picture(20, 12, 1) }, { ids: randomIds(9, 2) }]

async function loadFake(
  t: Parameters<typeof scratch>[0],
  config: Parameters<typeof fakeVision>[0] = {},
): Promise<{ model: Model; tower: FakeTower }> {
  const { towers } = fakeVision(config)
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ headSize: 32 }))
  const model = await load(path, { vision: 'test/fixtures/vision/embedded.gguf', threads: 2 })
  t.teardown(() => model.close())
  return { model, tower: towers[0] as FakeTower }
}

t.test('it is encoded once', async (t) => {
  const { model, tower } = await loadFake(t)
  const sessions = [1, 2, 3].map(() => model.session({ reuse: false }))
  const rows = await Promise.all(sessions.map((session) => session.hidden(asked, { layer: 0 })))
  t.same(tower.opened, [1])
  t.ok(same(rows[1]!, rows[0]!) && same(rows[2]!, rows[0]!))
  const watched = [1, 2].map(() => model.session({ reuse: false, methods: [methods.visionZip({ keep: 0.5 })] }))
  await Promise.all(watched.map((session) => session.forward(asked)))
  t.same(tower.opened, [1, 1], 'with a method, too')
  t.ok(watched[0]!.plan.length > 0)
  t.same(watched[1]!.plan, watched[0]!.plan)
})

t.test('who waits for a picture can give up, and goes on where the other one did', async (t) => {
  const { model, tower } = await loadFake(t, { layers: 5000 })
  const [first, second, third] = [1, 2, 3].map(() => model.session({ reuse: false })) as [Session, Session, Session]
  const [stop, leave] = [new AbortController(), new AbortController()]
  const gone = raised(() => first.forward(asked, { signal: stop.signal }))
  while (tower.opened.length === 0) await new Promise((next) => setTimeout(next, 1))
  const left = raised(() => second.forward(asked, { signal: leave.signal }))
  const rest = third.forward(asked)
  await new Promise((next) => setTimeout(next, 20))
  t.same(tower.opened, [1])
  leave.abort(new Error('enough'))
  t.equal((await left).message, 'enough')
  t.equal(tower.glances[0]?.closed, false, 'the first one goes on')
  stop.abort(new Error('stop'))
  t.equal((await gone).message, 'stop')
  await rest
  t.same(tower.opened, [1, 1])
  t.equal(third.ids.length, 45)
})
