// What a tokenizer is made of, whichever file it was read from: gguf.ts and json.ts write it, tokenizer.ts follows it.
import type { Strings } from './bytes.js'
import type { Special } from './special.js'
import type { Splitter } from './split.js'
import type { Writing } from './vocabulary.js'

export interface Recipe {
  readonly writing: Writing
  readonly tokens: Strings
  readonly types?: ArrayLike<number>
  /** Merge by a list of pairs, or by the score of the word that a pair would make. */
  readonly merging: { readonly merges: Strings } | { readonly scores: ArrayLike<number> }
  /** A piece that is a token as a whole is taken without merging (Llama 3). */
  readonly wholeWords: boolean
  /** How pieces are cut before merging; text in SentencePiece's writing is cut at spaces where no word crosses one. */
  readonly splitter?: Splitter
  readonly normalize?: (text: string) => string
  /** A space in front: of nothing, of the text, or of every stretch between special tokens; and also where there is one already. */
  readonly prefix: 'none' | 'first' | 'each'
  readonly prefixDoubles: boolean
  readonly specials: () => readonly Special[]
  readonly bos?: number
  readonly addBos: boolean
  readonly ends: () => Iterable<number>
  readonly unknown?: number
  readonly chatTemplate?: string
}

/** Texts that end a turn or a document wherever they are special tokens: files often name but one of them as `eos`. */
export const END_TEXTS: ReadonlySet<string> = new Set([
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|end_of_turn|>',
  '<end_of_turn>',
  '<|END_OF_TURN_TOKEN|>',
  '<EOT>',
])
