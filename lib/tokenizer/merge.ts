// Byte pair merging: of all neighbours, the pair with the best rank becomes one, leftmost first among equals, until no
// pair is left. A heap of candidates keeps it at n log n, so a page without a space takes no longer per byte than a word.
import { ByteTable, pack, type Strings } from './bytes.js'
import type { Vocabulary } from './vocabulary.js'

const NONE = 0xffffffff

/** Says whether two neighbouring tokens may become one, and how soon. */
export interface PairRule {
  /** The rank of the pair, lower first, or NONE; the bytes of the two tokens are `bytes[from … to)`. `merged` is then the new token. */
  rank(left: number, right: number, bytes: Uint8Array, from: number, to: number): number
  merged: number
}

/** A list of merges, first is best: byte-level BPE. */
export class RankedPairs implements PairRule {
  merged = -1
  readonly #vocabulary: Vocabulary
  readonly #ranks: ByteTable
  #key = new Uint8Array(64)

  // Rules stay as they are written, "left right", and tokens are written out when asked for: reading all rules at the
  // start would take longer than looking up those that a text needs.
  constructor(vocabulary: Vocabulary, merges: Strings) {
    this.#vocabulary = vocabulary
    this.#ranks = new ByteTable(pack(merges))
  }

  rank(left: number, right: number, bytes: Uint8Array, from: number, to: number): number {
    if (left < 0 || right < 0) return NONE
    const length = this.#write(left, right)
    const rank = this.#ranks.find(this.#key, 0, length)
    if (rank < 0) return NONE
    this.merged = this.#vocabulary.find(bytes, from, to)
    return this.merged < 0 ? NONE : rank
  }

  #write(left: number, right: number): number {
    const { bytes, offsets } = this.#vocabulary.written
    const room = offsets[left + 1] - offsets[left] + 1 + offsets[right + 1] - offsets[right]
    if (this.#key.length < room) this.#key = new Uint8Array(2 * room)
    const key = this.#key
    let at = 0
    for (let i = offsets[left]; i < offsets[left + 1]; i++) key[at++] = bytes[i]
    key[at++] = 0x20
    for (let i = offsets[right]; i < offsets[right + 1]; i++) key[at++] = bytes[i]
    return at
  }
}

/** Any two neighbours whose bytes together are a word, the word with the highest score first: SentencePiece. */
export class ScoredWords implements PairRule {
  merged = -1
  readonly #vocabulary: Vocabulary
  readonly #bits: Uint32Array

  constructor(vocabulary: Vocabulary, scores: ArrayLike<number>) {
    this.#vocabulary = vocabulary
    this.#bits = new Uint32Array(Float32Array.from(scores).buffer)
  }

  rank(_left: number, _right: number, bytes: Uint8Array, from: number, to: number): number {
    const merged = this.#vocabulary.find(bytes, from, to)
    if (merged < 0) return NONE
    this.merged = merged
    // The bits of a float as an unsigned number that falls where the float rises, so that one heap serves both rules.
    const bits = this.#bits[merged]
    return bits >>> 31 ? bits : 0x7fffffff - bits
  }
}

// The last verdicts on pairs of tokens, each in the one place that its hash gives it: text asks for the same pairs again and again.
class PairMemory implements PairRule {
  merged = -1
  readonly #rule: PairRule
  readonly #mask = 0x3fff
  readonly #pairs = new Float64Array(this.#mask + 1).fill(-1)
  readonly #ranks = new Float64Array(this.#mask + 1)
  readonly #merged = new Int32Array(this.#mask + 1)

  constructor(rule: PairRule) {
    this.#rule = rule
  }

  rank(left: number, right: number, bytes: Uint8Array, from: number, to: number): number {
    if (left < 0 || right < 0) {
      const rank = this.#rule.rank(left, right, bytes, from, to)
      this.merged = this.#rule.merged
      return rank
    }
    const pair = left * 0x200000 + right
    const slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 18
    if (this.#pairs[slot] !== pair) {
      this.#ranks[slot] = this.#rule.rank(left, right, bytes, from, to)
      this.#merged[slot] = this.#rule.merged
      this.#pairs[slot] = pair
    }
    this.merged = this.#merged[slot]
    return this.#ranks[slot]
  }
}

/** One run of symbols that is merged in place. Reused for every word: it allocates only to grow. */
export class Merger {
  readonly #rule: PairRule
  #ids = new Int32Array(64) // symbol -> token, -1 where there is none
  #starts = new Int32Array(65) // symbol -> first byte; one more for the end
  #next = new Int32Array(64)
  #previous = new Int32Array(64)
  #ranks = new Float64Array(64) // of the pair that begins at the symbol
  #merged = new Int32Array(64)
  readonly #heap = new Heap()

  constructor(rule: PairRule) {
    this.#rule = new PairMemory(rule)
  }

  /** Symbols to begin with: token `ids[i]` for the bytes from `starts[i]`. Room for `n` of them. */
  symbols(n: number): { ids: Int32Array; starts: Int32Array } {
    if (this.#ids.length < n) {
      const room = 2 * n
      this.#ids = new Int32Array(room)
      this.#starts = new Int32Array(room + 1)
      this.#next = new Int32Array(room)
      this.#previous = new Int32Array(room)
      this.#ranks = new Float64Array(room)
      this.#merged = new Int32Array(room)
    }
    return { ids: this.#ids, starts: this.#starts }
  }

  /** Merges `n` symbols over `bytes` and calls `take(id, from, to)` for what is left, in order. */
  run(n: number, bytes: Uint8Array, take: (id: number, from: number, to: number) => void): void {
    if (n === 0) return
    const next = this.#next
    const previous = this.#previous
    const ranks = this.#ranks
    const heap = this.#heap
    for (let i = 0; i < n; i++) {
      next[i] = i + 1
      previous[i] = i - 1
    }
    next[n - 1] = -1
    for (let i = 0; i + 1 < n; i++) this.#look(i, n, bytes)
    for (let i = heap.pop(); i >= 0; i = heap.pop()) {
      if (ranks[i] !== heap.rank) continue // of a pair that is no more
      const gone = next[i]
      const after = next[gone]
      this.#ids[i] = this.#merged[i]
      next[i] = after
      ranks[gone] = NONE
      if (after < 0) ranks[i] = NONE
      else {
        previous[after] = i
        this.#look(i, n, bytes)
      }
      if (previous[i] >= 0) this.#look(previous[i], n, bytes)
    }
    for (let i = 0; i >= 0; i = next[i]) take(this.#ids[i], this.#starts[i], this.#end(i, n))
  }

  // Ranks the pair of symbol i and the one after it, which is there.
  #look(i: number, n: number, bytes: Uint8Array): void {
    const right = this.#next[i]
    const rule = this.#rule
    const rank = rule.rank(this.#ids[i], this.#ids[right], bytes, this.#starts[i], this.#end(right, n))
    this.#ranks[i] = rank
    if (rank === NONE) return
    this.#merged[i] = rule.merged
    this.#heap.push(rank, i)
  }

  #end(i: number, n: number): number {
    return this.#starts[this.#next[i] < 0 ? n : this.#next[i]]
  }
}

// A binary heap of (rank, symbol), least first.
class Heap {
  rank = 0 // of what was popped last
  #ranks = new Float64Array(64)
  #symbols = new Int32Array(64)
  #size = 0

  push(rank: number, symbol: number): void {
    if (this.#size === this.#ranks.length) this.#grow()
    let at = this.#size++
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!this.#before(rank, symbol, parent)) break
      this.#put(at, this.#ranks[parent], this.#symbols[parent])
      at = parent
    }
    this.#put(at, rank, symbol)
  }

  /** The symbol with the least rank, its rank in `rank`; -1 when empty. */
  pop(): number {
    if (this.#size === 0) return -1
    const symbol = this.#symbols[0]
    this.rank = this.#ranks[0]
    const size = --this.#size
    const lastRank = this.#ranks[size]
    const lastSymbol = this.#symbols[size]
    let at = 0
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && this.#before(this.#ranks[child + 1], this.#symbols[child + 1], child)) child++
      if (this.#before(lastRank, lastSymbol, child)) break
      this.#put(at, this.#ranks[child], this.#symbols[child])
      at = child
    }
    this.#put(at, lastRank, lastSymbol)
    return symbol
  }

  #before(rank: number, symbol: number, at: number): boolean {
    return rank < this.#ranks[at] || (rank === this.#ranks[at] && symbol < this.#symbols[at])
  }

  #put(at: number, rank: number, symbol: number): void {
    this.#ranks[at] = rank
    this.#symbols[at] = symbol
  }

  #grow(): void {
    const ranks = new Float64Array(this.#size * 2)
    const symbols = new Int32Array(this.#size * 2)
    ranks.set(this.#ranks)
    symbols.set(this.#symbols)
    this.#ranks = ranks
    this.#symbols = symbols
  }
}
