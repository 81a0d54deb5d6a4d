// Saved sessions: a magic word, the length of a JSON header, the header, the native part, and a SHA-256 over all of it.
import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Conversation } from './conversation.js'
import { TokensieveError, typeError } from './errors.js'
import type { KvSettings } from './kv-heads.js'
import type { Memory } from './memory.js'
import { type PackedMethod, packMethod } from './methods/index.js'
import type { ModelParts } from './model.js'
import { type PlanEntry, parsePlan } from './plan.js'
import { nativeOptions, type Settings } from './settings.js'
import { packPictures, type SavedPicture, unpackPictures } from './vision/saved.js'

const MAGIC = Buffer.from('tokensieve-session-3\n')
const HASH_BYTES = 32
const SLICE = 1 << 20

/** What the cache was written for; options of a restored session must agree. */
interface Made {
  readonly kv: KvSettings
  /** Keys are stored un-rotated. */
  readonly repack: boolean
  /** Layers that hold no cache. */
  readonly skipped: readonly number[]
  /** What prompts were multiplied in. */
  readonly fine?: 'prompts' | 'all' | undefined
}

interface Header extends Made {
  readonly fingerprint: string
  readonly contextLength: number
  readonly arithmetic?: Settings['arithmetic']
  readonly trace: boolean
  readonly methods: readonly PackedMethod[]
  readonly ids: readonly number[]
  readonly waiting: number
  /** Of ids, as Memory counts them, for this instruction set alone. */
  readonly prompted: number
  readonly isa: string
  readonly calls: number
  readonly plan: PlanEntry[]
  readonly pictures?: readonly SavedPicture[]
  /** Of the tower that the pictures were read with. */
  readonly tower?: string | undefined
  readonly conversation: ReturnType<Conversation['toJSON']>
}

export interface Saved {
  readonly options: Pick<Settings, 'contextLength' | 'kv' | 'trace' | 'arithmetic'>
  readonly made: Made
  readonly methods: readonly PackedMethod[]
  readonly memory: Memory
  readonly bytes: Uint8Array
}

function madeOf(settings: Settings): Made {
  const { fine, repack, skipAttention } = nativeOptions(settings)
  return { kv: settings.kv, repack, skipped: [...skipAttention], ...(fine && { fine }) }
}

/** ERR_UNSUPPORTED where options override what the saved cache is made of. */
export function checkOverrides({ made, memory }: Saved, settings: Settings): void {
  const now = madeOf(settings)
  const say = (what: string, was: unknown, is: unknown) => {
    if (JSON.stringify(was) === JSON.stringify(is)) return
    const said = `[session] expected ${what} as the session was saved, ${JSON.stringify(was)}, but received ${JSON.stringify(is)}`
    throw new TokensieveError('ERR_UNSUPPORTED', said)
  }
  say('`kv`', made.kv, now.kv)
  say('methods that renumber rows', made.repack, now.repack)
  say('methods that skip the attention of layers', made.skipped, now.skipped)
  // Its rows are as good as others; but they are not those that this session would have computed, for others to take.
  if (made.fine !== now.fine) memory.prompted = 0
}

export async function writeSaved(
  target: string | Writable,
  { native, vision }: ModelParts,
  settings: Settings,
  { calls, conversation, ids, pictures, plan, prompted, waiting }: Memory,
  bytes: Uint8Array,
): Promise<void> {
  const { arithmetic, contextLength, methods, shape, trace } = settings
  const header: Header = {
    ...madeOf(settings),
    fingerprint: native.fingerprint,
    contextLength,
    arithmetic,
    trace,
    methods: methods.map((method) => packMethod(method, shape)),
    ids,
    waiting,
    prompted,
    isa: native.isa,
    calls,
    plan,
    ...(pictures.length > 0 && { pictures: packPictures(pictures), tower: vision?.native.fingerprint }),
    conversation: conversation.toJSON(),
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(json.length)
  const parts = [MAGIC, length, json, bytes]
  await write(target, [...parts, await hashOf(parts)])
}

/** SHA-256, a slice at a time: the event loop is not ours for long. */
async function hashOf(parts: readonly Uint8Array[]): Promise<Buffer> {
  const hash = createHash('sha256')
  for (const part of parts) {
    for (let at = 0; at < part.length; at += SLICE) {
      hash.update(part.subarray(at, at + SLICE))
      if (part.length > SLICE) await new Promise((next) => setImmediate(next))
    }
  }
  return hash.digest()
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
  } catch (cause) {
    await rm(beside, { force: true })
    const said = `[session] expected a file that can be written at ${target}: ${(cause as Error).message}`
    throw new TokensieveError('ERR_FILE_NOT_FOUND', said, { cause })
  }
}

export async function readSaved(source: string | Readable, { config, native, vision }: ModelParts): Promise<Saved> {
  const whole = await bytesOf(source)
  const body = whole.subarray(0, Math.max(0, whole.length - HASH_BYTES))
  if (!body.subarray(0, MAGIC.length).equals(MAGIC)) throw damaged('a saved session of this version')
  if (!(await hashOf([body])).equals(whole.subarray(body.length))) throw damaged('the hash that it was saved with')
  const start = MAGIC.length + 4
  const end = body.length < start ? start : start + body.readUInt32LE(MAGIC.length)
  const header = parseHeader(body.toString('utf8', start, end), config.vocabularySize)
  if (header.fingerprint !== native.fingerprint)
    throw new TokensieveError(
      'ERR_FILE_FORMAT',
      '[session] expected a session of the model that is loaded, but it was saved from another one',
    )
  if (header.pictures && header.tower !== vision?.native.fingerprint)
    throw new TokensieveError(
      'ERR_FILE_FORMAT',
      '[session] expected a session whose pictures were read with the vision tower that is loaded, but it was another one',
    )
  const { arithmetic = 'fast', calls, contextLength, conversation, fine, ids, kv, methods, plan } = header
  const { repack, skipped, trace, waiting } = header
  if (arithmetic !== 'fast' && arithmetic !== 'fine') throw damaged('a header of this version')
  const prompted = header.isa === native.isa ? header.prompted : 0
  const pictures = header.pictures ? guarded(() => unpackPictures(header.pictures, vision)) : []
  const talk = { conversation: Conversation.from(conversation) }
  const memory = { ids: [...ids], pictures, waiting, prompted, calls, plan, ...talk }
  const made = { kv, repack, skipped, fine }
  return { options: { contextLength, kv, trace, arithmetic }, made, methods, memory, bytes: body.subarray(end) }
}

function guarded<T>(read: () => T): T {
  try {
    return read()
  } catch {
    throw damaged('a header of this version')
  }
}

/** What a hash cannot say: that the header is one of ours. */
function parseHeader(json: string, vocabulary: number): Header {
  try {
    const header = JSON.parse(json) as Header
    const { calls, conversation, ids, methods, plan, prompted = 0, waiting } = header
    const whole = (value: number, most: number) => Number.isInteger(value) && value >= 0 && value <= most
    const fits =
      ids.every((id) => Number.isInteger(id) && id >= -(2 ** 31) && id < vocabulary) &&
      whole(waiting, ids.length) &&
      whole(prompted, ids.length - waiting) &&
      whole(calls, Number.MAX_SAFE_INTEGER) &&
      [methods, conversation.messages, conversation.parts].every(Array.isArray) &&
      typeof conversation.text === 'string'
    if (fits) return { ...header, prompted, plan: parsePlan(plan) }
  } catch {
    // told below
  }
  throw damaged('a header of this version')
}

async function bytesOf(source: string | Readable): Promise<Buffer> {
  if (typeof source === 'string') {
    return readFile(source).catch((cause: NodeJS.ErrnoException) => {
      const said = cause.code === 'ENOENT' ? 'there is none' : cause.message
      throw new TokensieveError('ERR_FILE_NOT_FOUND', `[session] expected a saved session at ${source}: ${said}`, {
        cause,
      })
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
