// Saved sessions: a magic word, the length of a JSON header, the header, the native part, and a SHA-256 over all of it.
import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Conversation } from './conversation.js'
import { TokensieveError, typeError } from './errors.js'
import { type PackedMethod, packMethod } from './methods/index.js'
import type { ModelParts } from './model.js'
import type { DType } from './native.js'
import type { PlanEntry } from './plan.js'
import type { Memory, Settings } from './session.js'

const MAGIC = Buffer.from('tokensieve-session-1\n')
const HASH_BYTES = 32

interface Header {
  readonly fingerprint: string
  readonly contextLength: number
  readonly kv: { keys: DType; values: DType }
  readonly trace: boolean
  readonly methods: readonly PackedMethod[]
  readonly ids: readonly number[]
  readonly waiting: boolean
  readonly calls: number
  readonly plan: PlanEntry[]
  readonly conversation: ReturnType<Conversation['toJSON']>
}

export interface Saved {
  readonly options: { contextLength: number; kv: { keys: DType; values: DType }; trace: boolean }
  readonly methods: readonly PackedMethod[]
  readonly memory: Memory
  readonly bytes: Uint8Array
}

export async function writeSaved(
  target: string | Writable,
  { native }: ModelParts,
  { contextLength, kv, methods, shape, trace }: Settings,
  { calls, conversation, ids, plan, waiting }: Memory,
  bytes: Uint8Array,
): Promise<void> {
  const header: Header = {
    fingerprint: native.fingerprint,
    contextLength,
    kv,
    trace,
    methods: methods.map((method) => packMethod(method, shape)),
    ids,
    waiting,
    calls,
    plan,
    conversation: conversation.toJSON(),
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(json.length)
  const parts = [MAGIC, length, json, bytes]
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  await write(target, [...parts, hash.digest()])
}

async function write(target: string | Writable, parts: readonly Uint8Array[]): Promise<void> {
  if (typeof target !== 'string') {
    if (typeof target?.write !== 'function') throw typeError('a path or a Writable', 'target', target)
    return pipeline(Readable.from(parts, { objectMode: false }), target, { end: false })
  }
  const beside = `${target}.${randomBytes(6).toString('hex')}`
  try {
    const file = await open(beside, 'wx')
    try {
      for (const part of parts) await file.writeFile(part)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, target)
  } catch (error) {
    await rm(beside, { force: true })
    throw error
  }
}

export async function readSaved(source: string | Readable, { native }: ModelParts): Promise<Saved> {
  const whole = await bytesOf(source)
  const body = whole.subarray(0, Math.max(0, whole.length - HASH_BYTES))
  if (!body.subarray(0, MAGIC.length).equals(MAGIC)) throw damaged('a saved session of this version')
  const digest = createHash('sha256').update(body).digest()
  if (!digest.equals(whole.subarray(body.length))) throw damaged('the hash that it was saved with')
  const start = MAGIC.length + 4
  const end = start + body.readUInt32LE(MAGIC.length)
  const header = JSON.parse(body.toString('utf8', start, end)) as Header
  if (header.fingerprint !== native.fingerprint)
    throw new TokensieveError(
      'ERR_FILE_FORMAT',
      '[session] expected a session of the model that is loaded, but it was saved from another one',
    )
  const { calls, contextLength, conversation, ids, kv, methods, plan, trace, waiting } = header
  const memory = { ids: [...ids], waiting, calls, plan, conversation: Conversation.from(conversation) }
  return { options: { contextLength, kv, trace }, methods, memory, bytes: body.subarray(end) }
}

async function bytesOf(source: string | Readable): Promise<Buffer> {
  if (typeof source === 'string') {
    return readFile(source).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause
      throw new TokensieveError('ERR_FILE_NOT_FOUND', `[session] expected a saved session at ${source}, there is none`)
    })
  }
  if (!(source instanceof Readable)) throw typeError('a path or a Readable', 'source', source)
  const chunks: Buffer[] = []
  for await (const chunk of source) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

function damaged(what: string): TokensieveError {
  return new TokensieveError(
    'ERR_FILE_FORMAT',
    `[session] expected ${what}, but the bytes are others: damaged or no saved session`,
  )
}
