// What each token stands for, as bytes, and which token some bytes are.
import { native } from '../native.js'
import { ByteTable, type PackedStrings, pack, type Strings, stringAt } from './bytes.js'

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
  readonly types: Uint8Array
  /** 1 for each byte that stands before a space inside some word: after it text must not be cut at a space before merging. */
  readonly glue: Uint8Array
  #table: ByteTable | undefined
  #byteIds: Int32Array | undefined

  constructor(writing: Writing, strings: Strings, types?: ArrayLike<number>) {
    this.written = pack(strings)
    this.writing = writing
    this.types = types === undefined ? guessTypes(writing, this.written) : new Uint8Array(types)
    const { glue, ...pieces } = native().pieces(this.written, this.types, writing === 'byte-level')
    this.pieces = pieces
    this.glue = glue
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
    this.#table ??= new ByteTable(this.pieces, this.types)
    return this.#table
  }
}

function guessTypes(writing: Writing, { bytes, offsets }: PackedStrings): Uint8Array {
  const types = new Uint8Array(offsets.length - 1).fill(NORMAL)
  if (writing === 'byte-level') return types
  for (let id = 0; id < types.length; id++) if (byteName(bytes, offsets[id], offsets[id + 1]) >= 0) types[id] = BYTE
  return types
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
