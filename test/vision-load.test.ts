// Towers from files: what converters write, folders of LLaVA, and what is refused.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { load } from '../lib/index.js'
import { native } from '../lib/native.js'
import type { NativeVision } from '../lib/native-vision.js'
import { raised, same } from './engine.js'
import { scratch, tinyModel, writeFolder, writeGguf } from './model-fixture.js'
import { generator, normals, randomIds } from './numbers.js'
import { loadFixture, loadTower, visionFolder } from './vision-fixture.js'
import { type TinyTower, tinyTower, writeTower } from './vision-reference.js'

async function projected(vision: NativeVision): Promise<Float32Array> {
  const glance = vision.open(normals(3 * vision.config.imageSize ** 2, generator(3), 1), 1)
  await vision.advance(glance, 2 * vision.config.layers + 1, [])
  return glance.hidden()
}

t.test('what a tower says of itself', async (t) => {
  const { vision } = await loadFixture(t, 'clip')
  const { deviation, mean, newline, ...rest } = vision.config
  t.same(rest, {
    imageSize: 24,
    patchSize: 6,
    side: 4,
    layers: 1,
    width: 64,
    heads: 2,
    headSize: 32,
    classToken: true,
    projector: 'mlp',
    pool: 1,
    outputSize: 32,
  })
  t.same(mean.map(Math.fround), [0.48, 0.46, 0.41].map(Math.fround))
  t.same(deviation.map(Math.fround), [0.27, 0.26, 0.28].map(Math.fround))
  t.equal(newline.length, 0)
  t.ok(vision.bytes > 40000)
  t.match(vision.fingerprint, /^[0-9a-f]{64}$/)
  t.match((await loadFixture(t, 'siglip')).vision.config, { projector: 'pixelShuffle', pool: 2, classToken: false })
  t.equal((await loadFixture(t, 'linear')).vision.config.projector, 'linear')
  const own = tinyTower()
  const path = writeTower(join(scratch(t), 'x.gguf'), own)
  t.same([...(await loadTower(t, path)).config.newline], [...(own.tensors.get('model.image_newline')?.data ?? [])])
})

t.test('progress is told, and a load can be cancelled', async (t) => {
  const file = await native().open(`${visionFolder}clip.gguf`)
  const told: number[][] = []
  const { vision } = native().loadVision(
    file,
    { threads: 1, isa: 'auto' },
    (done, total) => void told.push([done, total]),
  )
  ;(await vision).close()
  await new Promise((next) => setTimeout(next, 50))
  t.equal(told.at(-1)?.[0], told.at(-1)?.[1])
  const stopped = native().loadVision(file, { threads: 1, isa: 'auto' }, null)
  stopped.cancel()
  const error = await raised(() => stopped.vision)
  t.ok(error.code === 'ERR_ABORTED' || error.message === 'nothing was thrown')
  file.close()
})

t.test('old names of the two layers of an MLP, and rows of an earlier block', async (t) => {
  const tower = tinyTower({ layers: 3 })
  const folder = scratch(t)
  const plain = await projected(await loadTower(t, writeTower(join(folder, 'plain.gguf'), tower)))
  const rename = (name: string) => name.replace(/ffn_(up|down)/, (_, which) => (which === 'up' ? 'ffn_down' : 'ffn_up'))
  t.same(await projected(await loadTower(t, writeTower(join(folder, 'old.gguf'), tower, { rename }))), plain)
  const short = tinyTower({ layers: 3 })
  const changes = [['clip.vision.feature_layer', 'i32s', [2]]] as const
  const early = await loadTower(t, writeTower(join(folder, 'early.gguf'), short, { changes }))
  t.equal(early.config.layers, 2)
  const two = await loadTower(
    t,
    writeTower(join(folder, 'two.gguf'), { ...short, config: { ...short.config, layers: 2 } }),
  )
  t.ok(same(await projected(early), await projected(two)))
})

t.test('files that are refused', async (t) => {
  const folder = scratch(t)
  const tower = tinyTower()
  const number = (key: string, value: number) => [[`clip.vision.${key}`, 'u32', value]] as const
  const wrong: [string, string, RegExp, Parameters<typeof writeTower>[2]][] = [
    ['no patch size', 'ERR_FILE_FORMAT', /patch_size/, { changes: number('patch_size', 0) }],
    ['patches larger than the picture', 'ERR_UNSUPPORTED', /patches of a side/, { changes: number('patch_size', 100) }],
    ['other patches', 'ERR_FILE_FORMAT', /patch_embd/, { changes: number('patch_size', 4) }],
    ['another picture', 'ERR_FILE_FORMAT', /position_embd/, { changes: number('image_size', 40) }],
    ['a huge picture', 'ERR_UNSUPPORTED', /patches of a side/, { changes: number('image_size', 16000) }],
    ['more blocks', 'ERR_FILE_FORMAT', /v\.blk\.2/, { changes: number('block_count', 3) }],
    ['heads that do not fit', 'ERR_UNSUPPORTED', /heads of equal size/, { changes: number('attention.head_count', 7) }],
    ['another width', 'ERR_FILE_FORMAT', /shape/, { changes: number('embedding_length', 96) }],
    ['a layer that is not there', 'ERR_FILE_FORMAT', /feature_layer/, { changes: number('feature_layer', 9) }],
    ['several layers', 'ERR_UNSUPPORTED', /one layer/, { changes: [['clip.vision.feature_layer', 'i32s', [1, 2]]] }],
    [
      'another projector',
      'ERR_UNSUPPORTED',
      /"resampler"/,
      { changes: [['clip.projector_type', 'string', 'resampler']] },
    ],
    [
      'joined patches that do not fit',
      'ERR_FILE_FORMAT',
      /2 divides/,
      {
        changes: [['clip.projector_type', 'string', 'idefics3'], ...number('projector.scale_factor', 2)],
      },
    ],
    ['no tower', 'ERR_UNSUPPORTED', /says that it has none/, { changes: [['clip.has_vision_encoder', 'bool', false]] }],
    ['no projector', 'ERR_FILE_FORMAT', /mm\.0\.weight/, { rename: (name) => name.replace(/^mm\..*/, '') }],
    ['half a norm', 'ERR_FILE_FORMAT', /pre_ln\.bias/, { rename: (name) => name.replace(/^v\.pre_ln\.bias/, '') }],
    [
      'no class token where there is a position for it',
      'ERR_FILE_FORMAT',
      /position_embd/,
      {
        rename: (name) => name.replace(/^v\.class_embd/, ''),
      },
    ],
  ]
  for (const [what, code, message, changes] of wrong) {
    const error = await raised(() => loadTower(t, writeTower(join(folder, 'x.gguf'), tower, changes)))
    t.match(error, { code, message }, what)
  }
  const text = writeGguf(join(folder, 'text.gguf'), tinyModel())
  t.match(await raised(() => loadTower(t, text)), { code: 'ERR_UNSUPPORTED', message: /expected a vision tower/ })
  const picture = writeTower(join(folder, 'tower.gguf'), tower)
  t.match(await raised(() => load(picture)), { code: 'ERR_UNSUPPORTED', message: /clip/ }, 'a tower is no decoder')
})

// ---- folders

const IN_TOWER: Record<string, string> = {
  'v.class_embd': 'embeddings.class_embedding',
  'v.patch_embd.weight': 'embeddings.patch_embedding.weight',
  'v.position_embd.weight': 'embeddings.position_embedding.weight',
  'v.pre_ln.weight': 'pre_layrnorm.weight',
  'v.pre_ln.bias': 'pre_layrnorm.bias',
}
const IN_BLOCK: Record<string, string> = {
  ln1: 'layer_norm1',
  ln2: 'layer_norm2',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_out: 'self_attn.out_proj',
  ffn_up: 'mlp.fc1',
  ffn_down: 'mlp.fc2',
}
const PROJECTOR: Record<string, string> = { 'mm.0': 'linear_1', 'mm.2': 'linear_2' }

/** The name in a folder of LLaVA, the newer one of two. */
function llavaName(name: string, newer: boolean): string {
  const tower = newer ? 'model.vision_tower.' : 'vision_tower.vision_model.'
  const [, layer, part = '', kind] = /^v\.blk\.(\d+)\.(\w+)\.(\w+)$/.exec(name) ?? []
  if (layer !== undefined) return `${tower}encoder.layers.${layer}.${IN_BLOCK[part]}.${kind}`
  if (IN_TOWER[name]) return tower + IN_TOWER[name]
  const front = newer ? 'model.' : ''
  const projector = PROJECTOR[name.slice(0, 4)]
  if (projector) return `${front}multi_modal_projector.${projector}${name.slice(4)}`
  if (name === 'model.image_newline') return `${front}image_newline`
  if (name === 'lm_head.weight') return newer ? name : `language_model.${name}`
  return newer ? name.replace('model.', 'model.language_model.') : `language_model.${name}`
}

/** A llama's folder with a tower in it. */
function writeLlava(folder: string, tower: TinyTower, newer: boolean, changes: object = {}): string {
  const decoder = tinyModel()
  writeFolder(folder, decoder)
  const path = join(folder, 'model.safetensors')
  const old = readFileSync(path)
  const length = Number(old.readBigUInt64LE())
  type Entry = { dtype: string; shape: readonly number[]; data_offsets: [number, number] }
  const header = JSON.parse(old.subarray(8, 8 + length).toString()) as Record<string, Entry>
  const all = Object.fromEntries(Object.entries(header).map(([name, entry]) => [llavaName(name, newer), entry]))
  const data: Buffer[] = [old.subarray(8 + length)]
  let offset = data[0]?.length as number
  const behind = `${newer ? 'model.vision_tower.' : 'vision_tower.vision_model.'}post_layernorm.`
  const rest = ['weight', 'bias'].map((kind) => [behind + kind, new Float32Array(48)] as const)
  const tensors = [...tower.tensors].map(([name, { data, shape }]) => [llavaName(name, newer), data, shape] as const)
  for (const [name, values, shape] of [...tensors, ...rest.map(([name, x]) => [name, x, [x.length]] as const)]) {
    all[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + values.byteLength] }
    data.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength))
    offset += values.byteLength
  }
  const json = JSON.stringify(all)
  const start = Buffer.alloc(8)
  const padded = json.padEnd((json.length + 7) & ~7)
  start.writeBigUInt64LE(BigInt(padded.length))
  writeFileSync(path, Buffer.concat([start, Buffer.from(padded), ...data]))
  const { heads, hidden, image, layers, patch, width } = tower.config
  const config = {
    model_type: 'llava_next',
    text_config: JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')),
    vision_config: {
      model_type: 'clip_vision_model',
      image_size: image,
      patch_size: patch,
      hidden_size: width,
      intermediate_size: hidden,
      num_attention_heads: heads,
      num_hidden_layers: layers,
    },
    vision_feature_layer: -2,
    vision_feature_select_strategy: 'default',
    image_grid_pinpoints: [
      [15, 30],
      [30, 15],
    ],
    ...changes,
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const processor = { image_mean: [0.5, 0.25, 0.125], image_std: [0.5, 0.5, 0.25] }
  writeFileSync(join(folder, 'preprocessor_config.json'), JSON.stringify(processor))
  return folder
}

for (const newer of [false, true]) {
  t.test(`a folder of LLaVA${newer ? ' with newer names' : ''}: tower and decoder`, async (t) => {
    const { hidden } = tinyModel().config
    const tower = tinyTower({ layers: 3, output: hidden })
    const folder = scratch(t)
    mkdirSync(join(folder, 'llava'))
    const path = writeLlava(join(folder, 'llava'), tower, newer)
    const vision = await loadTower(t, path, { isa: 'reference' })
    t.match(vision.config, { layers: 2, width: 48, classToken: true, projector: 'mlp', outputSize: hidden })
    t.same(vision.config.mean, [0.5, 0.25, 0.125])
    t.same(vision.config.deviation, [0.5, 0.5, 0.25])
    t.equal(vision.config.newline.length, hidden)
    const changes = [['clip.vision.feature_layer', 'i32s', [2]]] as const
    const same = await loadTower(t, writeTower(join(folder, 'x.gguf'), tower, { changes }), { isa: 'reference' })
    t.same(await projected(vision), await projected(same))

    const file = await native().open(path)
    t.same([...(file.metadata('clip.vision.image_grid_pinpoints') as Float64Array)], [15, 30, 30, 15])
    file.close()
    const decoder = await load(path, { threads: 2 })
    const twin = await load(writeGguf(join(folder, 'twin.gguf'), tinyModel()), { threads: 2 })
    const ids = randomIds(20, 4)
    t.same(await decoder.session().forward(ids), await twin.session().forward(ids), 'the decoder alone')
    await Promise.all([decoder.close(), twin.close()])
  })
}

t.test('folders of LLaVA that are refused', async (t: Test) => {
  const tower = tinyTower({ layers: 3 })
  const cases: [object, string, RegExp][] = [
    [{ vision_config: null }, 'ERR_FILE_FORMAT', /vision_config/],
    [{ text_config: null }, 'ERR_FILE_FORMAT', /text_config/],
    [{ text_config: { model_type: 'mistral' } }, 'ERR_UNSUPPORTED', /mistral/],
    [{ vision_config: { model_type: 'pixtral' } }, 'ERR_UNSUPPORTED', /pixtral/],
    [{ vision_feature_layer: [-2, -5] }, 'ERR_UNSUPPORTED', /one number/],
    [{ vision_feature_layer: 4 }, 'ERR_FILE_FORMAT', /3 layers/],
    [{ vision_feature_select_strategy: 'full' }, 'ERR_UNSUPPORTED', /full/],
    [{ projector_hidden_act: 'relu' }, 'ERR_UNSUPPORTED', /relu/],
    [{ image_grid_pinpoints: [[1]] }, 'ERR_FILE_FORMAT', /heights and widths/],
  ]
  for (const [changes, code, message] of cases) {
    const path = writeLlava(join(scratch(t), 'x'), tower, false, changes)
    t.match(await raised(() => loadTower(t, path)), { code, message }, JSON.stringify(changes))
  }
})
