// Whole files or none: what is sound, what was checked before, and who may write now.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, rename, rm, rmdir, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Expected {
  readonly bytes: number
  readonly sha256: string
}

/** Written beside a file when its hash was checked, so that the next start need not read the file again. */
interface CheckRecord extends Expected {
  readonly modified: number
}

const recordOf = (path: string): string => `${path}.checked.json`

/** Whether `path` is there and right. Without `expected`: whether it is what it was when it came. Reads the whole file only where no record helps. */
export async function isSound(path: string, expected: Expected | undefined, signal?: AbortSignal): Promise<boolean> {
  const file = await stat(path).catch(() => undefined)
  if (!file?.isFile() || (expected !== undefined && file.size !== expected.bytes)) return false
  const record = await readRecord(path)
  const right = expected ?? record
  if (right === undefined || right.bytes !== file.size) return false
  if (record?.sha256 === right.sha256 && record.bytes === file.size && record.modified === Math.trunc(file.mtimeMs))
    return true
  if ((await sha256(path, signal)) !== right.sha256) return false
  await writeRecord(path, right)
  return true
}

async function readRecord(path: string): Promise<CheckRecord | undefined> {
  try {
    return JSON.parse(await readFile(recordOf(path), 'utf8')) as CheckRecord
  } catch {
    return undefined // none yet, or damaged: the file itself is asked
  }
}

async function writeRecord(path: string, { bytes, sha256 }: Expected): Promise<void> {
  const { mtimeMs } = await stat(path)
  await writeFile(recordOf(path), `${JSON.stringify({ bytes, sha256, modified: Math.trunc(mtimeMs) })}\n`)
}

export async function sha256(path: string, signal?: AbortSignal, hash = createHash('sha256')): Promise<string> {
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Puts a finished and checked file where it belongs, in one step that a crash cannot halve. */
export async function publish(temporary: string, path: string, checked: Expected): Promise<void> {
  await sync(temporary)
  await mkdir(dirname(path), { recursive: true })
  await rename(temporary, path)
  await writeRecord(path, checked)
}

export async function sync(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

const tails = new Map<string, Promise<void>>()

/** Runs `work` alone for `folder`: after whoever in this process or another is at it. The folder is made where it is not there. */
export async function alone<T>(folder: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const before = tails.get(folder) ?? Promise.resolve()
  const mine = before.then(() => locked(folder, signal, work))
  const ended = () => {}
  tails.set(folder, mine.then(ended, ended))
  await unlessAborted(before, signal)
  return mine
}

const STALE = 20_000 // a lock that nobody touched for so many milliseconds belongs to a process that died

async function locked<T>(folder: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const path = join(folder, 'lock')
  for (;;) {
    signal?.throwIfAborted()
    await mkdir(folder, { recursive: true })
    if (await create(path)) break
    const age = await stat(path).then(
      (file) => Date.now() - file.mtimeMs,
      () => 0,
    )
    if (age > STALE) await rm(path, { force: true })
    else await sleep(200, undefined, { signal })
  }
  const beat = setInterval(() => utimes(path, new Date(), new Date()).catch(() => {}), STALE / 5)
  try {
    return await work()
  } finally {
    clearInterval(beat)
    await rm(path, { force: true })
    await rmdir(folder).catch(() => {}) // where nothing is left to go on with
  }
}

async function create(path: string): Promise<boolean> {
  try {
    await writeFile(path, `${process.pid}\n`, { flag: 'wx' })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' || code === 'ENOENT') return false // ENOENT: whoever had it removed the folder too
    throw error
  }
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
