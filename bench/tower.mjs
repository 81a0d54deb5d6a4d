// Writes a vision tower of random weights beside a decoder, so that pictures can be timed: good for speeds, not for seeing.
import { closeSync, openSync, writeSync } from 'node:fs'

/** Both read 24 × 24 patches of a picture of 336 × 336 pixels. `clip-l` is the shape of CLIP ViT-L/14-336, of which LLaVA 1.5 runs all blocks but the last. */
export const SHAPES = {
  'clip-l': { layers: 23, width: 1024, heads: 16, feedForward: 4096, patch: 14, image: 336 },
  'clip-s': { layers: 11, width: 384, heads: 6, feedForward: 1536, patch: 14, image: 336 },
}

const ALIGN = 32
const POOL = 2 ** 20
/** As GGUF numbers them, with the bytes of a block of so many numbers. */
const F32 = { id: 0, bytes: 4, block: 1 }
const F16 = { id: 1, bytes: 2, block: 1 }
const Q8_0 = { id: 8, bytes: 34, block: 32 }

/** outputSize: what the decoder reads, as its embedding_length says. Matrices are q8_0 or, with `half`, f16; the patch embedding is f16, the rest f32. */
export function writeTower(path, shape, outputSize, half = false) {
  const tensors = tensorsOf(shape, outputSize, half ? F16 : Q8_0)
  const file = openSync(path, 'w')
  try {
    let offset = 0
    const index = tensors.map(({ dims, name, type }) => {
      const at = offset
      offset += aligned(bytesOf({ dims, type }))
      return Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type.id), u64(at)])
    })
    const keys = keysOf(shape)
    const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(keys.length), ...keys, ...index])
    writeSync(file, Buffer.concat([head, Buffer.alloc(aligned(head.length) - head.length)]))
    const pools = new Map([
      [F32, poolOf((values) => Buffer.from(values.buffer))],
      [F16, poolOf(halves)],
      [Q8_0, poolOf(quantized)],
    ])
    for (const [i, tensor] of tensors.entries()) writeTensor(file, tensor, pools, i)
  } finally {
    closeSync(file)
  }
}

/** The innermost dimension first. */
function tensorsOf({ feedForward, image, layers, patch, width }, outputSize, stored) {
  const matrix = (name, columns, rows) => [
    { name: `${name}.weight`, dims: [columns, rows], type: stored, spread: 1 / Math.sqrt(columns) },
    { name: `${name}.bias`, dims: [rows], type: F32, spread: 0.02 },
  ]
  const norm = (name) => [
    { name: `${name}.weight`, dims: [width], type: F32, spread: 0.1, middle: 1 },
    { name: `${name}.bias`, dims: [width], type: F32, spread: 0.02 },
  ]
  const blocks = Array.from({ length: layers }, (_, i) => `v.blk.${i}.`).flatMap((blk) => [
    ...norm(`${blk}ln1`),
    ...['attn_q', 'attn_k', 'attn_v', 'attn_out'].flatMap((part) => matrix(blk + part, width, width)),
    ...norm(`${blk}ln2`),
    ...matrix(`${blk}ffn_up`, width, feedForward),
    ...matrix(`${blk}ffn_down`, feedForward, width),
  ])
  const fold = { dims: [patch, patch, 3, width], type: F16, spread: 1 / Math.sqrt(3 * patch * patch) }
  return [
    { name: 'v.patch_embd.weight', ...fold },
    { name: 'v.class_embd', dims: [width], type: F32, spread: 1 },
    { name: 'v.position_embd.weight', dims: [width, (image / patch) ** 2 + 1], type: F32, spread: 1 },
    ...norm('v.pre_ln'),
    ...blocks,
    ...matrix('mm.0', width, outputSize),
    ...matrix('mm.2', outputSize, outputSize),
  ]
}

function keysOf({ feedForward, heads, image, layers, patch, width }) {
  const sizes = { image_size: image, patch_size: patch, block_count: layers, embedding_length: width }
  const more = { feed_forward_length: feedForward, 'attention.head_count': heads }
  const three = (values) => Buffer.concat([u32(6), u64(3), ...values.map(f32)])
  const key = (name, type, value) => Buffer.concat([text(name), u32(type), value])
  return [
    key('general.architecture', 8, text('clip')),
    key('general.name', 8, text('synthetic tower')),
    key('clip.has_vision_encoder', 7, Buffer.from([1])),
    key('clip.projector_type', 8, text('mlp')),
    key('clip.vision.image_aspect_ratio', 8, text('square')),
    ...Object.entries({ ...sizes, ...more }).map(([name, value]) => key(`clip.vision.${name}`, 4, u32(value))),
    key('clip.vision.attention.layer_norm_epsilon', 6, f32(1e-5)),
    key('clip.vision.image_mean', 9, three([0.48145466, 0.4578275, 0.40821073])),
    key('clip.vision.image_std', 9, three([0.26862954, 0.26130258, 0.27577711])),
  ]
}

/** Pieces of the same random numbers, each tensor from a place of its own. */
function writeTensor(file, { dims, middle = 0, spread, type }, pools, number) {
  const count = dims.reduce((a, b) => a * b)
  const pool = pools.get(type)(spread, middle)
  const place = (numbers) => (numbers / type.block) * type.bytes
  const bytes = Buffer.alloc(aligned(place(count)))
  for (let at = 0; at < count; at += POOL) {
    const turn = ((number * 7919 + at / POOL) * 4096) % POOL
    const length = Math.min(POOL, count - at)
    const first = Math.min(length, POOL - turn)
    pool.copy(bytes, place(at), place(turn), place(turn + first))
    pool.copy(bytes, place(at + first), 0, place(length - first))
  }
  writeSync(file, bytes)
}

let state = 1
function uniform() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 31 - 1
}

/** Even between ± √3 spreads around a middle, made once for each of them. */
function poolOf(store) {
  const known = new Map()
  return (spread, middle) => {
    const key = `${spread} ${middle}`
    if (!known.has(key))
      known.set(key, store(Float32Array.from({ length: POOL }, () => middle + Math.sqrt(3) * spread * uniform())))
    return known.get(key)
  }
}

/** The lowest 13 bits are cut; what is below the normal halves becomes 0. */
function halves(values) {
  const half = Uint16Array.from(new Uint32Array(values.buffer), (word) => {
    const exponent = ((word >>> 23) & 255) - 112
    return exponent <= 0 ? 0 : ((word >>> 16) & 0x8000) | (exponent << 10) | ((word >>> 13) & 1023)
  })
  return Buffer.from(half.buffer)
}

/** Blocks of 32: a scale, then bytes. One scale serves all, as all are as wide. */
function quantized(values) {
  const most = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  const scale = halves(Float32Array.of(most / 127))
  const bytes = Buffer.alloc((values.length / Q8_0.block) * Q8_0.bytes)
  for (let i = 0; i < values.length; i += Q8_0.block) {
    const at = (i / Q8_0.block) * Q8_0.bytes
    scale.copy(bytes, at)
    for (let j = 0; j < Q8_0.block; j++) bytes.writeInt8(Math.trunc((126 * values[i + j]) / most), at + 2 + j)
  }
  return bytes
}

const aligned = (bytes) => Math.ceil(bytes / ALIGN) * ALIGN
const bytesOf = ({ dims, type }) => (dims.reduce((a, b) => a * b) / type.block) * type.bytes

function u32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function f32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}

function text(value) {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}
