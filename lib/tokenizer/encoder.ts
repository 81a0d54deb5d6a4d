// Text to token ids. Words repeat: what a word became is kept, so that long text costs a cut and a look-up per word.
import { writeUtf8 } from './bytes.js'
import { Merger, RankedPairs, ScoredWords } from './merge.js'
import type { Recipe } from './recipe.js'
import type { Vocabulary } from './vocabulary.js'

const REMEMBERED = 1 << 16 // words; the memory is emptied when full
const LONGEST_REMEMBERED = 48 // code units

export class Encoder {
  readonly #recipe: Recipe
  readonly #vocabulary: Vocabulary
  readonly #merger: Merger
  readonly #known = new Map<string, Int32Array>()
  #bytes = new Uint8Array(256)
  #out: Ids = new Ids()

  constructor(recipe: Recipe, vocabulary: Vocabulary) {
    this.#recipe = recipe
    this.#vocabulary = vocabulary
    const { merging } = recipe
    this.#merger = new Merger(
      'merges' in merging ? new RankedPairs(vocabulary, merging.merges) : new ScoredWords(vocabulary, merging.scores),
    )
  }

  /** Appends the ids of `text`, which holds no special tokens; `first` where it begins the whole text. */
  encode(text: string, first: boolean, out: Ids): void {
    const { normalize, prefix, prefixDoubles, splitter } = this.#recipe
    let plain = normalize === undefined ? text : normalize(text)
    if (plain === '') return
    const spaced = prefix === 'each' || (prefix === 'first' && first)
    if (spaced && (prefixDoubles || plain[0] !== ' ')) plain = ` ${plain}`
    this.#out = out
    if (splitter !== undefined) splitter.each(plain, this.#word)
    else cutAtSpaces(plain, this.#vocabulary.glue, this.#word)
  }

  readonly #word = (word: string): void => {
    const known = this.#known.get(word)
    if (known !== undefined) {
      for (let i = 0; i < known.length; i++) this.#out.push(known[i])
      return
    }
    const from = this.#out.length
    this.#merge(word)
    if (word.length > LONGEST_REMEMBERED) return
    if (this.#known.size >= REMEMBERED) this.#known.clear()
    // A slice of a long text would keep that text alive: remember a copy.
    this.#known.set(Buffer.from(word, 'utf16le').toString('utf16le'), this.#out.since(from))
  }

  #merge(word: string): void {
    if (this.#bytes.length < word.length * 3) this.#bytes = new Uint8Array(word.length * 6)
    const bytes = this.#bytes
    const length = writeUtf8(word, bytes, 0)
    if (this.#recipe.wholeWords) {
      const whole = this.#vocabulary.find(bytes, 0, length)
      if (whole >= 0) {
        this.#out.push(whole)
        return
      }
    }
    const n = this.#vocabulary.writing === 'byte-level' ? this.#fromBytes(length) : this.#fromCharacters(length)
    this.#merger.run(n, bytes, this.#take)
  }

  // A byte without a token is no symbol: it is taken out, and its neighbours may merge.
  #fromBytes(length: number): number {
    const { byteIds } = this.#vocabulary
    const { ids, starts } = this.#merger.symbols(length)
    let n = 0
    for (let i = 0; i < length; i++) {
      const byte = this.#bytes[i]
      if (byteIds[byte] < 0) continue
      this.#bytes[n] = byte
      ids[n] = byteIds[byte]
      starts[n] = n++
    }
    starts[n] = n
    return n
  }

  #fromCharacters(length: number): number {
    const { ids, starts } = this.#merger.symbols(length)
    let n = 0
    for (let i = 0; i < length; n++) {
      const lead = this.#bytes[i]
      const end = i + (lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4)
      ids[n] = this.#vocabulary.find(this.#bytes, i, end)
      starts[n] = i
      i = end
    }
    starts[n] = length
    return n
  }

  // One token, or the bytes of a character that has none.
  readonly #take = (id: number, from: number, to: number): void => {
    if (id >= 0) {
      this.#out.push(id)
      return
    }
    const { byteIds } = this.#vocabulary
    const { unknown } = this.#recipe
    let missing = false
    for (let i = from; i < to; i++) missing ||= byteIds[this.#bytes[i]] < 0
    if (!missing) for (let i = from; i < to; i++) this.#out.push(byteIds[this.#bytes[i]])
    else if (unknown !== undefined) this.#out.push(unknown)
  }
}

// "one  two" -> "one", "  two": a run of spaces belongs to what follows it. Nothing is cut where a word could join both sides.
function cutAtSpaces(text: string, glue: Uint8Array, word: (piece: string) => void): void {
  let from = 0
  for (let space = text.indexOf(' ', 1); space >= 0; space = text.indexOf(' ', space + 1)) {
    const before = text.charCodeAt(space - 1)
    const lastByte = before < 0x80 ? before : 0x80 | (before & 0x3f)
    if (before === 0x20 || glue[lastByte] === 1) continue
    word(text.slice(from, space))
    from = space
  }
  word(from === 0 ? text : text.slice(from))
}

/** A list of ids that grows. */
export class Ids {
  length = 0
  #ids = new Int32Array(64)

  push(id: number): void {
    if (this.length === this.#ids.length) {
      const ids = new Int32Array(2 * this.length)
      ids.set(this.#ids)
      this.#ids = ids
    }
    this.#ids[this.length++] = id
  }

  since(from: number): Int32Array {
    return this.#ids.slice(from, this.length)
  }
}
