// What a user gives as a prompt, as token ids and marks.
import { TokensieveError, typeError } from './errors.js'
import type { ChatMessage, Tokenizer } from './tokenizer/index.js'

/** A part of a prompt. `droppable`: layer methods may thin this span. */
export type PromptPart =
  | { readonly text: string; readonly droppable?: boolean }
  | { readonly ids: Int32Array | readonly number[]; readonly droppable?: boolean }

/** Text as it is, ids, messages (the chat template is applied), or parts. */
export type Prompt = string | Int32Array | readonly PromptPart[] | readonly ChatMessage[]

export interface Span {
  ids: Int32Array
  droppable: boolean
}

/** The spans of a prompt, joined: what a call takes. */
export interface Tokens {
  ids: Int32Array
  /** Places in `ids`, ascending. */
  droppable: Int32Array
}

export function isMessages(prompt: unknown): prompt is readonly ChatMessage[] {
  return (
    Array.isArray(prompt) &&
    prompt.length > 0 &&
    prompt.every((p) => typeof p === 'object' && p !== null && 'role' in p)
  )
}

/** empty: whether the session holds no token yet, so that a begin token may come in front. */
export function readPrompt(prompt: unknown, tokenizer: Tokenizer, empty: boolean): Tokens {
  if (typeof prompt === 'string') return join([{ ids: encode(tokenizer, prompt, empty), droppable: false }])
  if (prompt instanceof Int32Array) return join([{ ids: prompt, droppable: false }])
  if (!Array.isArray(prompt)) throw typeError('a string, an Int32Array, messages or parts', 'prompt', prompt)
  const spans: Span[] = []
  for (const [i, part] of prompt.entries()) spans.push(readPart(part, `prompt[${i}]`, tokenizer, empty && i === 0))
  return join(spans)
}

function readPart(part: unknown, name: string, tokenizer: Tokenizer, first: boolean): Span {
  if (typeof part !== 'object' || part === null) throw typeError('{ text } or { ids }', name, part)
  const { text, ids, droppable = false } = part as { text?: unknown; ids?: unknown; droppable?: unknown }
  if (typeof droppable !== 'boolean') throw typeError('true or false', `${name}.droppable`, droppable)
  if (typeof text === 'string') return { ids: encode(tokenizer, text, first), droppable }
  if (ids instanceof Int32Array) return { ids, droppable }
  if (Array.isArray(ids) && ids.every((id) => Number.isInteger(id))) return { ids: Int32Array.from(ids), droppable }
  if ('image' in part || 'video' in part)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `Expected a model with a vision tower for \`${name}\`, this one reads text`,
    )
  throw typeError('{ text } or { ids }', name, part)
}

function encode(tokenizer: Tokenizer, text: string, first: boolean): Int32Array {
  return tokenizer.encode(text, { addSpecial: first, parseSpecial: false })
}

function join(spans: readonly Span[]): Tokens {
  const ids = new Int32Array(spans.reduce((sum, span) => sum + span.ids.length, 0))
  const droppable: number[] = []
  let at = 0
  for (const span of spans) {
    ids.set(span.ids, at)
    if (span.droppable) for (let i = 0; i < span.ids.length; i++) droppable.push(at + i)
    at += span.ids.length
  }
  return { ids, droppable: Int32Array.from(droppable) }
}
