// A conversation that goes on: what the template makes of all messages is appended from where the session ends.
import { joinSpans, type PromptPart, type Span, type Tokens } from './prompt.js'
import type { ChatMessage, Tokenizer } from './tokenizer/index.js'

/** Stands in the template's text for a part that is more than text; both ends are no characters of any script. */
const PLACE = /\uFDD0(\d+)\uFDD1/g

export class Conversation {
  #messages: ChatMessage[] = []
  /** The text that the session's ids stand for. */
  #text = ''
  /** Parts that stand in the text by their number. */
  #parts: PromptPart[] = []

  get begun(): boolean {
    return this.#messages.length > 0
  }

  /** Tokens of the next messages, and what to note when the session has taken them. */
  next(messages: readonly ChatMessage[], tokenizer: Tokenizer, empty: boolean): Tokens & { taken: () => void } {
    const parts = [...this.#parts]
    const all = [...this.#messages, ...messages.map((message) => flatten(message, parts))]
    const whole = tokenizer.chat(all)
    const rest = this.begun ? this.#rest(whole, tokenizer) : whole
    const taken = () => {
      this.#messages = all
      this.#parts = parts
      this.#text += rest
    }
    return { ...joinSpans(spansOf(rest, parts, tokenizer, empty)), taken }
  }

  /** The answer of the model, and its ids as text with special tokens. */
  answered(text: string, raw: string): void {
    this.#messages.push({ role: 'assistant', content: text })
    this.#text += raw
  }

  /** What of the whole is not yet in the session. A template may trim an answer: then the text is followed as far as it agrees. */
  #rest(whole: string, tokenizer: Tokenizer): string {
    if (whole.startsWith(this.#text)) return whole.slice(this.#text.length)
    const last = this.#messages.at(-1)
    const before = tokenizer.chat(this.#messages, { addGenerationPrompt: false })
    const content = typeof last?.content === 'string' ? last.content.trim() : ''
    const end = before.lastIndexOf(content) + content.length
    return whole.slice(Math.min(end, whole.length))
  }

  copy(): Conversation {
    return Conversation.from(structuredClone(this.toJSON()))
  }

  toJSON(): { messages: ChatMessage[]; text: string; parts: PromptPart[] } {
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

/** The message with its parts as one text; those that are marked or are ids go to `parts`. */
function flatten({ content, ...rest }: ChatMessage, parts: PromptPart[]): ChatMessage {
  if (typeof content === 'string') return { ...rest, content }
  const texts = (content as readonly PromptPart[]).map((part) => {
    if ('text' in part && !part.droppable) return part.text
    const plain = 'text' in part ? part : { ...part, ids: Array.from(part.ids) }
    return `\uFDD0${parts.push(plain) - 1}\uFDD1`
  })
  return { ...rest, content: texts.join('') }
}

function spansOf(text: string, parts: readonly PromptPart[], tokenizer: Tokenizer, empty: boolean): Span[] {
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
    if ('text' in part) add(part.text, part.droppable ?? false)
    else spans.push({ ids: part.ids, droppable: part.droppable ?? false })
    at = index + place.length
  }
  add(text.slice(at), false)
  return spans
}
