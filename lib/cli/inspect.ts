// tokensieve inspect: what a model file holds, and what a context would take.
import { fromNative } from '../errors.js'
import { type NativeFile, native } from '../native.js'
import { flagOf, numbersOf, parse } from './arguments.js'
import { bytes, number, plainTable } from './format.js'
import { type Command, type Io, painter } from './io.js'
import { type CacheSizes, cacheBytes, KV_TYPES, readSizes, storedBytes } from './model-sizes.js'
import { findModel } from './open-model.js'

interface TypeRow {
  readonly type: string
  tensors: number
  parameters: number
  bytes: number
}

export const command: Command = {
  help: `
What a model file holds, without loading its weights.

Usage: tokensieve inspect MODEL [--context 2048,8192] [--json]

      --context N,…      contexts to tell the memory of; default: 2048 and the model's own
      --json             one object { path, name, architecture, …, types, kv }`,

  async run(args, io) {
    const parsed = parse(args, { context: { type: 'string' }, json: { type: 'boolean' } }, ['MODEL'])
    const contexts = numbersOf(parsed, 'context', { min: 1, whole: true })
    const path = await findModel(parsed.positionals[0] ?? '', io)
    const found = await look(path, contexts)
    if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(found)}\n`)
    else print(found, io)
    return 0
  },
}

type Found = Awaited<ReturnType<typeof look>>

async function look(path: string, contexts: readonly number[] | undefined) {
  const file = await openFile(path)
  try {
    const sizes = readSizes(file)
    const { contextLength } = sizes
    const wanted = contexts ?? [...new Set([2048, contextLength].filter((n) => n <= contextLength))]
    const text = (key: string) => String(file.metadata(key) ?? '') || undefined
    return {
      path,
      name: text('general.name'),
      architecture: text('general.architecture'),
      ...sizes,
      tokenizer: [text('tokenizer.ggml.model'), text('tokenizer.ggml.pre')].filter(Boolean).join(', ') || undefined,
      fileBytes: file.bytes,
      fingerprint: file.fingerprint,
      types: typesOf(file),
      kv: wanted.map((context) => ({
        context,
        bytes: Object.fromEntries(KV_TYPES.map((type) => [type, cacheBytes(sizes, type, context)])),
      })),
    }
  } finally {
    file.close()
  }
}

async function openFile(path: string): Promise<NativeFile> {
  try {
    return await native().open(path)
  } catch (error) {
    throw fromNative(error)
  }
}

function typesOf(file: NativeFile): TypeRow[] {
  const rows = new Map<string, TypeRow>()
  for (const { type, shape } of file.tensors()) {
    const row = rows.get(type) ?? { type, tensors: 0, parameters: 0, bytes: 0 }
    const elements = shape.reduce((product, size) => product * size, 1)
    row.tensors++
    row.parameters += elements
    row.bytes += storedBytes(type, elements)
    rows.set(type, row)
  }
  return [...rows.values()].sort((a, b) => b.bytes - a.bytes)
}

function print(found: Found, io: Io): void {
  const paint = painter(io.out)
  const line = (title: string, text: string) => io.out.write(`${paint('dim', title.padEnd(14))}${text}\n`)
  io.out.write(`${paint('bold', found.name ?? found.path)}\n`)
  line('file', `${found.path}, ${bytes(found.fileBytes)}`)
  line(
    'architecture',
    `${found.architecture}, ${found.layers} layers, hidden ${number(found.hiddenSize)}, feed-forward ${number(found.feedForwardSize)}`,
  )
  line('attention', attention(found))
  line('vocabulary', `${number(found.vocabularySize)} tokens${found.tokenizer ? ` (${found.tokenizer})` : ''}`)
  line('context', `${number(found.contextLength)} tokens`)
  const right = (title: string) => ({ title, right: true })
  const types = found.types.map((row) => [row.type, number(row.tensors), millions(row.parameters), bytes(row.bytes)])
  table(io, [{ title: 'weights' }, right('tensors'), right('parameters'), right('size')], types)
  const columns = [
    { title: 'KV cache' },
    ...found.kv.map(({ context }) => right(`${number(context)} tokens`)),
    right('per token'),
  ]
  const [first] = found.kv
  if (!first) return
  const rows = KV_TYPES.map((type) => [
    type,
    ...found.kv.map((entry) => bytes(entry.bytes[type] ?? 0)),
    `${number(cacheBytes({ ...found, windows: found.windows.map(() => 0) }, type, 1) / 1024)} KiB`,
  ])
  table(io, columns, rows)
}

function millions(count: number): string {
  return count >= 1e5 ? `${(count / 1e6).toFixed(1)} M` : number(count)
}

function attention({ heads, kvHeads, headSize, windows }: CacheSizes & { heads: number }): string {
  const sliding = windows.filter((window) => window > 0)
  const text = `${heads} query heads of size ${headSize} over ${kvHeads} KV head${kvHeads === 1 ? '' : 's'}`
  return sliding.length === 0
    ? text
    : `${text}; ${sliding.length} layers see the last ${number(sliding[0] ?? 0)} tokens`
}

function table(io: Io, columns: Parameters<typeof plainTable>[0], rows: string[][]): void {
  const [head = '', ...lines] = plainTable(columns, rows)
  io.out.write(`\n${painter(io.out)('dim', head)}\n${lines.join('\n')}\n`)
}
