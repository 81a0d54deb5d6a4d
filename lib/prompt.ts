// What a user gives as a prompt, as token ids and marks.
import { rangeError, TokensieveError, typeError } from './errors.js'
import type { ChatMessage, Tokenizer } from './tokenizer/index.js'
import { checkImage, checkVideo, copyImage, copyVideo, type ImageGiven, type VideoGiven } from './vision/image.js'
import { NEWLINE } from './vision/layout.js'
import type { Picture } from './vision/picture.js'

/** A part of a prompt. `droppable`: layer methods may thin this span; the patches of pictures always. */
export type PromptPart = TextPart | PicturePart

export type TextPart =
  | { readonly text: string; readonly droppable?: boolean }
  | { readonly ids: Int32Array | readonly number[]; readonly droppable?: boolean }

/** A picture, or the frames of a film; for models with a vision tower. */
export type PicturePart = { readonly image: ImageGiven } | { readonly video: VideoGiven }

/** Text as it is, ids, messages (the chat template is applied; content may be parts too), or parts. */
export type Prompt = string | Int32Array | readonly PromptPart[] | readonly ChatMessage[]

export interface Span {
  readonly ids: ArrayLike<number>
  readonly droppable: boolean
  /** Whose rows they are. */
  readonly of?: object
}

/** The spans of a prompt, joined: what a call takes. */
export interface Tokens {
  readonly ids: Int32Array
  /** Places in `ids`, ascending. */
  readonly droppable: Int32Array
  readonly pictures: readonly Placed[]
}

/** A picture among ids. */
export interface Placed {
  readonly picture: Picture
  /** Where its rows stand, by their number, ascending; fewer than it has where the rest was cut off. */
  readonly places: Int32Array
}

/** Pictures of a prompt by their parts. */
export type Pictures = ReadonlyMap<object, Picture>

export function isMessages(prompt: unknown): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt) && prompt.length > 0 && prompt.every((p) => isObject(p) && 'role' in p)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** What a model reads. */
export interface Reads {
  readonly vocabulary: number
  readonly pictures: boolean
}

/** Throws where it is no prompt, or names tokens that the model has not. */
export function checkPrompt(prompt: unknown, reads: Reads): asserts prompt is Prompt {
  if (typeof prompt === 'string') return
  if (prompt instanceof Int32Array) return checkIds(prompt, 'prompt', reads.vocabulary)
  if (!Array.isArray(prompt)) throw typeError('a string, an Int32Array, messages or parts', 'prompt', prompt)
  if (isMessages(prompt)) for (const [i, message] of prompt.entries()) checkMessage(message, `prompt[${i}]`, reads)
  else for (const [i, part] of (prompt as unknown[]).entries()) checkPart(part, `prompt[${i}]`, reads)
}

function checkMessage({ content, role }: ChatMessage, name: string, reads: Reads): void {
  if (typeof role !== 'string') throw typeError('a string', `${name}.role`, role)
  if (typeof content === 'string') return
  if (!Array.isArray(content)) throw typeError('a string or parts', `${name}.content`, content)
  for (const [i, part] of content.entries()) checkPart(part, `${name}.content[${i}]`, reads)
}

const PARTS = '{ text }, { ids }, { image } or { video }'

function checkPart(part: unknown, name: string, { pictures, vocabulary }: Reads): void {
  if (!isObject(part)) throw typeError(PARTS, name, part)
  const { text, ids, droppable = false } = part as { text?: unknown; ids?: unknown; droppable?: unknown }
  if (typeof droppable !== 'boolean') throw typeError('true or false', `${name}.droppable`, droppable)
  if (typeof text === 'string') return
  const isIds = ids instanceof Int32Array || Array.isArray(ids)
  if (isIds) {
    checkIds(ids, `${name}.ids`, vocabulary)
    return
  }
  const { image, video } = part as { image?: unknown; video?: unknown }
  if (image === undefined && video === undefined) throw typeError(PARTS, name, part)
  if (!pictures)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `Expected a model with a vision tower for \`${name}\`, this one reads text`,
    )
  if (image !== undefined) checkImage(image, `${name}.image`)
  else checkVideo(video, `${name}.video`)
}

export function isPicture(part: unknown): part is PicturePart {
  return isObject(part) && !('text' in part) && !('ids' in part) && ('image' in part || 'video' in part)
}

/** Its parts that are pictures, in order. */
export function pictureParts(prompt: Prompt): PicturePart[] {
  if (!Array.isArray(prompt)) return []
  const parts = isMessages(prompt)
    ? prompt.flatMap(({ content }) => (typeof content === 'string' ? [] : content))
    : (prompt as readonly unknown[])
  return parts.filter(isPicture)
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
  if (typeof prompt === 'string' || prompt instanceof Int32Array) return structuredClone(prompt)
  if (!isMessages(prompt)) return prompt.map(copyPart)
  return prompt.map(({ content, ...rest }) => ({
    ...structuredClone(rest),
    content: typeof content === 'string' ? content : (content as readonly PromptPart[]).map(copyPart),
  }))
}

function copyPart(part: PromptPart): PromptPart {
  if (!isPicture(part)) return structuredClone(part)
  return 'image' in part ? { image: copyImage(part.image) } : { video: copyVideo(part.video) }
}

/** empty: whether the session holds no token yet, so that a begin token may come in front: of text, or of a picture. */
export function readPrompt(
  prompt: Exclude<Prompt, readonly ChatMessage[]>,
  tokenizer: Tokenizer,
  empty: boolean,
  pictures: Pictures = new Map(),
): Tokens {
  if (typeof prompt === 'string') return joinSpans([textSpan(prompt, tokenizer, empty)])
  if (prompt instanceof Int32Array) return joinSpans([{ ids: prompt, droppable: false }])
  const spans = prompt.flatMap((part, i) => {
    const first = empty && i === 0
    if (isPicture(part)) {
      const begin = first ? [textSpan('', tokenizer, true)] : []
      return [...begin, ...pictureSpans(pictures.get(part) as Picture, tokenizer)]
    }
    const { droppable = false } = part
    return 'text' in part ? [textSpan(part.text, tokenizer, first, droppable)] : [{ ids: part.ids, droppable }]
  })
  return joinSpans(spans)
}

function textSpan(text: string, tokenizer: Tokenizer, first: boolean, droppable = false): Span {
  return { ids: tokenizer.encode(text, { addSpecial: first, parseSpecial: false }), droppable }
}

/** A picture's rows, with the text that the model wants between them. What only ends a line of patches stays. */
export function pictureSpans(picture: Picture, tokenizer: Tokenizer): Span[] {
  const { ids, layout } = picture
  const of = { picture }
  const spans: Span[] = []
  let number = 0
  for (const item of layout.items) {
    if ('text' in item) {
      const text = tokenizer.encode(item.text, { addSpecial: false, parseSpecial: true })
      spans.push({ ids: text, droppable: false })
      continue
    }
    const { length } = item.rows
    for (let begin = 0, end = 0; begin < length; begin = end) {
      const breaks = item.rows[begin] === NEWLINE
      while (end < length && (item.rows[end] === NEWLINE) === breaks) end++
      spans.push({ ids: ids.subarray(number + begin, number + end), droppable: !breaks, of })
    }
    number += length
  }
  return spans
}

export function joinSpans(spans: readonly Span[]): Tokens {
  const ids = new Int32Array(spans.reduce((sum, span) => sum + span.ids.length, 0))
  const droppable: number[] = []
  const placed = new Map<object, number[]>()
  let at = 0
  for (const { droppable: free, ids: own, of } of spans) {
    ids.set(own, at)
    const places = of && (placed.get(of) ?? [])
    if (places) placed.set(of, places)
    for (let place = at; (free || places) && place < at + own.length; place++) {
      if (free) droppable.push(place)
      places?.push(place)
    }
    at += own.length
  }
  const pictures = [...placed].map(([of, places]) => ({
    picture: (of as { picture: Picture }).picture,
    places: Int32Array.from(places),
  }))
  return { ids, droppable: Int32Array.from(droppable), pictures }
}
