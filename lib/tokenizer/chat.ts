// A conversation as the text that the model was trained on, by the template that came with it.
import { Template } from '@huggingface/jinja'
import { TokensieveError, typeError } from '../errors.js'

export interface ChatMessage {
  role: string
  /** Text, or parts of it; parts without text go to the template as they are. */
  content: string | readonly unknown[]
}

/** Text that no template writes by itself. */
const PROBE = '\uFDD3'

export class ChatTemplate {
  readonly #template: Template
  readonly #tokens: Record<string, string | undefined>
  /** Whether text has to come as a part, because the template walks over parts alone; known when it was tried. */
  #parts: boolean | undefined

  constructor(source: string, tokens: { bos_token?: string; eos_token?: string }) {
    this.#template = guarded('cannot be read', () => new Template(source))
    this.#tokens = tokens
  }

  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    const flat = checked(messages).map(({ content, ...rest }) => ({ ...rest, content: this.#content(content) }))
    return guarded('refused the messages', () => this.#render(flat, addGenerationPrompt))
  }

  #render(messages: readonly object[], addGenerationPrompt: boolean): string {
    return this.#template.render({ ...this.#tokens, messages, add_generation_prompt: addGenerationPrompt })
  }

  #content(content: ChatMessage['content']): ChatMessage['content'] {
    const flat = flatten(content)
    if (typeof flat !== 'string') return flat
    this.#parts ??= this.#wantsParts()
    return this.#parts ? [{ type: 'text', text: flat }] : flat
  }

  #wantsParts(): boolean {
    const shows = (content: ChatMessage['content']) => {
      try {
        return this.#render([{ role: 'user', content }], false).includes(PROBE)
      } catch {
        return false
      }
    }
    return !shows(PROBE) && shows([{ type: 'text', text: PROBE }])
  }
}

function guarded<T>(what: string, run: () => T): T {
  try {
    return run()
  } catch (cause) {
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[chat template] ${what}: ${cause instanceof Error ? cause.message : cause}`,
      { cause },
    )
  }
}

function checked(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw typeError('an array of { role, content }', 'messages', messages)
  messages.forEach((message: unknown, i) => {
    if (typeof message !== 'object' || message === null) throw typeError('{ role, content }', `messages[${i}]`, message)
    const { role, content } = message as Partial<ChatMessage>
    if (typeof role !== 'string') throw typeError('a string', `messages[${i}].role`, role)
    if (typeof content !== 'string' && !Array.isArray(content))
      throw typeError('a string or parts', `messages[${i}].content`, content)
  })
  return messages
}

// Parts of text alone are one text, so that templates which know only strings take them too.
function flatten(content: ChatMessage['content']): ChatMessage['content'] {
  if (typeof content === 'string') return content
  const texts = content.map((part) => (typeof part === 'string' ? part : (part as { text?: unknown } | null)?.text))
  return texts.every((text) => typeof text === 'string') ? texts.join('') : content
}
