// Tiny models with random weights, written as a GGUF file or as a folder of safetensors: every shape that an architecture file knows, small enough for plain loops.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { folderConfig, folderName, folderTokenizer } from './model-folder.js'
import { dequantizeQ8, generator, normals, q8Bytes, quantizeQ8 } from './numbers.js'

export interface TinyOptions {
  readonly architecture?: 'llama' | 'gemma3'
  readonly layers?: number
  readonly heads?: number
  readonly kvHeads?: number
  readonly headSize?: number
  readonly hidden?: number
  readonly feedForward?: number
  readonly context?: number
  /** gemma3: rows that sliding layers see, and of how many layers the last one sees all. */
  readonly window?: number
  readonly period?: number
  /** The output head is the embedding. */
  readonly tied?: boolean
  readonly biases?: boolean
  readonly scaling?: Scaling
  /** How matrices are stored. */
  readonly type?: 'f32' | 'q8_0'
  /** The tokenizer puts its begin token in front. */
  readonly bos?: boolean
  readonly seed?: number
  /** Rows of the embedding and of the head; those past the tokenizer's are ids without a text. */
  readonly vocabulary?: number
}

export type Scaling =
  | { readonly type: 'linear'; readonly factor: number }
  | { readonly type: 'dynamic'; readonly factor: number; readonly original: number }
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly low: number
      readonly high: number
      readonly original: number
    }

export type TinyConfig = Required<Omit<TinyOptions, 'scaling'>> & {
  readonly scaling: Scaling | undefined
}

/** shape: outermost first. Rows of q and k hold the halves of rotated pairs one after another; norms are what rows are multiplied with. */
export interface TinyTensor {
  readonly shape: readonly number[]
  readonly data: Float32Array
}

export interface TinyModel {
  readonly config: TinyConfig
  /** By GGUF name. What quantized storage leaves of the numbers, where they are quantized. */
  readonly tensors: Map<string, TinyTensor>
}

// ---- the vocabulary: three special tokens, every byte, a few merges

const SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
export const BOS = 1
export const END = 2
/** Id of byte 0. */
export const BYTES = SPECIAL.length
const MERGES = ['h e', 'l l', 'he ll', 'hell o', 'Ġ w', 'o r', 'Ġw or', 'l d', 'Ġwor ld', 'i n', 't h', 'th e', 'Ġ the']

/** GPT-2's way to write a byte as a letter. */
const LETTERS = (() => {
  let extra = 256
  const plain = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(plain(byte) ? byte : extra++))
})()

export const VOCABULARY = {
  tokens: [...SPECIAL, ...LETTERS, ...MERGES.map((merge) => merge.replace(' ', ''))],
  merges: MERGES,
  special: SPECIAL,
}

/** The id of a token as the vocabulary writes it. */
export function idOf(token: string): number {
  return VOCABULARY.tokens.indexOf(token)
}

/** Ids of the bytes of a text, none of them merged. */
export function byteIds(text: string): number[] {
  return [...Buffer.from(text)].map((byte) => BYTES + byte)
}

export function templateOf({ bos }: TinyConfig): string {
  return `${bos ? '{{ bos_token }}' : ''}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`
}

// ---- the weights

const PRESETS = {
  llama: {
    layers: 4,
    heads: 4,
    kvHeads: 2,
    headSize: 16,
    hidden: 64,
    feedForward: 96,
    window: 0,
    period: 1,
    tied: false,
  },
  gemma3: {
    layers: 6,
    heads: 4,
    kvHeads: 1,
    headSize: 32,
    hidden: 64,
    feedForward: 96,
    window: 12,
    period: 3,
    tied: true,
  },
}

export function tinyModel(options: TinyOptions = {}): TinyModel {
  const { architecture = 'llama' } = options
  const config: TinyConfig = {
    architecture,
    context: 4096,
    biases: false,
    type: 'f32',
    bos: false,
    seed: 1,
    vocabulary: VOCABULARY.tokens.length,
    ...PRESETS[architecture],
    scaling: undefined,
    ...options,
  }
  const tensors = new Map<string, TinyTensor>()
  const next = generator(config.seed)
  const add = (name: string, shape: readonly number[], spread: number, middle = 0) => {
    const drawn = normals(
      shape.reduce((a, b) => a * b),
      next,
      spread,
      middle,
    )
    const stored = config.type === 'q8_0' && shape.length === 2 ? dequantizeQ8(quantizeQ8(drawn)) : drawn
    tensors.set(name, { shape, data: stored })
  }
  addTensors(config, add)
  return { config, tensors }
}

function addTensors(
  config: TinyConfig,
  add: (name: string, shape: readonly number[], spread: number, middle?: number) => void,
): void {
  const { architecture, biases, feedForward, headSize, heads, hidden, kvHeads, layers, tied, vocabulary } = config
  const matrix = (name: string, rows: number, cols: number, gain = 1) => {
    add(`${name}.weight`, [rows, cols], gain / Math.sqrt(cols))
    if (biases) add(`${name}.bias`, [rows], 0.1)
  }
  const norm = (name: string, size: number) => add(`${name}.weight`, [size], 0.2, 1)
  add('token_embd.weight', [vocabulary, hidden], architecture === 'gemma3' ? 1 / Math.sqrt(hidden) : 1)
  for (let l = 0; l < layers; l++) {
    const at = (name: string) => `blk.${l}.${name}`
    norm(at('attn_norm'), hidden)
    matrix(at('attn_q'), heads * headSize, hidden, 2)
    matrix(at('attn_k'), kvHeads * headSize, hidden, 2)
    matrix(at('attn_v'), kvHeads * headSize, hidden)
    matrix(at('attn_output'), hidden, heads * headSize)
    norm(at('ffn_norm'), hidden)
    matrix(at('ffn_gate'), feedForward, hidden)
    matrix(at('ffn_up'), feedForward, hidden)
    matrix(at('ffn_down'), hidden, feedForward)
    if (architecture !== 'gemma3') continue
    for (const name of ['attn_q_norm', 'attn_k_norm']) norm(at(name), headSize)
    for (const name of ['post_attention_norm', 'post_ffw_norm']) norm(at(name), hidden)
  }
  norm('output_norm', hidden)
  if (!tied) add('output.weight', [vocabulary, hidden], 2 / Math.sqrt(hidden))
}

/** A model that, after each of these ids (each may come once), is sure of the next, and after the last of the end token. Its layers add nothing; the head's row of the next token is the embedding of this one. */
export function chainModel(ids: readonly number[], options: TinyOptions = {}): TinyModel {
  const model = tinyModel({ ...options, tied: false })
  const { hidden } = model.config
  const of = (name: string) => model.tensors.get(name)?.data as Float32Array
  for (const [name, { data }] of model.tensors) if (/attn_output|ffn_down/.test(name)) data.fill(0)
  of('output_norm.weight').fill(1)
  const head = of('output.weight').fill(0)
  ids.forEach(
    (id, i) =>
      void head.set(of('token_embd.weight').subarray(id * hidden, (id + 1) * hidden), (ids[i + 1] ?? END) * hidden),
  )
  return model
}

// ---- files

/** A folder that is gone when the test ends. */
export function scratch(t: { teardown(fn: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'tokensieve-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

type Entry = readonly [key: string, type: 'u32' | 'f32' | 'string' | 'bool' | 'strings' | 'i32s', value: unknown]

export function writeGguf(path: string, model: TinyModel, changes: readonly Entry[] = []): string {
  const changed = new Set(changes.map(([key]) => key))
  const entries = [...metadata(model.config).filter(([key]) => !changed.has(key)), ...changes]
  const tensors = [...model.tensors, ...ropeFactors(model.config)].map(([name, tensor]) => {
    const data = ggufOrder(name, tensor, model.config)
    return { name, shape: tensor.shape, data, quantized: model.config.type === 'q8_0' && tensor.shape.length === 2 }
  })
  writeFileSync(path, ggufBytes(entries, tensors))
  return path
}

/** A GGUF file of these values and tensors, in f32 or q8_0. */
export function ggufBytes(
  entries: readonly Entry[],
  tensors: readonly { name: string; shape: readonly number[]; data: Float32Array; quantized?: boolean }[],
): Buffer {
  const header = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(entries.length), ...entries.map(entryBytes)]
  const written: Buffer[] = []
  let offset = 0
  for (const { data, name, quantized = false, shape } of tensors) {
    const bytes = quantized ? q8Bytes(quantizeQ8(data)) : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    header.push(text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(quantized ? 8 : 0), u64(offset))
    written.push(bytes, Buffer.alloc(-bytes.length & 31))
    offset += (bytes.length + 31) & ~31
  }
  const start = Buffer.concat(header)
  return Buffer.concat([start, Buffer.alloc(-start.length & 31), ...written])
}

/** GGUF files of llama hold the rows of q and k pair by pair. */
function ggufOrder(name: string, { data, shape }: TinyTensor, { architecture, headSize }: TinyConfig): Float32Array {
  if (architecture !== 'llama' || !/attn_[qk]\.(weight|bias)$/.test(name)) return data
  const width = shape.length === 2 ? (shape[1] as number) : 1
  const out = new Float32Array(data.length)
  for (let row = 0; row < (shape[0] as number); row++) {
    const head = Math.floor(row / headSize)
    const i = row % headSize
    const from = head * headSize + (i % 2 === 0 ? i / 2 : headSize / 2 + (i - 1) / 2)
    out.set(data.subarray(from * width, (from + 1) * width), row * width)
  }
  return out
}

function metadata(config: TinyConfig): Entry[] {
  const { architecture, bos, context, feedForward, headSize, heads, hidden, kvHeads, layers, scaling, window, period } =
    config
  const own = (key: string, type: Entry[1], value: unknown): Entry => [`${architecture}.${key}`, type, value]
  const { tokens, merges, special } = VOCABULARY
  const entries: Entry[] = [
    ['general.architecture', 'string', architecture],
    ['general.name', 'string', `tiny ${architecture}`],
    own('block_count', 'u32', layers),
    own('context_length', 'u32', context),
    own('embedding_length', 'u32', hidden),
    own('feed_forward_length', 'u32', feedForward),
    own('attention.head_count', 'u32', heads),
    own('attention.head_count_kv', 'u32', kvHeads),
    own('attention.key_length', 'u32', headSize),
    own('attention.value_length', 'u32', headSize),
    own('attention.layer_norm_rms_epsilon', 'f32', 1e-5),
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'smollm'],
    ['tokenizer.ggml.tokens', 'strings', tokens],
    ['tokenizer.ggml.token_type', 'i32s', tokens.map((_, id) => (id < special.length ? 3 : 1))],
    ['tokenizer.ggml.merges', 'strings', merges],
    ['tokenizer.ggml.bos_token_id', 'u32', BOS],
    ['tokenizer.ggml.eos_token_id', 'u32', END],
    ['tokenizer.ggml.add_bos_token', 'bool', bos],
    ['tokenizer.chat_template', 'string', templateOf(config)],
  ]
  if (architecture === 'gemma3')
    entries.push(own('attention.sliding_window', 'u32', window), own('attention.sliding_window_pattern', 'u32', period))
  if (scaling && scaling.type !== 'llama3')
    entries.push(own('rope.scaling.type', 'string', scaling.type), own('rope.scaling.factor', 'f32', scaling.factor))
  if (scaling?.type === 'dynamic') entries.push(own('rope.scaling.original_context_length', 'u32', scaling.original))
  return entries
}

/** What frequency i is divided by with llama3 scaling: long waves by the factor, short ones by one, those between by a blend. */
export function llama3Factors({ headSize, scaling }: TinyConfig): Float32Array | undefined {
  if (scaling?.type !== 'llama3') return undefined
  return Float32Array.from({ length: headSize / 2 }, (_, i) => {
    const wave = 2 * Math.PI * 10000 ** ((2 * i) / headSize)
    if (wave < scaling.original / scaling.high) return 1
    if (wave > scaling.original / scaling.low) return scaling.factor
    const blend = (scaling.original / wave - scaling.low) / (scaling.high - scaling.low)
    return 1 / ((1 - blend) / scaling.factor + blend)
  })
}

function ropeFactors(config: TinyConfig): [string, TinyTensor][] {
  const data = llama3Factors(config)
  return data ? [['rope_freqs.weight', { shape: [data.length], data }]] : []
}

function entryBytes([key, type, value]: Entry): Buffer {
  const kinds = { u32: 4, f32: 6, bool: 7, string: 8, strings: 9, i32s: 9 }
  return Buffer.concat([text(key), u32(kinds[type]), valueBytes(type, value)])
}

function valueBytes(type: Entry[1], value: unknown): Buffer {
  if (type === 'u32') return u32(value as number)
  if (type === 'bool') return Buffer.from([value ? 1 : 0])
  if (type === 'string') return text(value as string)
  if (type === 'f32') return Buffer.from(Float32Array.of(value as number).buffer)
  const list = value as (string | number)[]
  if (type === 'strings') return Buffer.concat([u32(8), u64(list.length), ...list.map((one) => text(one as string))])
  return Buffer.concat([u32(5), u64(list.length), Buffer.from(Int32Array.from(list as number[]).buffer)])
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4)
  out.writeUInt32LE(value)
  return out
}
function u64(value: number): Buffer {
  const out = Buffer.alloc(8)
  out.writeBigUInt64LE(BigInt(value))
  return out
}
function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}

/** config.json, model.safetensors and tokenizer.json with the same weights. */
export function writeFolder(folder: string, model: TinyModel): string {
  mkdirSync(folder, { recursive: true })
  const header: Record<string, unknown> = {}
  const data: Buffer[] = []
  let offset = 0
  for (const [name, { data: values, shape }] of model.tensors) {
    const plain = model.config.architecture === 'gemma3' && name.includes('norm') ? values.map((x) => x - 1) : values
    header[folderName(name, model.config)] = { dtype: 'F32', shape, data_offsets: [offset, offset + plain.byteLength] }
    data.push(Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength))
    offset += plain.byteLength
  }
  const written = JSON.stringify(header)
  const json = Buffer.from(written.padEnd((written.length + 7) & ~7))
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([u64(json.length), json, ...data]))
  writeFileSync(join(folder, 'config.json'), JSON.stringify(folderConfig(model.config)))
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(folderTokenizer()))
  const { bos } = model.config
  const tokenizer = {
    bos_token: '<|im_start|>',
    eos_token: '<|im_end|>',
    add_bos_token: bos,
    chat_template: templateOf(model.config),
  }
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizer))
  return folder
}
