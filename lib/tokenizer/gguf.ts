// The tokenizer of a GGUF file.
import { TokensieveError } from '../errors.js'
import { count, type Strings, stringAt } from './bytes.js'
import { END_TEXTS, type Recipe } from './recipe.js'
import type { Special } from './special.js'
import { namedSplit } from './split.js'
import { build, type Tokenizer } from './tokenizer.js'
import { BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED } from './vocabulary.js'

/** What the `tokenizer.*` keys of a GGUF file hold. Strings may come packed, which is quicker to make and to read. */
export interface TokenizerSource {
  /** `tokenizer.ggml.model`: 'gpt2' is byte-level BPE, 'llama' is SentencePiece with scores and byte fallback. */
  model: string
  /** `tokenizer.ggml.pre`: how byte-level text is cut into words; GPT-2's way where a file names none. */
  pre?: string
  tokens: Strings
  scores?: ArrayLike<number>
  /** 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
  types?: ArrayLike<number>
  merges?: Strings
  bos?: number
  eos?: number
  eot?: number
  unk?: number
  pad?: number
  addBos?: boolean
  addEos?: boolean
  addSpacePrefix?: boolean
  removeExtraWhitespaces?: boolean
  chatTemplate?: string
}

/**
 * @throws TokensieveError ERR_UNSUPPORTED for a kind of tokenizer or pre-tokenizer that is not known, ERR_FILE_FORMAT
 *   where lists or ids do not fit each other
 */
export function tokenizerFromGguf(source: TokenizerSource): Tokenizer {
  check(source)
  return build(source.model === 'gpt2' ? byteLevel(source) : sentencePiece(source))
}

function byteLevel(source: TokenizerSource): Recipe {
  const { pre = 'default' } = source
  const llama3 = ['llama-bpe', 'llama3', 'llama-v3'].includes(pre)
  return {
    ...common(source),
    writing: 'byte-level',
    merging: { merges: source.merges ?? [] },
    wholeWords: llama3,
    splitter: namedSplit(pre),
    normalize: pre === 'qwen2' || pre === 'deepseek-r1-qwen' ? (text) => text.normalize('NFC') : undefined,
    prefix: 'none',
    prefixDoubles: false,
    addBos: source.addBos ?? llama3,
  }
}

function sentencePiece(source: TokenizerSource): Recipe {
  const { scores = new Float32Array(count(source.tokens)) } = source
  return {
    ...common(source),
    writing: 'sentencepiece',
    merging: { scores },
    wholeWords: false,
    // U+2581 is how a space is written: in text it is one.
    normalize: (text) => {
      const spaced = text.includes('\u2581') ? text.replaceAll('\u2581', ' ') : text
      return source.removeExtraWhitespaces ? spaced.replaceAll(/ {2,}/g, ' ').replaceAll(/^ | $/g, '') : spaced
    },
    prefix: (source.addSpacePrefix ?? true) ? 'each' : 'none',
    prefixDoubles: true,
    addBos: source.addBos ?? true,
  }
}

function common({ tokens, types, bos, eos, eot, unk, chatTemplate }: TokenizerSource) {
  let found: readonly Special[] | undefined
  const all = () => {
    found ??= specials(tokens, types)
    return found
  }
  return {
    tokens,
    types,
    bos,
    unknown: unk,
    chatTemplate,
    specials: all,
    *ends() {
      if (eos !== undefined) yield eos
      if (eot !== undefined) yield eot
      for (const special of all()) if (END_TEXTS.has(special.text)) yield special.id
    },
  }
}

function specials(tokens: Strings, types: ArrayLike<number> | undefined): Special[] {
  // By the engine's own search: a loop over a vocabulary that runs once takes 4 ms.
  const next = (type: number, from: number) => Array.prototype.indexOf.call(types ?? [], type, from)
  const found: Special[] = []
  for (const type of [UNKNOWN, CONTROL, USER_DEFINED]) {
    for (let id = next(type, 0); id >= 0; id = next(type, id + 1))
      found.push({ id, text: stringAt(tokens, id), control: type !== USER_DEFINED })
  }
  return found.sort((a, b) => a.id - b.id)
}

function check({ model, tokens, scores, types, bos, eos, eot, unk, pad }: TokenizerSource): void {
  if (model !== 'gpt2' && model !== 'llama') {
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[tokenizer] expected a model of gpt2 (byte-level BPE) or llama (SentencePiece), but the file says "${model}"`,
    )
  }
  const n = count(tokens)
  if (!(n > 0)) throw malformed('at least one token', 'none')
  if (scores !== undefined && scores.length !== n) throw malformed(`${n} scores, one a token`, String(scores.length))
  if (types !== undefined && types.length !== n) throw malformed(`${n} token types, one a token`, String(types.length))
  for (let id = 0; id < (types?.length ?? 0); id++) {
    const type = types?.[id] ?? 0
    if (!(type >= 0 && type <= BYTE)) throw malformed(`token types from ${NORMAL} to ${BYTE}`, String(type))
  }
  for (const [name, id] of Object.entries({ bos, eos, eot, unknown: unk, padding: pad })) {
    if (id !== undefined && !(Number.isInteger(id) && id >= 0 && id < n))
      throw malformed(`a ${name} token id from 0 to ${n - 1}`, String(id))
  }
}

function malformed(expected: string, came: string): TokensieveError {
  return new TokensieveError('ERR_FILE_FORMAT', `[tokenizer] expected ${expected}, but the file has ${came}`)
}
