// A conversation that goes on: what the template makes of all messages is appended from where the session ends.
import { readPrompt, type Tokens } from './prompt.js'
import type { ChatMessage, Tokenizer } from './tokenizer/index.js'

export class Conversation {
  #messages: ChatMessage[] = []
  /** The text that the session's ids stand for. */
  #text = ''

  get begun(): boolean {
    return this.#messages.length > 0
  }

  /** Tokens of the next messages, and what to note when the session has taken them. */
  next(messages: readonly ChatMessage[], tokenizer: Tokenizer, empty: boolean): { tokens: Tokens; taken: () => void } {
    const all = [...this.#messages, ...messages]
    const whole = tokenizer.chat(all)
    const rest = this.begun ? this.#rest(whole, tokenizer) : whole
    const ids = tokenizer.encode(rest, { addSpecial: empty, parseSpecial: true })
    const taken = () => {
      this.#messages = all
      this.#text += rest
    }
    return { tokens: readPrompt(ids, tokenizer, false), taken }
  }

  /** The answer of the model, and its ids as text with special tokens. */
  answered(text: string, raw: string): void {
    if (!this.begun) return
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
    const twin = new Conversation()
    twin.#messages = [...this.#messages]
    twin.#text = this.#text
    return twin
  }

  toJSON(): { messages: ChatMessage[]; text: string } {
    return { messages: this.#messages, text: this.#text }
  }

  static from({ messages, text }: { messages: ChatMessage[]; text: string }): Conversation {
    const made = new Conversation()
    made.#messages = messages
    made.#text = text
    return made
  }
}
