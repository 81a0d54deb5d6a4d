// A conversation that goes on: what the template makes of all messages is appended from where the session ends.
import { TokensieveError } from './errors.js'
import {
  isPicture,
  joinSpans,
  type Pictures,
  type PromptPart,
  pictureSpans,
  type Span,
  type TextPart,
  type Tokens,
} from './prompt.js'
import type { ChatMessage, Tokenizer } from './tokenizer/index.js'
import type { Picture } from './vision/picture.js'

/** Stands in the template's text for a part that is more than text; both ends are no characters of any script. */
const PLACE = /\uFDD0(\d+)\uFDD1/g
/** Keeps what a user writes from being taken for the template's own word for a picture. */
const APART = '\uFDD2'

/** What a template writes where a picture belongs, and whether it does. */
export interface PictureWords {
  readonly placeholder: string
  readonly inTemplate: boolean
}

/** A part that stands in the text by its number; of a picture no more is kept than that it was one. */
type Stored = TextPart | { readonly picture: true }

/** A message as the template takes it: text, or parts, whose pictures are named by their numbers. */
type Flat = Omit<ChatMessage, 'content'> & { readonly content: string | readonly FlatPart[] }
type FlatPart = { readonly type: 'text'; readonly text: string } | { readonly type: 'image'; readonly number: number }

export interface Turn {
  readonly tokenizer: Tokenizer
  /** Whether the session holds no token yet. */
  readonly empty: boolean
  readonly pictures: Pictures
  readonly words: PictureWords | undefined
}

export class Conversation {
  #messages: Flat[] = []
  /** The text that the session's ids stand for. */
  #text = ''
  /** Parts that stand in the text by their number. */
  #parts: Stored[] = []

  get begun(): boolean {
    return this.#messages.length > 0
  }

  /** Tokens of the next messages, and what to note when the session has taken them. */
  next(messages: readonly ChatMessage[], turn: Turn): Tokens & { taken: () => void } {
    const parts = [...this.#parts]
    const shown = new Map<number, Picture>()
    const all = [...this.#messages, ...messages.map((message) => flatten(message, parts, shown, turn))]
    const whole = render(all, turn, true)
    const rest = this.begun ? this.#rest(whole, turn) : whole
    const taken = () => {
      this.#messages = all
      this.#parts = parts
      this.#text += rest
    }
    return { ...joinSpans(spansOf(rest, parts, shown, turn)), taken }
  }

  /** The answer of the model, and its ids as text with special tokens. */
  answered(text: string, raw: string): void {
    this.#messages.push({ role: 'assistant', content: text })
    this.#text += raw
  }

  /** What of the whole is not yet in the session. A template may trim an answer: then the text is followed as far as it agrees. */
  #rest(whole: string, turn: Turn): string {
    if (whole.startsWith(this.#text)) return whole.slice(this.#text.length)
    const last = this.#messages.at(-1)
    const before = render(this.#messages, turn, false)
    const content = typeof last?.content === 'string' ? last.content.trim() : ''
    const end = before.lastIndexOf(content) + content.length
    return whole.slice(Math.min(end, whole.length))
  }

  copy(): Conversation {
    return Conversation.from(structuredClone(this.toJSON()))
  }

  toJSON(): { messages: Flat[]; text: string; parts: Stored[] } {
    return { messages: this.#messages, text: this.#text, parts: this.#parts }
  }

  static from({ messages, text, parts }: ReturnType<Conversation['toJSON']>): Conversation {
    const made = new Conversation()
    made.#messages = messages
    made.#text = text
    made.#parts = parts
    return made
  }
}

/** The message with its parts as one text, or as parts where there are pictures and the template takes them; those that are marked, ids or pictures go to `parts`. */
function flatten(
  { content, ...rest }: ChatMessage,
  parts: Stored[],
  shown: Map<number, Picture>,
  { pictures, words }: Turn,
): Flat {
  if (typeof content === 'string') return { ...rest, content }
  const flat = (content as readonly PromptPart[]).map((part): FlatPart => {
    if (isPicture(part)) {
      const number = parts.push({ picture: true }) - 1
      shown.set(number, pictures.get(part) as Picture)
      return words?.inTemplate ? { type: 'image', number } : { type: 'text', text: placeOf(number) }
    }
    if ('text' in part && !part.droppable) return { type: 'text', text: part.text }
    const plain = 'text' in part ? part : { ...part, ids: Array.from(part.ids) }
    return { type: 'text', text: placeOf(parts.push(plain) - 1) }
  })
  const texts = flat.flatMap((part) => (part.type === 'text' ? [part.text] : []))
  return { ...rest, content: texts.length === flat.length ? texts.join('') : flat }
}

function placeOf(number: number): string {
  return `\uFDD0${number}\uFDD1`
}

/** What the template makes of the messages; its words for pictures become their places. */
function render(messages: readonly Flat[], { tokenizer, words }: Turn, addGenerationPrompt: boolean): string {
  const numbers = messages.flatMap(({ content }) =>
    typeof content === 'string' ? [] : content.flatMap((part) => (part.type === 'image' ? [part.number] : [])),
  )
  if (!words || numbers.length === 0) return tokenizer.chat(messages, { addGenerationPrompt })
  const { placeholder } = words
  const apart = (text: string) => text.replaceAll(placeholder, placeholder[0] + APART + placeholder.slice(1))
  const guarded = messages.map(({ content, ...rest }) => ({
    ...rest,
    content:
      typeof content === 'string'
        ? apart(content)
        : content.map((part) => (part.type === 'text' ? { ...part, text: apart(part.text) } : { type: part.type })),
  }))
  const [head = '', ...pieces] = tokenizer.chat(guarded as ChatMessage[], { addGenerationPrompt }).split(placeholder)
  if (pieces.length !== numbers.length)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[chat template] expected ${placeholder} for each of ${numbers.length} pictures, but the template wrote ${pieces.length}`,
    )
  return (head + pieces.map((piece, i) => placeOf(numbers[i] as number) + piece).join('')).replaceAll(APART, '')
}

function spansOf(
  text: string,
  parts: readonly Stored[],
  shown: ReadonlyMap<number, Picture>,
  { empty, tokenizer }: Turn,
): Span[] {
  const spans: Span[] = []
  const add = (piece: string, droppable: boolean) => {
    const addSpecial = empty && spans.length === 0
    if (piece !== '' || addSpecial)
      spans.push({ ids: tokenizer.encode(piece, { addSpecial, parseSpecial: true }), droppable })
  }
  let at = 0
  for (const { 0: place, 1: number, index } of text.matchAll(PLACE)) {
    const part = parts[Number(number)]
    if (!part) continue // it was in the text that was given
    add(text.slice(at, index), false)
    const picture = shown.get(Number(number))
    if (picture) spans.push(...pictureSpans(picture, tokenizer))
    else if ('text' in part) add(part.text, part.droppable ?? false)
    else if ('ids' in part) spans.push({ ids: part.ids, droppable: part.droppable ?? false })
    at = index + place.length
  }
  add(text.slice(at), false)
  return spans
}
