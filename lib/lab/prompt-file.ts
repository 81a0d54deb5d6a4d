// Prompts in a file: one JSON object a line, or plain text with --- between prompts.
import { TokensieveError } from '../errors.js'
import type { SamplePrompt } from './tasks/index.js'

const FIELDS = ['prompt', 'question', 'answer']

export function parsePrompts(text: string, name: string): SamplePrompt[] {
  const prompts = text.trimStart().startsWith('{') ? fromLines(text, name) : fromText(text)
  if (prompts.length === 0) throw malformed(name, 'at least one prompt', 'none')
  return prompts
}

function fromText(text: string): SamplePrompt[] {
  const parts = text.split(/^---[ \t]*$/m).map((part) => part.trim())
  return parts.filter((part) => part !== '').map((prompt) => ({ prompt }))
}

function fromLines(text: string, name: string): SamplePrompt[] {
  const lines = text.split('\n').map((line, i) => [line.trim(), `${name}:${i + 1}`] as const)
  return lines.filter(([line]) => line !== '').map(([line, place]) => fromLine(line, place))
}

function fromLine(line: string, place: string): SamplePrompt {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw malformed(place, 'a JSON object', line.slice(0, 40))
  }
  if (typeof value !== 'object' || value === null) throw malformed(place, 'a JSON object', line.slice(0, 40))
  for (const [field, part] of Object.entries(value)) {
    if (!FIELDS.includes(field)) throw malformed(place, `only ${FIELDS.join(', ')}`, field)
    if (typeof part !== 'string' || part === '') throw malformed(place, `text for ${field}`, JSON.stringify(part))
  }
  if (!('prompt' in value)) throw malformed(place, 'a prompt', 'none')
  return value as SamplePrompt
}

function malformed(place: string, what: string, received: string): TokensieveError {
  return new TokensieveError('ERR_FILE_FORMAT', `[${place}] expected ${what} but received ${received}`)
}
