// Small vocabularies for the tests of the tokenizers, as a GGUF file would hold them.
import { readFileSync } from 'node:fs'
import type { TokenizerSource } from '../lib/tokenizer/index.js'

export const fixture = (name: string) =>
  JSON.parse(readFileSync(new URL(`fixtures/tokenizer/${name}.json`, import.meta.url), 'utf8'))
export const byteLevel = (changes: Partial<TokenizerSource> = {}): TokenizerSource => {
  const read = fixture('byte-level')
  return { ...read, types: Int32Array.from(read.types), ...changes }
}

export const SPACES = [278, 279] // user-defined: two and three spaces
export const sentencePiece = (changes: Partial<TokenizerSource> = {}): TokenizerSource => {
  const { pieces, scores } = fixture('sentencepiece')
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  const special = ['<unk>', '<s>', '</s>']
  return {
    model: 'llama',
    tokens: [...special, ...bytes, ...pieces, '  ', '   '],
    scores: Float32Array.from([...special.map(() => 0), ...bytes.map(() => 0), ...scores, 0, 0]),
    types: Int32Array.from([2, 3, 3, ...bytes.map(() => 6), ...pieces.map(() => 1), 4, 4]),
    unk: 0,
    bos: 1,
    eos: 2,
    ...changes,
  }
}
export const BYTES = 3 // id of <0x00>
