// tokensieve inspect: what a model file holds, and what a context would take.
import { statSync } from 'node:fs'
import { fromNative } from '../errors.js'
import { type NativeFile, native } from '../native.js'
import { findTower } from '../vision/find.js'
import { flagOf, numbersOf, parse, textOf } from './arguments.js'
import { bytes, number, plainTable } from './format.js'
import { type Command, type Io, painter } from './io.js'
import { type CacheSizes, cacheBytes, KV_TYPES, readSizes, storedBytes } from './model-sizes.js'
import { findModel } from './open-model.js'
import { folderTowerSizes, type TowerSizes, towerSizes } from './tower-sizes.js'

interface TypeRow {
  readonly type: string
  tensors: number
  parameters: number
  bytes: number
}

export const command: Command = {
  help: `
What a model file holds, without loading its weights; its vision tower too, or a tower alone.

Usage: tokensieve inspect MODEL [--vision FILE] [--context 2048,8192] [--json]

      --vision FILE      its vision tower (an "mmproj"); default: the one beside it
      --context N,…      contexts to tell the memory of; default: 2048 and the model's own
      --json             one object { path, name, architecture, …, types, kv }`,

  async run(args, io) {
    const options = { context: { type: 'string' }, vision: { type: 'string' }, json: { type: 'boolean' } } as const
    const parsed = parse(args, options, ['MODEL'])
    const contexts = numbersOf(parsed, 'context', { min: 1, whole: true })
    const path = await findModel(parsed.positionals[0] ?? '', io)
    const json = flagOf(parsed, 'json')
    const alone = await towerAlone(path)
    if (alone) {
      if (json) io.out.write(`${JSON.stringify({ architecture: 'clip', ...alone })}\n`)
      else printTower(alone, io)
      return 0
    }
    const found = { ...(await look(path, contexts)), vision: await towerOf(path, textOf(parsed, 'vision')) }
    if (json) io.out.write(`${JSON.stringify(found)}\n`)
    else print(found, io)
    return 0
  },
}

type Found = Awaited<ReturnType<typeof look>> & { readonly vision: TowerSizes | undefined }

async function towerAlone(path: string): Promise<TowerSizes | undefined> {
  const file = await openFile(path)
  try {
    return file.metadata('general.architecture') === 'clip' ? towerSizes(path, file) : undefined
  } finally {
    file.close()
  }
}

async function towerOf(path: string, given: string | undefined): Promise<TowerSizes | undefined> {
  const found = given ?? (await findTower(path, statSync(path).isDirectory()))
  if (found === undefined) return undefined
  return found === path ? folderTowerSizes(path) : towerAlone(found)
}

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
  if (found.vision) line('vision', towerText(found.vision))
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

function printTower(tower: TowerSizes, io: Io): void {
  const paint = painter(io.out)
  io.out.write(`${paint('bold', tower.name ?? tower.path)}\n`)
  io.out.write(`${paint('dim', 'vision'.padEnd(14))}${towerText(tower)}\n`)
}

function towerText({ bytes: size, heads, imageSize, layers, patchSize, patches, projector, rows, width }: TowerSizes) {
  const pixels = `${imageSize} × ${imageSize} pixels in ${number(patches)} patches of ${patchSize}`
  const given = `${number(rows)} rows a crop${projector ? ` by ${projector}` : ''}`
  return `${pixels}, ${layers} layers, width ${number(width)}, ${heads} heads; ${given}${size > 0 ? `; ${bytes(size)}` : ''}`
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
