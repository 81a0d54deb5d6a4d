// Token ids to text. Bytes are gathered first: a character may be spread over several tokens.
import { TextDecoder } from 'node:util'
import { rangeError } from '../errors.js'
import { CONTROL, UNKNOWN, type Vocabulary } from './vocabulary.js'

/** Text piece by piece. A character is given when its last byte has come; special tokens give nothing. */
export class StreamDecoder {
  readonly #vocabulary: Vocabulary
  #utf8 = text()

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary
  }

  push(ids: Iterable<number>): string {
    return this.#utf8.decode(gather(this.#vocabulary, ids, false).bytes, { stream: true })
  }

  /** What is left, an unfinished character as U+FFFD; after it the decoder begins anew. */
  flush(): string {
    const rest = this.#utf8.decode()
    this.#utf8 = text()
    return rest
  }
}

/** `stripped`: the space that encoding put in front is taken away again. */
export function decode(vocabulary: Vocabulary, ids: Iterable<number>, special: boolean, stripped: boolean): string {
  const { bytes, plainFirst } = gather(vocabulary, ids, special)
  return text().decode(stripped && plainFirst && bytes[0] === 0x20 ? bytes.subarray(1) : bytes)
}

function text(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true }) // a U+FEFF in the text stays
}

function gather(
  vocabulary: Vocabulary,
  ids: Iterable<number>,
  special: boolean,
): { bytes: Uint8Array; plainFirst: boolean } {
  const { bytes, offsets } = vocabulary.pieces
  const shown: number[] = []
  let length = 0
  for (const id of ids) {
    if (id < 0 && Number.isInteger(id)) continue // a patch of a picture
    if (!Number.isInteger(id) || id >= vocabulary.size)
      throw rangeError(`token ids from 0 to ${vocabulary.size - 1}`, 'ids', id)
    if (!special && isSpecial(vocabulary.types[id])) continue
    shown.push(id)
    length += offsets[id + 1] - offsets[id]
  }
  const out = new Uint8Array(length)
  let at = 0
  for (const id of shown) for (let i = offsets[id]; i < offsets[id + 1]; i++) out[at++] = bytes[i]
  return { bytes: out, plainFirst: shown.length > 0 && !isSpecial(vocabulary.types[shown[0]]) }
}

function isSpecial(type: number): boolean {
  return type === CONTROL || type === UNKNOWN
}
