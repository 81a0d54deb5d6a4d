// A tokenizer from its recipe. Everything is made when it is first needed: a program that only reads ids back never
// pays for the tables of the encoder, unless load has it make them while it waits for the weights.
import { TokensieveError, typeError } from '../errors.js'
import { count } from './bytes.js'
import { type ChatMessage, ChatTemplate } from './chat.js'
import { decode, StreamDecoder } from './decoder.js'
import { Encoder, Ids } from './encoder.js'
import type { Recipe } from './recipe.js'
import { Specials } from './special.js'
import { Vocabulary } from './vocabulary.js'

export interface Tokenizer {
  readonly vocabularySize: number
  readonly bos?: number
  /** Whether the model asks for the begin token in front of text. */
  readonly addBos: boolean
  /** Every token that ends a generation. */
  readonly endIds: ReadonlySet<number>
  /**
   * Text to token ids.
   * @param options.addSpecial put the begin token in front where the model asks for one (default true), never twice
   * @param options.parseSpecial take the text of control tokens for the tokens (default false: it is text like any other)
   */
  encode(text: string, options?: { addSpecial?: boolean; parseSpecial?: boolean }): Int32Array
  /**
   * Token ids to text; those below 0, patches of pictures, give none.
   * @param options.special show control tokens as their text (default false: they give nothing)
   * @throws RangeError for an id that is not in the vocabulary
   */
  decode(ids: Iterable<number>, options?: { special?: boolean }): string
  /**
   * A conversation as text, by the model's chat template; encode it with `parseSpecial`.
   * @param options.addGenerationPrompt end with the beginning of the assistant's turn (default true)
   * @throws TokensieveError ERR_UNSUPPORTED where the model has no template or the template refuses the messages
   */
  chat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string
  /** Decodes a generation as it comes: never half a character, special tokens give no text. */
  streamDecoder(): { push(ids: Iterable<number>): string; flush(): string }
}

class RecipeTokenizer implements Tokenizer {
  readonly vocabularySize: number
  readonly bos?: number
  readonly addBos: boolean
  readonly #recipe: Recipe
  readonly #vocabulary: () => Vocabulary
  readonly #encoder: () => Encoder
  readonly #specials: () => Specials
  readonly #ends: () => ReadonlySet<number>
  readonly #template: () => ChatTemplate

  constructor(recipe: Recipe) {
    this.#recipe = recipe
    this.vocabularySize = count(recipe.tokens)
    this.bos = recipe.bos
    this.addBos = recipe.addBos && recipe.bos !== undefined
    this.#vocabulary = once(() => new Vocabulary(recipe.writing, recipe.tokens, recipe.types))
    this.#encoder = once(() => new Encoder(recipe, this.#vocabulary()))
    this.#specials = once(() => new Specials(recipe.specials()))
    this.#ends = once(() => new Set(recipe.ends()))
    this.#template = once(() => this.#readTemplate())
  }

  get endIds(): ReadonlySet<number> {
    return this.#ends()
  }

  encode(text: string, { addSpecial = true, parseSpecial = false } = {}): Int32Array {
    if (typeof text !== 'string') throw typeError('a string', 'text', text)
    const out = new Ids()
    const { bos } = this
    const begins = addSpecial && this.addBos && bos !== undefined
    if (begins) out.push(bos)
    const encoder = this.#encoder()
    let first = true
    const plain = (piece: string) => {
      encoder.encode(piece, first, out)
      first = false
    }
    const special = (id: number) => {
      if (!(begins && first && id === bos)) out.push(id)
      first = false
    }
    this.#specials().cut(text, parseSpecial, plain, special)
    return out.since(0)
  }

  decode(ids: Iterable<number>, { special = false } = {}): string {
    checkIds(ids)
    const { writing, prefix } = this.#recipe
    return decode(this.#vocabulary(), ids, special, writing === 'sentencepiece' && prefix !== 'none')
  }

  chat(messages: readonly ChatMessage[], { addGenerationPrompt = true } = {}): string {
    return this.#template().render(messages, addGenerationPrompt)
  }

  streamDecoder(): StreamDecoder {
    return new StreamDecoder(this.#vocabulary())
  }

  #readTemplate(): ChatTemplate {
    const { chatTemplate, bos } = this.#recipe
    if (chatTemplate === undefined) {
      throw new TokensieveError(
        'ERR_UNSUPPORTED',
        '[tokenizer] expected a chat template in the model, but it has none: give the prompt as text',
      )
    }
    const [eos] = this.endIds
    const text = (id: number | undefined) => (id === undefined ? undefined : this.#vocabulary().text(id))
    return new ChatTemplate(chatTemplate, { bos_token: text(bos), eos_token: text(eos) })
  }
}

export function build(recipe: Recipe): Tokenizer {
  return new RecipeTokenizer(recipe)
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

function checkIds(ids: unknown): asserts ids is Iterable<number> {
  const iterable = typeof ids === 'object' && ids !== null && Symbol.iterator in ids
  if (!iterable) throw typeError('an array or Int32Array of token ids', 'ids', ids)
}
