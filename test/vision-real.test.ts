// Pictures through the native tower and into a decoder: rows as the tower gives them, methods on the way, the command line.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { load, methods, type Prompt } from '../lib/index.js'
import { native } from '../lib/native.js'
import { normalise, resizer } from '../lib/vision/pixels.js'
import { gridOf, plansOf, processorOfGguf } from '../lib/vision/processor.js'
import { cli } from './cli-run.js'
import { same } from './engine.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { picture } from './pictures.js'

const cat = picture(40, 31, 3)

/** A decoder with rows of 32, as the towers in test/fixtures/vision give them; the tower lies beside it. */
async function loadPair(t: Parameters<typeof scratch>[0], tower: string) {
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ hidden: 32, headSize: 16 }))
  const model = await load(path, { vision: `test/fixtures/vision/${tower}.gguf`, threads: 2 })
  t.teardown(() => model.close())
  return { model, path }
}

/** The same by hand: preprocessing, then the tower alone. */
async function rowsByHand(tower: string): Promise<Float32Array> {
  const file = await native().open(`test/fixtures/vision/${tower}.gguf`)
  const vision = await native().loadVision(file, { threads: 2, isa: 'auto' }, null).vision
  const grid = gridOf(vision.config)
  const processor = processorOfGguf(file, vision.config)
  const { image } = plansOf(processor, grid)
  const bytes = await image.draw(
    cat,
    resizer((...given) => native().resample(...given), processor.filter),
  )
  const crops = image.layout(cat.width, cat.height).crops.length
  const glance = vision.open(normalise(bytes, grid.size, vision.config), crops)
  await vision.advance(glance, 2 * vision.config.layers + 1, [])
  const rows = glance.hidden()
  glance.close()
  vision.close()
  file.close()
  return rows
}

for (const tower of ['clip', 'embedded', 'linear', 'siglip']) {
  t.test(`${tower}: the rows of a prompt are those of the tower`, async (t) => {
    const { model } = await loadPair(t, tower)
    const session = model.session()
    const rows = await session.hidden([{ ids: randomIds(5, 1) }, { image: cat }], { layer: 0 })
    const expected = await rowsByHand(tower)
    const { ids } = session
    t.equal(ids.length, 0)
    // Text between the tiles of SmolVLM has rows of its own.
    const tokens = rows.length / 32
    await session.forward([{ ids: randomIds(5, 1) }, { image: cat }], { logits: 'none' })
    const places = [...session.ids.keys()].filter((place) => (session.ids[place] as number) < 0)
    t.equal(session.ids.length, tokens)
    const own = Float32Array.from(places.flatMap((place) => [...rows.subarray(place * 32, (place + 1) * 32)]))
    t.ok(same(own, expected), `${places.length} rows`)
  })
}

t.test('methods of the tower, their plans, and films', async (t) => {
  const { model } = await loadPair(t, 'embedded')
  const film: Prompt = [
    { ids: randomIds(5, 1) },
    { video: [1, 2, 3].map((seed) => picture(24, 24, seed)) },
    { text: '?' },
  ]
  const still: Prompt = [{ ids: randomIds(5, 1) }, { image: cat }, { text: '?' }]
  const made = methods as unknown as Record<string, (options: object) => ReturnType<typeof methods.fastv>>
  for (const { acts, name, options } of methods.list()) {
    if (acts !== 'vision') continue
    for (const prompt of [still, film]) {
      const method = (made[name] as (typeof made)['x'])('keep' in options ? { keep: 0.5 } : {})
      const session = model.session({ methods: [method] })
      const logits = await session.forward(prompt)
      t.notOk(logits.some(Number.isNaN), name)
      const again = model.session({ plan: session.plan })
      t.ok(same(await again.forward(prompt), logits), `${name}: the plan again`)
      const rows = session.stats.kv.layers[0]?.rows[0] as number
      t.equal(rows, session.ids.length - dropped(session.plan), `${name}: rows`)
    }
  }
})

/** In the tower; what goes between layers still has its rows in the first one. */
function dropped(plan: readonly { phase: string; before: number; after: number }[]): number {
  const seen = plan.filter(({ phase }) => phase === 'vision')
  return seen.reduce((sum, { after, before }) => sum + before - after, 0)
}

t.test('the command line shows pictures and towers', async (t) => {
  const { path } = await loadPair(t, 'embedded')
  const folder = scratch(t)
  const file = join(folder, 'cat.png')
  writeFileSync(
    file,
    await sharp(cat.data, { raw: { width: 40, height: 31, channels: 3 } })
      .png()
      .toBuffer(),
  )
  const tower = 'test/fixtures/vision/embedded.gguf'
  const asked = ['generate', '-m', path, '--vision', tower, '-p', 'hello', '-n', '3', '--image', file]
  const { code, out } = await cli([...asked, '--json', '--method', 'visionZip:keep=0.5'])
  t.equal(code, 0)
  t.match(JSON.parse(out), { stats: { prompt: {} }, plan: [{ phase: 'vision' }] })
  t.match(await cli([...asked, '--image', join(folder, 'dog.png')]), { code: 1, err: /there is none/ })
  const films = asked.slice(0, -2)
  const run = async (...words: string[]) => {
    const { code, err, out } = await cli([...films, '--json', ...words])
    t.equal(code, 0, err)
    const { ids, stats } = JSON.parse(out) as { ids: number[]; stats: { prompt: { tokens: number } } }
    return { ids, tokens: stats.prompt.tokens }
  }
  const still = await run('--image', file)
  const twice = await run('--image', file, '--image', file, '--frames')
  t.equal(twice.tokens, still.tokens + 16, 'a second frame')
  const film = join(folder, 'film')
  mkdirSync(film)
  for (const name of ['1.png', '2.png']) copyFileSync(file, join(film, name))
  t.same(await run('--video', film), twice, 'a folder of frames')
  t.equal((await run('--image', file, '--video', film)).tokens, still.tokens + 32, 'a picture and a film')
  t.match(await cli([...films, '--frames']), { code: 2, err: /--image together with --frames/ })
  t.match(await cli(['inspect', tower]), { code: 0, out: /24 × 24 pixels in 16 patches of 6, 2 layers/ })
  t.match(await cli(['inspect', path, '--vision', tower]), { out: /vision .*16 rows a crop by mlp/ })
  t.match(JSON.parse((await cli(['inspect', path, '--vision', tower, '--json'])).out), {
    vision: { patches: 16, rows: 16, layers: 2 },
  })
  const lines = `/image ${join(folder, 'dog.png')}\n/image ${file}\nhello\n/what\n`
  const talk = await cli(['chat', '-m', path, '--vision', tower, '-n', '3'], { input: lines })
  t.match(talk, { code: 0, err: /there is none[\s\S]*\/image FILE/ })
})
