// The tokenizer of a model: from the GGUF's own metadata, or from the tokenizer.json beside the weights.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TokensieveError } from './errors.js'
import type { NativeFile } from './native.js'
import { type PackedStrings, type Tokenizer, tokenizerFromGguf, tokenizerFromJson } from './tokenizer/index.js'

export async function tokenizerOf(path: string, folder: boolean, file: NativeFile): Promise<Tokenizer> {
  return folder ? fromFolder(path) : tokenizerFromGguf(sourceOf(file))
}

function sourceOf(file: NativeFile) {
  const get = (key: string) => file.metadata(`tokenizer.${key}`)
  const number = (key: string) => asNumber(get(`ggml.${key}`))
  const flag = (key: string) => {
    const value = get(`ggml.${key}`)
    return typeof value === 'boolean' ? value : undefined
  }
  const model = get('ggml.model')
  const tokens = asStrings(get('ggml.tokens'))
  if (typeof model !== 'string' || tokens === undefined)
    throw new TokensieveError(
      'ERR_FILE_FORMAT',
      '[tokenizer] expected tokenizer.ggml.model and tokenizer.ggml.tokens in the file',
    )
  const pre = get('ggml.pre')
  const template = get('chat_template')
  return {
    model,
    ...(typeof pre === 'string' && { pre }),
    tokens,
    scores: asArray(get('ggml.scores')),
    types: asArray(get('ggml.token_type')),
    merges: asStrings(get('ggml.merges')),
    bos: number('bos_token_id'),
    eos: number('eos_token_id'),
    eot: number('eot_token_id'),
    unk: number('unknown_token_id'),
    pad: number('padding_token_id'),
    addBos: flag('add_bos_token'),
    addEos: flag('add_eos_token'),
    addSpacePrefix: flag('add_space_prefix'),
    removeExtraWhitespaces: flag('remove_extra_whitespaces'),
    ...(typeof template === 'string' && { chatTemplate: template }),
  }
}

type Metadata = ReturnType<NativeFile['metadata']>

function asNumber(value: Metadata): number | undefined {
  return typeof value === 'number' ? value : undefined
}
function asArray(value: Metadata): Float64Array | undefined {
  return value instanceof Float64Array ? value : undefined
}
function asStrings(value: Metadata): PackedStrings | undefined {
  return typeof value === 'object' && 'offsets' in value ? value : undefined
}

async function fromFolder(folder: string): Promise<Tokenizer> {
  const json = await readJson(folder, 'tokenizer.json')
  if (json === undefined)
    throw new TokensieveError('ERR_FILE_NOT_FOUND', `[tokenizer] expected a tokenizer.json in ${folder}, there is none`)
  const config = (await readJson(folder, 'tokenizer_config.json')) ?? {}
  const template = await readFile(join(folder, 'chat_template.jinja'), 'utf8').catch(() => undefined)
  return tokenizerFromJson(json, template === undefined ? config : { ...config, chat_template: template })
}

async function readJson(folder: string, name: string): Promise<object | undefined> {
  const text = await readFile(join(folder, name), 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined
    throw cause
  })
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // told below
  }
  throw new TokensieveError('ERR_FILE_FORMAT', `[tokenizer] expected ${name} in ${folder} to hold a JSON object`)
}
