// What a user gives as a prompt, as token ids and marks.
import { rangeError, TokensieveError, typeError } from './errors.js'
import type { ChatMessage, Tokenizer } from './tokenizer/index.js'

/** A part of a prompt. `droppable`: layer methods may thin this span. */
export type PromptPart =
  | { readonly text: string; readonly droppable?: boolean }
  | { readonly ids: Int32Array | readonly number[]; readonly droppable?: boolean }

/** Text as it is, ids, messages (the chat template is applied; content may be parts too), or parts. */
export type Prompt = string | Int32Array | readonly PromptPart[] | readonly ChatMessage[]

export interface Span {
  readonly ids: ArrayLike<number>
  readonly droppable: boolean
}

/** The spans of a prompt, joined: what a call takes. */
export interface Tokens {
  readonly ids: Int32Array
  /** Places in `ids`, ascending. */
  readonly droppable: Int32Array
}

export function isMessages(prompt: unknown): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt) && prompt.length > 0 && prompt.every((p) => isObject(p) && 'role' in p)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** Throws where it is no prompt, or names tokens that the model has not. */
export function checkPrompt(prompt: unknown, vocabulary: number): asserts prompt is Prompt {
  if (typeof prompt === 'string') return
  if (prompt instanceof Int32Array) return checkIds(prompt, 'prompt', vocabulary)
  if (!Array.isArray(prompt)) throw typeError('a string, an Int32Array, messages or parts', 'prompt', prompt)
  if (isMessages(prompt)) for (const [i, message] of prompt.entries()) checkMessage(message, `prompt[${i}]`, vocabulary)
  else for (const [i, part] of (prompt as unknown[]).entries()) checkPart(part, `prompt[${i}]`, vocabulary)
}

function checkMessage({ content, role }: ChatMessage, name: string, vocabulary: number): void {
  if (typeof role !== 'string') throw typeError('a string', `${name}.role`, role)
  if (typeof content === 'string') return
  if (!Array.isArray(content)) throw typeError('a string or parts', `${name}.content`, content)
  for (const [i, part] of content.entries()) checkPart(part, `${name}.content[${i}]`, vocabulary)
}

function checkPart(part: unknown, name: string, vocabulary: number): void {
  if (!isObject(part)) throw typeError('{ text } or { ids }', name, part)
  const { text, ids, droppable = false } = part as { text?: unknown; ids?: unknown; droppable?: unknown }
  if (typeof droppable !== 'boolean') throw typeError('true or false', `${name}.droppable`, droppable)
  if (typeof text === 'string') return
  const isIds = ids instanceof Int32Array || Array.isArray(ids)
  if (isIds) checkIds(ids, `${name}.ids`, vocabulary)
  else if ('image' in part || 'video' in part)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `Expected a model with a vision tower for \`${name}\`, this one reads text`,
    )
  else throw typeError('{ text } or { ids }', name, part)
}

function checkIds(ids: ArrayLike<unknown>, name: string, vocabulary: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]
    if (typeof id !== 'number') throw typeError('token ids', name, id)
    if (!(Number.isInteger(id) && id >= 0 && id < vocabulary))
      throw rangeError(`token ids from 0 to ${vocabulary - 1}`, name, id)
  }
}

/** A copy that its giver cannot change. */
export function copyPrompt(prompt: Prompt): Prompt {
  return typeof prompt === 'string' ? prompt : structuredClone(prompt)
}

/** empty: whether the session holds no token yet, so that a begin token may come in front. */
export function readPrompt(
  prompt: Exclude<Prompt, readonly ChatMessage[]>,
  tokenizer: Tokenizer,
  empty: boolean,
): Tokens {
  if (typeof prompt === 'string') return joinSpans([textSpan(prompt, tokenizer, empty)])
  if (prompt instanceof Int32Array) return joinSpans([{ ids: prompt, droppable: false }])
  return joinSpans(
    prompt.map((part, i) => {
      const { droppable = false } = part
      return 'text' in part ? textSpan(part.text, tokenizer, empty && i === 0, droppable) : { ids: part.ids, droppable }
    }),
  )
}

function textSpan(text: string, tokenizer: Tokenizer, first: boolean, droppable = false): Span {
  return { ids: tokenizer.encode(text, { addSpecial: first, parseSpecial: false }), droppable }
}

export function joinSpans(spans: readonly Span[]): Tokens {
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
