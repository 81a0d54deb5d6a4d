// A conversation as the text that the model was trained on, by the template that came with it.
import { Template } from '@huggingface/jinja'
import { TokensieveError, typeError } from '../errors.js'

export interface ChatMessage {
  role: string
  /** Text, or parts of it; parts without text go to the template as they are. */
  content: string | readonly unknown[]
}

export class ChatTemplate {
  readonly #template: Template
  readonly #tokens: Record<string, string | undefined>

  constructor(source: string, tokens: { bos_token?: string; eos_token?: string }) {
    this.#template = guarded('cannot be read', () => new Template(source))
    this.#tokens = tokens
  }

  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    const flat = checked(messages).map(({ content, ...rest }) => ({ ...rest, content: flatten(content) }))
    return guarded('refused the messages', () =>
      this.#template.render({ ...this.#tokens, messages: flat, add_generation_prompt: addGenerationPrompt }),
    )
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
