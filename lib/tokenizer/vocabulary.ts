// What each token stands for, as bytes, and which token some bytes are.
import { ByteTable, count, type PackedStrings, pack, type Strings, stringAt } from './bytes.js'

/** The numbers of `tokenizer.ggml.token_type`. */
export const NORMAL = 1
export const UNKNOWN = 2
export const CONTROL = 3
export const USER_DEFINED = 4
export const BYTE = 6

/** How token strings are written: GPT-2's printable stand-ins for bytes, or text with U+2581 for a space and <0x0A> for a byte. */
export type Writing = 'byte-level' | 'sentencepiece'

export class Vocabulary {
  readonly writing: Writing
  /** Each token as the file writes it, in UTF-8. */
  readonly written: PackedStrings
  /** The bytes of each token, as they appear in text. */
  readonly pieces: PackedStrings
  readonly types: ArrayLike<number>
  /** 1 for each byte that stands before a space inside some word: after it text must not be cut at a space before merging. */
  readonly glue = new Uint8Array(256)
  #table: ByteTable | undefined
  #byteIds: Int32Array | undefined

  constructor(writing: Writing, strings: Strings, types?: ArrayLike<number>) {
    const written = pack(strings)
    const n = count(written)
    this.written = written
    this.writing = writing
    this.types = types ?? guessTypes(writing, written)
    const bytes = new Uint8Array(written.bytes.length)
    const offsets = new Uint32Array(n + 1)
    let at = 0
    for (let id = 0; id < n; id++) {
      const from = written.offsets[id]
      const to = written.offsets[id + 1]
      const type = this.types[id]
      const byte = type === BYTE ? byteName(written.bytes, from, to) : -1
      if (byte >= 0) bytes[at++] = byte
      else if (isWord(type)) {
        const start = at
        at = unwrite(writing, written.bytes, from, to, bytes, at)
        for (let i = start + 1; i < at; i++) if (bytes[i] === 0x20 && bytes[i - 1] !== 0x20) this.glue[bytes[i - 1]] = 1
      } else for (let i = from; i < to; i++) bytes[at++] = written.bytes[i]
      offsets[id + 1] = at
    }
    this.pieces = { bytes: bytes.slice(0, at), offsets }
  }

  get size(): number {
    return this.pieces.offsets.length - 1
  }

  text(id: number): string {
    return stringAt(this.pieces, id)
  }

  /** The token that merging may make of `bytes[from … to)`, or -1: control, user-defined and byte tokens are none. */
  find(bytes: Uint8Array, from: number, to: number): number {
    return this.#words().find(bytes, from, to)
  }

  /** For each of the 256 bytes the token that stands for it alone, or -1. */
  get byteIds(): Int32Array {
    if (this.#byteIds !== undefined) return this.#byteIds
    const ids = new Int32Array(256).fill(-1)
    if (this.writing === 'byte-level') {
      const all = Uint8Array.from(ids.keys())
      for (const byte of all) ids[byte] = this.find(all, byte, byte + 1)
    } else {
      const { bytes, offsets } = this.pieces
      for (let id = this.size - 1; id >= 0; id--) {
        if (this.types[id] === BYTE && offsets[id + 1] - offsets[id] === 1) ids[bytes[offsets[id]]] = id
      }
    }
    this.#byteIds = ids
    return ids
  }

  #words(): ByteTable {
    if (this.#table !== undefined) return this.#table
    const table = new ByteTable(this.pieces)
    for (let id = 0; id < this.size; id++) if (isWord(this.types[id])) table.add(id)
    this.#table = table
    return table
  }
}

// What merging may make: not unknown, control, user-defined or byte. 0 (undefined) and 5 (unused) occur in files and mean no more.
function isWord(type: number): boolean {
  return type === NORMAL || type === 0 || type === 5
}

function guessTypes(writing: Writing, { bytes, offsets }: PackedStrings): Uint8Array {
  const types = new Uint8Array(offsets.length - 1).fill(NORMAL)
  if (writing === 'byte-level') return types
  for (let id = 0; id < types.length; id++) if (byteName(bytes, offsets[id], offsets[id + 1]) >= 0) types[id] = BYTE
  return types
}

// The bytes that a written token stands for, put at `at`; returns the end. Never longer than what is written.
function unwrite(writing: Writing, from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): number {
  for (let i = start; i < end; i++) {
    const byte = from[i]
    if (writing === 'byte-level') {
      // Stand-ins are below U+0144: one or two bytes of UTF-8. What is no stand-in is meant as it is.
      const stand =
        byte >= 0xc2 && byte <= 0xc5 && i + 1 < end ? byteOf[((byte & 0x1f) << 6) | (from[i + 1] & 0x3f)] : -1
      to[at++] = stand < 0 ? byte : stand
      if (stand >= 0) i++
    } else if (byte === 0xe2 && from[i + 1] === 0x96 && from[i + 2] === 0x81 && i + 2 < end) {
      to[at++] = 0x20
      i += 2
    } else to[at++] = byte
  }
  return at
}

// GPT-2's table backwards: printable Latin-1 characters stand for themselves, the other 68 bytes have U+0100 and on.
const byteOf = new Int16Array(0x180).fill(-1)
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
  byteOf[printable ? byte : next++] = byte
}

// "<0x0A>" -> 10, anything else -> -1
function byteName(bytes: Uint8Array, from: number, to: number): number {
  if (
    to - from !== 6 ||
    bytes[from] !== 0x3c ||
    bytes[from + 1] !== 0x30 ||
    bytes[from + 2] !== 0x78 ||
    bytes[from + 5] !== 0x3e
  )
    return -1
  const high = hex(bytes[from + 3])
  const low = hex(bytes[from + 4])
  return high < 0 || low < 0 ? -1 : high * 16 + low
}

function hex(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  return code >= 0x41 && code <= 0x46 ? code - 0x41 + 10 : -1
}
