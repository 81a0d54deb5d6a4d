// The tokenizer of a model folder: Hugging Face's tokenizer.json and tokenizer_config.json.
import { TokensieveError, typeError } from '../errors.js'
import { normalization, pretokenization } from './json-steps.js'
import { END_TEXTS, type Recipe } from './recipe.js'
import type { Special } from './special.js'
import { build, type Tokenizer } from './tokenizer.js'
import { BYTE, CONTROL, NORMAL, USER_DEFINED } from './vocabulary.js'

type Json = Record<string, unknown>

interface AddedToken {
  id: number
  content: string
  special?: boolean
  lstrip?: boolean
  rstrip?: boolean
}

/**
 * @param tokenizerJson the parsed tokenizer.json; BPE models only
 * @param tokenizerConfig the parsed tokenizer_config.json; a template in a file of its own goes into its `chat_template`
 * @throws TokensieveError ERR_UNSUPPORTED for parts that are not known, ERR_FILE_FORMAT for what is no tokenizer
 */
export function tokenizerFromJson(tokenizerJson: object, tokenizerConfig: object = {}): Tokenizer {
  const json = given(tokenizerJson, 'tokenizerJson')
  const config = given(tokenizerConfig, 'tokenizerConfig')
  const model = json.model as Json | undefined
  checkModel(model)
  const added = addedTokens(json.added_tokens)
  const steps = normalization(json.normalizer)
  const cut = pretokenization(json.pre_tokenizer, json.decoder, steps.spacesWritten)
  const vocabulary = readVocabulary(model.vocab as Json, added, cut.writing, model.byte_fallback === true)
  const idOf = (text: unknown) => (typeof text === 'string' ? vocabulary.ids.get(text) : undefined)
  const begin = templateBegin(json.post_processor)
  const bos = idOf(tokenText(config.bos_token) ?? begin)
  const eos = idOf(tokenText(config.eos_token))
  return build({
    writing: cut.writing,
    tokens: vocabulary.tokens,
    types: vocabulary.types,
    merging: { merges: merges(model.merges) },
    wholeWords: model.ignore_merges === true,
    splitter: cut.splitter,
    normalize: steps.normalize,
    prefix: steps.prefix === 'none' ? cut.prefix : steps.prefix,
    prefixDoubles: steps.prefix !== 'none',
    specials: () => added.map(special),
    bos,
    addBos: typeof config.add_bos_token === 'boolean' ? config.add_bos_token : begin !== undefined,
    *ends() {
      if (eos !== undefined) yield eos
      for (const { id, content, special } of added) if (special === true && END_TEXTS.has(content)) yield id
    },
    unknown: idOf(model.unk_token),
    chatTemplate: template(config.chat_template),
  } satisfies Recipe)
}

function given(value: unknown, name: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw typeError('a parsed JSON object', name, value)
  return value as Json
}

function checkModel(model: Json | undefined): asserts model is Json {
  if (typeof model !== 'object' || model === null) throw malformed('an object "model"', typeof model)
  const { type = 'BPE', vocab, merges, continuing_subword_prefix: before, end_of_word_suffix: after } = model
  if (type !== 'BPE')
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[tokenizer.json] expected a model of type BPE, but it is ${String(type)}`,
    )
  if (before || after)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      '[tokenizer.json] words marked by prefixes or suffixes are not supported',
    )
  if (typeof vocab !== 'object' || vocab === null) throw malformed('an object "model.vocab"', typeof vocab)
  if (!Array.isArray(merges)) throw malformed('a list "model.merges"', typeof merges)
}

function addedTokens(list: unknown): AddedToken[] {
  if (list === undefined || list === null) return []
  const sound = (token: Partial<AddedToken> | null) =>
    typeof token?.content === 'string' && typeof token.id === 'number'
  if (!Array.isArray(list) || !list.every(sound))
    throw malformed('a list "added_tokens" of { id, content }', 'something else')
  return list as AddedToken[]
}

function readVocabulary(vocab: Json, added: readonly AddedToken[], writing: Recipe['writing'], bytes: boolean) {
  const ids = new Map(Object.entries(vocab) as [string, number][])
  const inModel = new Set(
    writing === 'sentencepiece' ? added.filter(({ content }) => ids.has(content)).map(({ id }) => id) : [],
  )
  for (const { id, content } of added) ids.set(content, id)
  let size = 0
  for (const id of ids.values()) {
    // Ids may leave gaps, but not so many that a damaged number could ask for all memory.
    if (!(Number.isInteger(id) && id >= 0 && id < 2 * ids.size + 1024))
      throw malformed(`token ids for ${ids.size} words`, String(id))
    if (id >= size) size = id + 1
  }
  const tokens = new Array<string>(size).fill('')
  const types = new Uint8Array(size).fill(NORMAL)
  for (const [text, id] of ids) {
    tokens[id] = text
    if (bytes && /^<0x[0-9A-F]{2}>$/.test(text)) types[id] = BYTE
  }
  // A word that text may also be merged to stays one; in byte-level writing an added token is not written like the words.
  for (const { id, special } of added)
    if (special === true || !inModel.has(id)) types[id] = special === true ? CONTROL : USER_DEFINED
  return { ids, tokens, types }
}

function merges(list: unknown): string[] {
  return (list as unknown[]).map((rule) => {
    if (typeof rule === 'string') return rule
    if (Array.isArray(rule) && rule.length === 2) return rule.join(' ')
    throw malformed('merges of two words', JSON.stringify(rule))
  })
}

function special({ id, content, special, lstrip, rstrip }: AddedToken): Special {
  return { id, text: content, control: special === true, takesLeft: lstrip === true, takesRight: rstrip === true }
}

// The special token that a TemplateProcessing step puts in front.
function templateBegin(processor: unknown): string | undefined {
  const step = processor as Json | null | undefined
  if (step?.type === 'Sequence')
    return (step.processors as unknown[]).map(templateBegin).find((text) => text !== undefined)
  if (step?.type !== 'TemplateProcessing') return undefined
  const [first] = (step.single as { SpecialToken?: { id?: string } }[] | undefined) ?? []
  return first?.SpecialToken?.id
}

function tokenText(token: unknown): string | undefined {
  const text = typeof token === 'object' && token !== null ? (token as Json).content : token
  return typeof text === 'string' ? text : undefined
}

function template(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = value as { name?: string; template?: string }[]
  return (named.find(({ name }) => name === 'default') ?? named[0])?.template
}

function malformed(expected: string, came: string): TokensieveError {
  return new TokensieveError('ERR_FILE_FORMAT', `[tokenizer.json] expected ${expected}, but it has ${came}`)
}
