// Pictures in tiles, from the file's own keys to the plan: with a tower in TypeScript. And how folders say what they want.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { load, methods, type Prompt } from '../lib/index.js'
import type { VisionConfig } from '../lib/native-vision.js'
import { findTower } from '../lib/vision/find.js'
import { processorOfFolder } from '../lib/vision/processor.js'
import { raised, same } from './engine.js'
import { fakeVision, tinyVision } from './fake-tower.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { picture } from './pictures.js'

const newline = new Float32Array(64).fill(0.25)
const wide: Prompt = [{ ids: [5] }, { image: picture(30, 12, 4) }, { text: 'in' }]

t.test('LLaVA 1.6: thumbnail, tiles, ends of lines', async (t) => {
  const { towers } = fakeVision({ newline })
  const folder = scratch(t)
  const path = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
  const pinpoints = [8, 16, 16, 8, 16, 16]
  writeGguf(join(folder, 'tiny.mmproj.gguf'), tinyModel({ layers: 1 }), [
    ['clip.vision.image_grid_pinpoints', 'i32s', pinpoints],
  ])
  const model = await load(path)
  t.teardown(() => model.close())
  t.equal(towers.length, 1, 'the tower beside the model is found')
  const session = model.session()
  const rows = await session.hidden(wide, { layer: 0 })
  // 8 × 16 pixels: two tiles side by side; of the four lines two hold the picture, a line of padding above and below goes.
  const count = 16 + 4 * 8 + 4
  t.equal(rows.length, (1 + count + 1) * 64)
  t.same(towers[0]?.opened, [3])
  const ends = [...Array(4).keys()].map((line) => 1 + 16 + line * 9 + 8)
  for (const at of ends) t.ok(same(rows.subarray(at * 64, (at + 1) * 64), newline), `row ${at} ends a line`)
  const logits = await session.forward(wide, { logits: 'none' })
  t.equal(logits.length, 0)
  const file = join(folder, 'session.bin')
  await session.save(file)
  const again = await model.restore(file)
  t.ok(same(await again.forward([{ text: 'or' }]), await session.forward([{ text: 'or' }])))
})

t.test('methods see tiles, plans name places, and ends of lines stay', async (t) => {
  fakeVision({ newline })
  const folder = scratch(t)
  const path = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
  const vision = writeGguf(join(folder, 'tower.gguf'), tinyModel({ layers: 1 }), [
    ['clip.vision.image_grid_pinpoints', 'i32s', [16, 16]],
  ])
  const model = await load(path, { vision })
  t.teardown(() => model.close())
  const made = methods as unknown as Record<string, (options: object) => ReturnType<typeof methods.fastv>>
  // Half as high as wide: of eight lines four are padding, which no method that acts behind the tower sees.
  const prompt: Prompt = [{ ids: [5] }, { image: picture(32, 16, 4) }, { text: 'in' }]
  for (const { acts, name, options } of methods.list()) {
    if (acts !== 'vision') continue
    const session = model.session({
      methods: [(made[name] as (typeof made)['x'])('keep' in options ? { keep: 0.5 } : {})],
    })
    const logits = await session.forward(prompt)
    t.notOk(logits.some(Number.isNaN), name)
    const { ids, plan } = session
    t.equal(ids.length, 1 + 16 + 4 * (8 + 1) + 1)
    for (const [i, { before, kept = [], layer, part }] of plan.entries()) {
      t.same(
        kept,
        [...kept].sort((a, b) => a - b),
        'ascending',
      )
      t.ok(kept.every((place) => place < ids.length - 1))
      if (i === 0 && part === 'projector' && layer === 2) t.equal(before, 16 + 32, `${name} sees no padding`)
    }
    const replay = model.session({ plan })
    t.ok(same(await replay.forward(prompt), logits), `${name}: the plan again`)
  }
})

t.test('what folders say', async (t) => {
  const folder = join(scratch(t), 'model')
  mkdirSync(folder)
  const config = { ...tinyVision, imageSize: 28 } as VisionConfig
  const of = async (own: object, model: object = {}) => {
    writeFileSync(join(folder, 'preprocessor_config.json'), JSON.stringify(own))
    writeFileSync(join(folder, 'config.json'), JSON.stringify(model))
    return processorOfFolder(folder, config)
  }
  t.same(
    await of({ image_processor_type: 'CLIPImageProcessor', size: { shortest_edge: 30 }, image_mean: [0.1, 0.2, 0.3] }),
    {
      processor: { kind: 'crop', filter: 'bicubic', shortest: 30 },
      mean: [0.1, 0.2, 0.3],
    },
  )
  t.match(await of({ image_processor_type: 'LlavaImageProcessor', do_pad: true, image_mean: [0.5, 0.25, 1] }), {
    processor: { kind: 'pad', colour: [127, 63, 255] },
  })
  t.match(await of({ size: { height: 28, width: 28 }, resample: 2 }), {
    processor: { kind: 'square', filter: 'bilinear' },
  })
  t.match(await of({ image_processor_type: 'LlavaNextImageProcessorFast' }, { image_grid_pinpoints: [[28, 56]] }), {
    processor: { kind: 'anyres', resolutions: [[28, 56]] },
  })
  t.match(await of({ image_processor_type: 'SmolVLMImageProcessor', size: { longest_edge: 112 }, resample: 1 }), {
    processor: { kind: 'tiles', filter: 'lanczos', longest: 112, split: true },
  })
  t.match(await raised(() => of({ resample: 0 })), { code: 'ERR_UNSUPPORTED', message: /asks for 0/ })
  for (const pinpoints of [[[28, 30]], [[0, 0]], 'x', [], [[28]], [[28 * 65, 28]]])
    t.match(await raised(() => of({ image_processor_type: 'LlavaNext', image_grid_pinpoints: pinpoints })), {
      code: 'ERR_FILE_FORMAT',
      message: /multiples of 28/,
    })
  await of({}, { vision_config: {} })
  t.equal(await findTower(folder, true), folder)
  await of({}, {})
  t.equal(await findTower(folder, true), undefined)
  writeFileSync(join(folder, 'preprocessor_config.json'), '{')
  t.match(await raised(() => processorOfFolder(folder, config)), { code: 'ERR_FILE_FORMAT', message: /JSON/ })
})
