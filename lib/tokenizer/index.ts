export type { PackedStrings, Strings } from './bytes.js'
export type { ChatMessage } from './chat.js'
export { type TokenizerSource, tokenizerFromGguf } from './gguf.js'
export type { Tokenizer } from './tokenizer.js'
