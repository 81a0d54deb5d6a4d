// Many short strings as one run of bytes, and a hash table over them, which is made natively. A vocabulary of 262,144
// words as JavaScript strings in a Map takes 30 MB and a third of a second; like this it takes 5 MB and a tenth of that.
import { native } from '../native.js'

/** Strings end to end in UTF-8: string i is `bytes[offsets[i] … offsets[i + 1])`, so there is one offset more than strings. */
export interface PackedStrings {
  readonly bytes: Uint8Array
  readonly offsets: Uint32Array
}

export type Strings = readonly string[] | PackedStrings

/** Writes `text` as UTF-8 at `at` and returns the end; a lone surrogate becomes U+FFFD. `out` needs 3 bytes a code unit. */
export function writeUtf8(text: string, out: Uint8Array, at: number): number {
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i)
    if (code < 0x80) {
      out[at++] = code
      continue
    }
    if (code < 0x800) {
      out[at++] = 0xc0 | (code >> 6)
      out[at++] = 0x80 | (code & 0x3f)
      continue
    }
    if ((code & 0xf800) === 0xd800) {
      const low = code < 0xdc00 ? text.charCodeAt(i + 1) : 0
      if ((low & 0xfc00) === 0xdc00) {
        code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff)
        out[at++] = 0xf0 | (code >> 18)
        out[at++] = 0x80 | ((code >> 12) & 0x3f)
        out[at++] = 0x80 | ((code >> 6) & 0x3f)
        out[at++] = 0x80 | (code & 0x3f)
        i++
        continue
      }
      code = 0xfffd
    }
    out[at++] = 0xe0 | (code >> 12)
    out[at++] = 0x80 | ((code >> 6) & 0x3f)
    out[at++] = 0x80 | (code & 0x3f)
  }
  return at
}

export function pack(strings: Strings): PackedStrings {
  if (!isList(strings)) return strings
  let units = 0
  for (const text of strings) units += text.length
  const bytes = new Uint8Array(units * 3)
  const offsets = new Uint32Array(strings.length + 1)
  let at = 0
  for (let i = 0; i < strings.length; i++) {
    at = writeUtf8(strings[i], bytes, at)
    offsets[i + 1] = at
  }
  return { bytes: bytes.slice(0, at), offsets }
}

export function count(strings: Strings): number {
  return isList(strings) ? strings.length : strings.offsets.length - 1
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

export function stringAt(strings: Strings, index: number): string {
  if (isList(strings)) return strings[index]
  return utf8.decode(strings.bytes.subarray(strings.offsets[index], strings.offsets[index + 1]))
}

function isList(strings: Strings): strings is readonly string[] {
  return Array.isArray(strings)
}

/** Finds which of some strings a run of bytes is; of equal strings the first. */
export class ByteTable {
  readonly #strings: PackedStrings
  readonly #slots: Int32Array // index + 1, 0 where free: open addressing, linear probing
  readonly #mask: number

  /** types: only strings that are words count. */
  constructor(strings: PackedStrings, types: Uint8Array | null = null) {
    this.#strings = strings
    this.#slots = native().byteTable(strings, types)
    this.#mask = this.#slots.length - 1
  }

  /** The index of `key[from … to)`, or -1. */
  find(key: Uint8Array, from: number, to: number): number {
    for (let slot = hash(key, from, to) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const index = this.#slots[slot] - 1
      if (index < 0 || this.#is(index, key, from, to)) return index
    }
  }

  #is(index: number, key: Uint8Array, from: number, to: number): boolean {
    const { bytes, offsets } = this.#strings
    const start = offsets[index]
    if (offsets[index + 1] - start !== to - from) return false
    for (let i = from; i < to; i++) if (bytes[start + i - from] !== key[i]) return false
    return true
  }
}

// FNV-1a, with a last mix so that the low bits depend on every byte: as native/engine/vocabulary.cc has it.
function hash(bytes: Uint8Array, from: number, to: number): number {
  let h = 0x811c9dc5
  for (let i = from; i < to; i++) h = Math.imul(h ^ bytes[i], 0x01000193)
  h ^= h >>> 15
  h = Math.imul(h, 0x85ebca6b)
  return h ^ (h >>> 13)
}
