// What holds for every method of the list inside the engine: sessions at once, forks, saved and truncated sessions, and the memory that a plan foretells.
import { join } from 'node:path'
import t from 'tap'
import { type Method, type Model, methods, type Session, type SessionOptions } from '../lib/index.js'
import { loadTiny, same } from './engine.js'
import { scratch } from './model-fixture.js'
import { randomIds } from './numbers.js'

const ids = randomIds(150, 51)
const more = randomIds(7, 52)
const parts = (seed = 51) => {
  const own = seed === 51 ? ids : randomIds(150, seed)
  return [{ ids: own.slice(0, 6) }, { ids: own.slice(6, 130), droppable: true }, { ids: own.slice(130) }]
}

/** Where the defaults would do nothing on so short a prompt. */
const small: Record<string, object> = {
  snapkv: { window: 8 },
  adaKv: { of: methods.snapkv({ window: 8 }) },
  pyramidKv: { of: methods.snapkv({ window: 8 }), beta: 4 },
  chunkKv: { of: methods.snapkv({ window: 8 }), chunk: 5 },
  cam: { of: methods.h2o() },
  contextualMemoryReweaving: { of: methods.snapkv({ window: 8 }), capture: 0, every: 3, most: 9 },
  ems: { window: 8 },
  lagKv: { lag: 16 },
  random: { recent: 8 },
  tome: { layers: [1] },
  dyvte: { layer: 2 },
  pyramidDrop: { layers: [1, 2], ratios: [0.5, 0.25] },
  llmDrop: { layers: [1] },
  skipHeads: { heads: [[1, 0]] },
  outputAware: { from: 0 },
  zipVl: { tau: 0.8, every: 8 },
  evenShare: { under: 0.8, window: 8, recent: 0.1 },
}

function make(name: string, budgeted: boolean): Method[] {
  const one = methods[name as 'snapkv']({ ...(budgeted && { keep: 0.4 }), ...small[name] })
  return name === 'outputAware' ? [methods.pyramidDrop({ layers: [1, 2], ratios: [0.5, 0.25] }), one] : [one]
}

const listed = methods.list().filter(({ acts }) => acts !== 'vision')
const all = new Map(listed.map(({ name, options }) => [name, make(name, 'keep' in options)]))
all.set('zipVl, mixed', [methods.zipVl({ tau: 0.8, every: 8, lowPrecision: 'kivi2' })])

async function future(session: Session) {
  const { ids: said } = await session.generate(more, { maxTokens: 9, ignoreEnd: true })
  return { said: [...said], logits: await session.forward(more), plan: session.plan }
}

type Future = Awaited<ReturnType<typeof future>>
const alike = (a: Future, b: Future) =>
  same(a.logits, b.logits) && JSON.stringify([a.said, a.plan]) === JSON.stringify([b.said, b.plan])

async function begun(model: Model, options: SessionOptions, seed = 51): Promise<Session> {
  const session = model.session(options)
  await session.forward(parts(seed), { logits: 'none' })
  await session.generate(more, { maxTokens: 4, ignoreEnd: true })
  return session
}

for (const architecture of ['llama', 'gemma3'] as const) {
  t.test(`${architecture}: at once as each alone; forked, saved, cut short`, async (t) => {
    const { model } = await loadTiny(t, { architecture, headSize: 32 })
    const path = join(scratch(t), 'session.bin')
    for (const [name, own] of all) {
      const alone: Future[] = []
      for (const seed of [51, 61, 71]) {
        const session = await begun(model, { methods: own }, seed)
        alone.push(await future(session))
        await session.close()
      }
      t.ok(alone[0]?.plan.length, `${name} did something`)
      const sessions = await Promise.all([51, 61, 71].map((seed) => begun(model, { methods: own }, seed)))
      const [first] = sessions as [Session]
      const twins = [await first.fork(), await first.fork()] as [Session, Session]
      await first.save(path)
      const together = await Promise.all(sessions.map(future))
      t.ok(
        together.every((one, i) => alike(one, alone[i] as Future)),
        `${name}: three at once`,
      )
      t.ok(alike(await future(twins[0]), alone[0] as Future), `${name}: a fork`)
      const restored = await model.restore(path)
      t.ok(alike(await future(restored), alone[0] as Future), `${name}: saved and restored`)
      const short = await model.restore(path)
      await Promise.all([short.truncate(90), twins[1].truncate(90)])
      const rows = short.stats.kv.layers.map((layer) => layer.rows)
      t.same(
        rows,
        twins[1].stats.kv.layers.map((layer) => layer.rows),
        `${name}: rows of the first 90`,
      )
      t.ok(rows.flat().every((count) => count <= 90) && short.ids.length === 90)
      t.ok(alike(await future(short), await future(twins[1])), `${name}: truncated`)
      await Promise.all([...sessions, ...twins, restored, short].map((session) => session.close()))
    }
  })
}

t.test('the memory of the cache is what the plan says, to the page', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const { headSize, kvHeads, layers } = model.config
  for (const [kv, rowBytes] of [
    ['f16', 2 * headSize],
    ['q8_0', headSize + 2],
  ] as const) {
    const page = 32 * rowBytes
    for (const [name, own] of all) {
      const session = model.session({ methods: own, kv })
      await session.forward(parts(), { logits: 'none' })
      const cuts = session.plan.flatMap(({ kept, layer, into }) => {
        const left = kept?.length ?? (into && new Set(into).size)
        return left === undefined ? [] : [{ layer, left }]
      })
      const skips = new Set(
        session.plan.flatMap(({ action, layer, what }) => (action === 'skip' && what !== 'heads' ? [layer] : [])),
      )
      for (let layer = 0; layer < layers; layer++) {
        const entry = session.plan.findLast(({ keptPerHead, layer: at }) => keptPerHead && at === layer)
        const whole = cuts.findLast((cut) => cut.layer <= layer)?.left ?? ids.length
        const rows = Array.from({ length: kvHeads }, (_, head) => entry?.keptPerHead?.[head]?.length ?? whole)
        const coarse = session.plan.find(({ coarsePerHead, layer: at }) => coarsePerHead && at === layer)?.coarsePerHead
        const pages = (count: number, size: number) => 2 * Math.ceil(count / 32) * size
        const each = rows.map((count, head) => {
          const few = coarse?.[head]?.length ?? 0
          return pages(few, 32 * (headSize / 4 + 4)) + pages(count - few, page)
        })
        const all = skips.has(layer) ? 0 : each.reduce((sum, size) => sum + size, 0)
        const { bytes } = session.stats.kv.layers[layer] as { bytes: number } // what is set aside counts apart
        // Beside its pages a head has tables: where a page lies, which token a row is, what mass it has gathered.
        const tables = rows.reduce((sum, count) => sum + 12 * count + 32 * Math.ceil(count / 32) + 512, 0)
        if (!(bytes >= all && bytes <= all + tables))
          t.fail(`${name}, ${kv}: ${bytes} bytes in layer ${layer} for pages of ${all}`)
      }
      t.pass(`${name}, ${kv}`)
      await session.close()
    }
  }
})

function silent({ plan }: Session, layer: number, head: number): boolean {
  return plan.some((entry) => entry.what === 'heads' && entry.layer === layer && entry.heads?.includes(head))
}

t.test('query heads of one KV head see the same rows', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 }, { isa: 'reference' })
  const { heads, kvHeads, layers } = model.config
  for (const [name, own] of all) {
    const session = model.session({ methods: own, kv: 'f32' })
    await session.forward(parts(), { logits: 'none' })
    const tokens = ids.length + 1
    for (let layer = 0; layer < layers; layer++) {
      const held = session.stats.kv.layers[layer]?.rows as number[]
      if (held.every((rows) => rows === 0)) continue
      const looked = await session.attention(more.subarray(0, 1), { layer, rows: [-1] })
      const entry = session.plan.findLast(({ keptPerHead, layer: at }) => keptPerHead && at === layer)
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads)
        const line = looked.subarray(head * tokens, (head + 1) * tokens)
        const seen = Array.from(line.keys()).filter((token) => (line[token] as number) > 0)
        const expected = entry?.keptPerHead?.[kvHead]
        const right = expected
          ? JSON.stringify(seen) === JSON.stringify([...expected, ids.length])
          : seen.length === (silent(session, layer, head) ? 0 : (held[kvHead] as number) + 1)
        if (!right) t.fail(`${name}: head ${head} of layer ${layer} sees ${seen}`)
      }
    }
    t.pass(name)
    await session.close()
  }
})
