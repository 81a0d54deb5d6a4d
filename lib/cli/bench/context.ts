// What prompts of the benchmark are made of. After random tokens a model is sure of nothing: no user's text is like that,
// and a greedy step, which reads as much of the head as it needs, would read more than it does for a user.
import { readdirSync } from 'node:fs'
import type { Model } from '../../model.js'
import type { Tokenizer } from '../../tokenizer/index.js'
import { packagePath, readPackageFile } from '../package-file.js'

export const CONTEXTS = ['text', 'random'] as const
export type Context = (typeof CONTEXTS)[number]

/** `count` ids of a prompt, the same every time. skip: ids that are left out in front, so that sessions differ. */
export type Ids = (count: number, skip?: number) => Int32Array

export function idsOf({ config, tokenizer }: Pick<Model, 'config' | 'tokenizer'>, context: Context): Ids {
  if (context === 'text') return textIds(tokenizer)
  return (count, skip = 0) => randomIds(skip + count, config.vocabularySize).slice(skip)
}

/** No token of the first 300, which are special in many vocabularies. */
export function randomIds(count: number, vocabulary: number): Int32Array {
  const first = Math.min(300, vocabulary >> 1)
  let state = 1
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return first + (state % (vocabulary - first))
  })
}

/** The begin token, where the model asks for one, then the text; from its beginning again where it ends. */
function textIds(tokenizer: Tokenizer): Ids {
  const text = tokenizer.encode(prose(), { addSpecial: false })
  const begin = tokenizer.addBos ? [tokenizer.bos as number] : []
  return (count, skip = 0) =>
    Int32Array.from({ length: count }, (_, i) => begin[i] ?? (text[(skip + i - begin.length) % text.length] as number))
}

/** This package's documentation, the guide first, without tables: figures are no text, and change. */
export function prose(): string {
  const pages = readdirSync(packagePath('docs')).filter((name) => name.endsWith('.md') && name !== 'guide.md')
  const texts = ['guide.md', ...pages.sort()].map((name) => readPackageFile(`docs/${name}`))
  return texts.join('\n\n').replace(/^\|.*\n/gm, '')
}
