// Loading: both formats give the same model; what cannot be loaded says why; options and environment.
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { load, methods } from '../lib/index.js'
import { native } from '../lib/native.js'
import { apart, loadWith, raised, same } from './engine.js'
import { scratch, type TinyOptions, tinyModel, VOCABULARY, writeFolder, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'

const ids = randomIds(40, 1)
type Test = { match(a: unknown, b: object, said: string): void }

const kinds: Record<string, TinyOptions> = {
  llama: { biases: true, kvHeads: 1 },
  'llama, tied': { tied: true },
  'llama, linear': { scaling: { type: 'linear', factor: 3 } },
  'llama, dynamic': { scaling: { type: 'dynamic', factor: 3, original: 20 } },
  'llama, llama3': { scaling: { type: 'llama3', factor: 8, low: 1, high: 4, original: 64 } },
  gemma3: { architecture: 'gemma3' },
  'gemma3, linear': { architecture: 'gemma3', kvHeads: 2, scaling: { type: 'linear', factor: 2 }, bos: true },
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: a GGUF file and a folder of safetensors are the same model`, async (t) => {
    const folder = scratch(t)
    const tiny = tinyModel(options)
    const file = await loadWith(writeGguf(join(folder, 'm.gguf'), tiny), 'auto')
    const other = await loadWith(writeFolder(join(folder, 'm'), tiny), 'auto')
    t.teardown(() => Promise.all([file.close(), other.close()]))
    const { name: called, ...config } = file.config
    t.equal(called, `tiny ${tiny.config.architecture}`)
    t.same(other.config, config)
    t.ok(Object.isFrozen(file.config) && Object.isFrozen(file.config.windows))
    const own = { methods: [methods.h2o({ keep: 0.5 })] }
    const [a, b] = [file.session(own), other.session(own)]
    const [left, right] = [await a.forward(ids, { logits: 'all' }), await b.forward(ids, { logits: 'all' })]
    // A norm's weight of 1 + w loses the last bit of w.
    t.ok(tiny.config.architecture === 'llama' ? same(left, right) : apart(left, right) < 0.02, `${apart(left, right)}`)
    for (const text of ['hello world', 'in the <|im_end|> é🦊', ''])
      for (const parseSpecial of [true, false])
        t.same(file.tokenizer.encode(text, { parseSpecial }), other.tokenizer.encode(text, { parseSpecial }))
    t.equal(
      file.tokenizer.chat([{ role: 'user', content: 'x' }]),
      other.tokenizer.chat([{ role: 'user', content: 'x' }]),
    )
  })
}

t.test('what a loaded model says of itself', async (t) => {
  const path = writeGguf(join(scratch(t), 'm.gguf'), tinyModel({ architecture: 'gemma3' }))
  const told: [number, number][] = []
  const model = await load(path, {
    threads: 1,
    onProgress: ({ done, total, what }) => void told.push([done, what === 'weights' ? total : 0]),
  })
  t.ok(
    told.length > 2 && told.every(([done, total], i) => done <= total && done >= (told[i - 1]?.[0] ?? 0)),
    'progress grows',
  )
  t.same(told.at(-1)?.[0], told.at(-1)?.[1])
  t.match(model.config, {
    architecture: 'gemma3',
    layers: 6,
    heads: 4,
    kvHeads: 1,
    headSize: 32,
    hiddenSize: 64,
    feedForwardSize: 96,
    vocabularySize: 272,
    contextLength: 4096,
    windows: [12, 12, 0, 12, 12, 0],
  })
  t.same(model.stages, [{ layers: [0, 6], device: 'cpu' }])
  t.equal(model.bytes.file, readFileSync(path).length)
  t.ok(model.bytes.weights > 272 * 64 * 4)
  const session = model.session()
  await session.forward(randomIds(30, 2))
  t.equal(session.stats.kv.fullBytes, (4 * 12 + 2 * 30) * 32 * 2 * 2, 'f16, within windows')
  t.ok(session.stats.time.load > 0)
  t.equal(session.contextLength, 4096)
  await model.close()
})

t.test('loading leaves no table of the tokenizer to the first text', async (t) => {
  const addon = native()
  const { byteTable } = addon
  let made = 0
  addon.byteTable = (...all) => {
    made++
    return byteTable(...all)
  }
  t.teardown(() => {
    addon.byteTable = byteTable
  })
  const model = await load(writeGguf(join(scratch(t), 'm.gguf'), tinyModel()))
  const loaded = made
  t.ok(loaded > 0)
  t.same([...model.tokenizer.encode('hello world')].length > 0 && made, loaded)
  await model.close()
})

t.test('files that cannot be loaded say why', async (t) => {
  const folder = scratch(t)
  const good = writeGguf(join(folder, 'good.gguf'), tinyModel())
  const made = (name: string, changes: Parameters<typeof writeGguf>[2], options?: TinyOptions) =>
    writeGguf(join(folder, name), tinyModel(options), changes)
  const cut = join(folder, 'cut.gguf')
  copyFileSync(good, cut)
  truncateSync(cut, 100_000)
  const text = join(folder, 'text.gguf')
  writeFileSync(text, 'hello'.repeat(100))
  mkdirSync(join(folder, 'empty'))
  await refused(t, [
    [join(folder, 'none.gguf'), 'ERR_FILE_NOT_FOUND', /none\.gguf/],
    [join(folder, 'empty'), 'ERR_FILE_NOT_FOUND', /empty/],
    [text, 'ERR_FILE_FORMAT', /GGUF/],
    [cut, 'ERR_FILE_TRUNCATED', /cut\.gguf/],
    [made('arch.gguf', [['general.architecture', 'string', 'mamba']]), 'ERR_UNSUPPORTED', /mamba/],
    [made('pre.gguf', [['tokenizer.ggml.pre', 'string', 'martian']]), 'ERR_UNSUPPORTED', /martian/],
    [made('tokenizer.gguf', [['tokenizer.ggml.model', 'string', 'runes']]), 'ERR_UNSUPPORTED', /runes/],
    [
      made('words.gguf', [['tokenizer.ggml.tokens', 'strings', [...VOCABULARY.tokens, 'more']]]),
      'ERR_FILE_FORMAT',
      /27[23]/,
    ],
    [made('rope.gguf', [['llama.rope.scaling.type', 'string', 'yarn']]), 'ERR_UNSUPPORTED', /yarn/],
    [made('heads.gguf', [['llama.attention.head_count_kv', 'u32', 3]]), 'ERR_UNSUPPORTED', /heads/],
    [made('width.gguf', [['llama.embedding_length', 'u32', 128]]), 'ERR_FILE_FORMAT', /attn_norm|token_embd/],
    [made('layers.gguf', [['llama.block_count', 'u32', 5]]), 'ERR_FILE_FORMAT', /blk\.4/],
    [made('experts.gguf', [['llama.expert_count', 'u32', 8]]), 'ERR_UNSUPPORTED', /experts/],
  ])
})

t.test('folders that cannot be loaded say why', async (t) => {
  const folder = scratch(t)
  const broken = (name: string, change: (path: string) => void) => {
    const path = writeFolder(join(folder, name), tinyModel())
    change(path)
    return path
  }
  const config = (path: string, changes: object) => {
    const file = join(path, 'config.json')
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...changes }))
  }
  await refused(t, [
    [broken('no-tokenizer', (path) => rmSync(join(path, 'tokenizer.json'))), 'ERR_FILE_NOT_FOUND', /tokenizer\.json/],
    [
      broken('bad-tokenizer', (path) => writeFileSync(join(path, 'tokenizer.json'), '{"model":')),
      'ERR_FILE_FORMAT',
      /tokenizer\.json/,
    ],
    [broken('no-config', (path) => rmSync(join(path, 'config.json'))), 'ERR_FILE_NOT_FOUND', /config\.json/],
    [
      broken('no-weights', (path) => renameSync(join(path, 'model.safetensors'), join(path, 'x'))),
      'ERR_FILE_NOT_FOUND',
      /safetensors/,
    ],
    [broken('family', (path) => config(path, { model_type: 'mamba' })), 'ERR_UNSUPPORTED', /mamba/],
    [broken('layers', (path) => config(path, { num_hidden_layers: 9 })), 'ERR_FILE_FORMAT', /blk\.4/],
  ])
})

async function refused(
  t: Test,
  cases: readonly (readonly [path: string, code: string, said: RegExp])[],
): Promise<void> {
  for (const [path, code, said] of cases) {
    const error = await raised(async () => (await load(path)).close())
    t.match(error, { name: 'TokensieveError', code, message: said }, basename(path))
  }
}

t.test('options and environment', async (t) => {
  const path = writeGguf(join(scratch(t), 'm.gguf'), tinyModel())
  const wrong: [unknown, unknown, string][] = [
    [42, {}, 'TypeError'],
    [path, null, 'TypeError'],
    [path, { thread: 2 }, 'TypeError'],
    [path, { threads: 0 }, 'RangeError'],
    [path, { threads: 1.5 }, 'RangeError'],
    [path, { threads: '2' }, 'TypeError'],
    [path, { device: 3 }, 'TypeError'],
    [path, { onProgress: 1 }, 'TypeError'],
    [path, { signal: 1 }, 'TypeError'],
  ]
  for (const [where, options, name] of wrong)
    t.match(
      await raised(() => load(where as string, options as object)),
      { name, message: /^Expected .+ but received / },
      JSON.stringify(options),
    )
  t.match(await raised(() => load(path, { device: 'cuda' })), { code: 'ERR_DEVICE', message: /cuda/ })
  t.match(await raised(() => load(path, { vision: 'x' })), { code: 'ERR_FILE_NOT_FOUND' })
  t.match(await raised(() => load(path, { vision: 3 } as object)), { name: 'TypeError' })
  await (await load(path, { device: 'cpu' })).close()
  const under = async (name: string, value: string) => {
    const before = process.env[name]
    process.env[name] = value
    const loading = raised(async () => (await load(path)).close())
    if (before === undefined) delete process.env[name]
    else process.env[name] = before
    return loading
  }
  t.match(await under('TOKENSIEVE_ISA', 'sse9'), { code: 'ERR_DEVICE', message: /sse9/ })
  t.match(await under('TOKENSIEVE_ISA', process.arch === 'x64' ? 'neon' : 'avx2'), { code: 'ERR_DEVICE' })
  t.match(await under('TOKENSIEVE_THREADS', 'many'), {
    name: 'RangeError',
    message: /`TOKENSIEVE_THREADS` but received "many"/,
  })
  t.match(await under('TOKENSIEVE_THREADS', '0'), { name: 'RangeError' })
  t.match(await under('TOKENSIEVE_THREADS', '2'), { message: 'nothing was thrown' })
  t.match(await under('TOKENSIEVE_DEVICE', 'cuda'), { code: 'ERR_DEVICE' })
  const reference = await loadWith(path, 'reference')
  t.equal(reference.isa, 'reference')
  await reference.close()
})

t.test('a load that is stopped', async (t) => {
  const path = writeGguf(join(scratch(t), 'm.gguf'), tinyModel({ layers: 12, hidden: 256, feedForward: 1024 }))
  const reason = new Error('no')
  t.equal(await raised(() => load(path, { signal: AbortSignal.abort(reason) })), reason)
  const stop = new AbortController()
  const loading = raised(() => load(path, { signal: stop.signal, onProgress: () => stop.abort(reason) }))
  t.equal(await loading, reason)
  const mine = new RangeError('mine')
  const thrown = await raised(() =>
    load(path, {
      onProgress: () => {
        throw mine
      },
    }),
  )
  t.equal(thrown, mine, 'what a listener throws is what load rejects with')
  const model = await load(path)
  t.ok((await model.session().forward('hello')).every(Number.isFinite))
  await model.close()
})
