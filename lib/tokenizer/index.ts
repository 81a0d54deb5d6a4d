// Why this is our own and not @huggingface/tokenizers 0.2.0, given the same vocabularies as tokenizer.json objects (2 shared
// cores, Node 20, SmolLM2 with 49,152 words / Gemma 3 with 262,144):
//                                        theirs                                    ours
//   reference strings that differ        2 of 87 (its Digits step takes only       0 of 87 / 0 of 76
//                                        decimal digits for numbers) / 0 of 76
//   ready to encode after                106 ms / 2,446 ms                         35 ms / 65 ms, and nothing before the first text
//   1 MB of code, tokens a second        0.26 M / 0.16 M                           2.8 M / 1.3 M, and 8 M / 7 M once its words are known
export type { PackedStrings, Strings } from './bytes.js'
export type { ChatMessage } from './chat.js'
export { type TokenizerSource, tokenizerFromGguf } from './gguf.js'
export { tokenizerFromJson } from './json.js'
export type { Tokenizer } from './tokenizer.js'
