// How byte-level tokenizers cut text into words before they merge. White space is Unicode's White_Space, as in the
// regular expressions that these models were trained with; JavaScript's \s would leave out U+0085 and take in U+FEFF.
import { TokensieveError } from '../errors.js'

const SPACE = '\\p{White_Space}'
const ENDINGS = "'(?:[sS\\u017F]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])" // (?i:'s|'t|'re|'ve|'m|'ll|'d)

const GPT2 = `'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`

// Every number character stands alone first, then GPT-2's rule runs on what is between: a number ends a run of spaces
// like the end of the text does. Two steps in the original, one here.
const SINGLE_NUMBERS = `'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+|\\p{N}| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?![^${SPACE}\\p{N}])|${SPACE}+`

const cl100k = (numbers: string) =>
  `${ENDINGS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^${SPACE}\\p{L}\\p{N}]+[\\r\\n]*` +
  `|${SPACE}*[\\r\\n]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`

const PATTERNS = {
  gpt2: GPT2,
  smollm: SINGLE_NUMBERS,
  llama3: cl100k('\\p{N}{1,3}'),
  qwen2: cl100k('\\p{N}'),
} as const

// Values of tokenizer.ggml.pre.
const NAMES: Record<string, keyof typeof PATTERNS> = {
  default: 'gpt2',
  'gpt-2': 'gpt2',
  gpt2: 'gpt2',
  'phi-2': 'gpt2',
  olmo: 'gpt2',
  mpt: 'gpt2',
  smollm: 'smollm',
  starcoder: 'smollm',
  refact: 'smollm',
  'command-r': 'smollm',
  codeshell: 'smollm',
  'llama-bpe': 'llama3',
  llama3: 'llama3',
  'llama-v3': 'llama3',
  qwen2: 'qwen2',
  'deepseek-r1-qwen': 'qwen2',
  stablelm2: 'qwen2',
}

export function namedSplit(pre: string): Splitter {
  if (!Object.hasOwn(NAMES, pre)) {
    const known = Object.keys(NAMES).join(', ')
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[tokenizer] expected a pre-tokenizer of ${known}, but the model asks for "${pre}"`,
    )
  }
  return new Splitter([PATTERNS[NAMES[pre]]])
}

/** A pattern of tokenizer.json (Oniguruma's writing) as one of ours. */
export function translate(pattern: string): string {
  const classes: Record<string, string> = { s: SPACE, S: '\\P{White_Space}', d: '\\p{Nd}', D: '\\P{Nd}' }
  return pattern
    .replaceAll("(?i:'s|'t|'re|'ve|'m|'ll|'d)", ENDINGS)
    .replaceAll(/\\(.)/gs, (all, letter: string) => classes[letter] ?? all)
}

export { GPT2, SINGLE_NUMBERS }

/** Cuts text by one pattern after the other: each match is a piece, and so is what lies between two matches. */
export class Splitter {
  readonly #steps: RegExp[]

  constructor(patterns: readonly string[]) {
    this.#steps = patterns.map(compile)
  }

  /** Calls `word(piece)` for all of `text`, in order. */
  each(text: string, word: (piece: string) => void, step = 0): void {
    if (step === this.#steps.length) {
      if (text !== '') word(text)
      return
    }
    const next = step + 1 === this.#steps.length ? word : (piece: string) => this.each(piece, word, step + 1)
    const sticky = this.#steps[step]
    for (let at = 0; at < text.length; ) {
      // Patterns of this kind match everywhere, one piece right after the other: test() at the place, without a match array.
      sticky.lastIndex = at
      const end = sticky.test(text) && sticky.lastIndex > at ? sticky.lastIndex : -1
      if (end > 0) {
        next(at === 0 && end === text.length ? text : text.slice(at, end))
        at = end
        continue
      }
      const rest = gap(sticky, text, at)
      next(text.slice(at, rest))
      at = rest
    }
  }
}

// Where the first match after `at` begins, or the end of the text.
function gap(sticky: RegExp, text: string, at: number): number {
  for (let i = at + width(text, at); i < text.length; i += width(text, i)) {
    sticky.lastIndex = i
    if (sticky.test(text) && sticky.lastIndex > i) return i
  }
  return text.length
}

const width = (text: string, at: number): number => ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1)

function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'uy')
  } catch (cause) {
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[tokenizer] expected a pre-tokenizer pattern that JavaScript can run, but it is ${pattern}`,
      { cause },
    )
  }
}
