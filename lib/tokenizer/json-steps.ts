// The steps that tokenizer.json names: what happens to text before it is merged.
import { TokensieveError } from '../errors.js'
import type { Recipe } from './recipe.js'
import { GPT2, SINGLE_NUMBERS, Splitter, translate } from './split.js'

interface Step {
  type?: string
  [field: string]: unknown
}

type Prefix = Recipe['prefix']

/** The normalizer: `spacesWritten` where it writes spaces as U+2581, which is how our vocabularies are read anyway. */
export function normalization(normalizer: unknown): {
  normalize?: (text: string) => string
  prefix: Prefix
  spacesWritten: boolean
} {
  const changes: ((text: string) => string)[] = []
  let prefix: Prefix = 'none'
  let spacesWritten = false
  for (const step of flatten(normalizer, 'normalizers')) {
    if (step.type === 'Prepend' && step.prepend === '\u2581') prefix = 'each'
    else if (step.type === 'Replace' && textOf(step.pattern) === ' ' && step.content === '\u2581') {
      spacesWritten = true
      changes.push((text) => text.replaceAll('\u2581', ' '))
    } else changes.push(change(step))
  }
  const normalize =
    changes.length === 0 ? undefined : (text: string) => changes.reduce((changed, next) => next(changed), text)
  return { normalize, prefix, spacesWritten }
}

function change(step: Step): (text: string) => string {
  switch (step.type) {
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = step.type
      return (text) => text.normalize(form)
    }
    case 'Lowercase':
      return (text) => text.toLowerCase()
    case 'Replace': {
      const pattern = new RegExp(patternOf(step), 'gu')
      const content = String(step.content)
      return (text) => text.replaceAll(pattern, () => content)
    }
    default:
      throw unsupported('normalizer', step)
  }
}

/** The pre-tokenizer, and with the decoder how tokens are written. */
export function pretokenization(
  pre: unknown,
  decoder: unknown,
  spacesWritten: boolean,
): { writing: Recipe['writing']; splitter?: Splitter; prefix: Prefix } {
  const steps = flatten(pre, 'pretokenizers')
  const byteLevel = [...steps, ...flatten(decoder, 'decoders')].some((step) => step.type === 'ByteLevel')
  const patterns: string[] = []
  let prefix: Prefix = 'none'
  for (const step of steps) {
    if (step.type === 'ByteLevel') {
      if (step.use_regex !== false) patterns.push(GPT2)
      if (step.add_prefix_space === true) prefix = 'each'
    } else if (step.type === 'Digits') patterns.push(step.individual_digits === true ? '\\p{N}' : '\\p{N}+')
    else if (step.type === 'Metaspace') {
      const scheme = step.prepend_scheme ?? (step.add_prefix_space === false ? 'never' : 'always')
      prefix = scheme === 'never' ? 'none' : scheme === 'first' ? 'first' : 'each'
      if (step.split !== false) patterns.push(' [^ ]*|[^ ]+')
    } else if (step.type !== 'Split') throw unsupported('pre-tokenizer', step)
    else if (!spacesWritten || textOf(step.pattern) !== ' ') patterns.push(isolating(step)) // else no space is left to cut at
  }
  const joined = patterns.length === 2 && patterns[0] === '\\p{N}' && patterns[1] === GPT2 ? [SINGLE_NUMBERS] : patterns
  return {
    writing: byteLevel ? 'byte-level' : 'sentencepiece',
    splitter: joined.length > 0 || byteLevel ? new Splitter(joined) : undefined,
    prefix,
  }
}

// Matches and what is between them become pieces; "remove what does not match" is the same for patterns that match all.
function isolating(step: Step): string {
  const inverted = step.invert === true
  if (step.behavior !== (inverted ? 'Removed' : 'Isolated')) throw unsupported('pre-tokenizer', step)
  return patternOf(step)
}

function patternOf(step: Step): string {
  const plain = textOf(step.pattern)
  if (plain !== undefined) return plain.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
  const regex = (step.pattern as { Regex?: unknown } | undefined)?.Regex
  if (typeof regex !== 'string') throw unsupported('pattern', step)
  return translate(regex)
}

function textOf(pattern: unknown): string | undefined {
  const text = (pattern as { String?: unknown } | null | undefined)?.String
  return typeof text === 'string' ? text : undefined
}

function flatten(step: unknown, list: string): Step[] {
  if (step === undefined || step === null) return []
  const { type, [list]: inner } = step as Step
  return type === 'Sequence' && Array.isArray(inner) ? inner.flatMap((each) => flatten(each, list)) : [step as Step]
}

function unsupported(what: string, step: Step): TokensieveError {
  const shown = JSON.stringify(step)
  return new TokensieveError(
    'ERR_UNSUPPORTED',
    `[tokenizer.json] this ${what} is not supported: ${shown.length > 200 ? `${shown.slice(0, 197)}…` : shown}`,
  )
}
