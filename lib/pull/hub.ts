// One file of a model repository on the Hugging Face hub: resumed where it stopped, checked against the hash that the hub keeps of it.
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { TokensieveError } from '../errors.js'
import { type Expected, sha256 } from './files.js'

export interface HubFile {
  readonly repo: string
  readonly path: string
}

/** 'hf:owner/repo/folder/file' or undefined. */
export function parseHubName(name: string): HubFile | undefined {
  const [, repo, path] = /^hf:([\w.-]+\/[\w.-]+)\/(.+)$/.exec(name) ?? []
  const plain = path?.split('/').every((part) => /^[^\\:]+$/.test(part) && part !== '.' && part !== '..')
  return plain && !repo.split('/').some((part) => /^\.+$/.test(part)) ? { repo, path } : undefined
}

const ATTEMPTS = 3

/** Downloads into `folder` and returns the checked file there; `seen(done, total)` follows. */
export async function downloadFromHub(
  { repo, path }: HubFile,
  folder: string,
  signal: AbortSignal | undefined,
  seen: (done: number, total: number) => void,
): Promise<{ file: string; checked: Expected }> {
  const hub = await import('@huggingface/hub')
  const { HF_ENDPOINT: hubUrl, HF_TOKEN: accessToken } = process.env
  const request = { repo, hubUrl, accessToken, fetch: abortable(signal) }
  const [info] = await hub.pathsInfo({ ...request, paths: [path] })
  if (info?.type !== 'file')
    throw new TokensieveError('ERR_DOWNLOAD', `[pull] expected a file ${path} in ${repo}, but the hub has none`)
  const hash = info.lfs?.oid ?? info.oid
  const size = info.lfs?.size ?? info.size
  const file = join(folder, `${hash}.part`)
  await removeOthers(folder, file)
  for (let attempt = 1; ; attempt++) {
    const have = await stat(file).then(
      ({ size }) => size,
      () => 0,
    )
    if (have >= size) break
    try {
      const blob = await hub.downloadFile({ ...request, path })
      if (blob === null || blob.size !== size)
        throw new TokensieveError(
          'ERR_DOWNLOAD',
          `[pull] expected ${size} bytes of ${path}, but the hub offers ${blob?.size ?? 'none'}`,
        )
      await append(blob, have, file, signal, (done) => seen(done, size))
    } catch (error) {
      if (signal?.aborted || attempt >= ATTEMPTS) throw error
    }
  }
  const checked = { bytes: size, sha256: await sha256(file, signal) }
  const came = info.lfs === undefined ? await blobHash(file, size, signal) : checked.sha256
  if (came === hash && (await stat(file)).size === size) return { file, checked }
  await rm(file, { force: true })
  throw new TokensieveError(
    'ERR_HASH',
    `[pull] expected ${path} with the hash ${hash}, but what came has ${came}; it was removed`,
  )
}

async function append(
  blob: Blob,
  from: number,
  file: string,
  signal: AbortSignal | undefined,
  seen: (done: number) => void,
): Promise<void> {
  let done = from
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length
      seen(done)
      next(null, chunk)
    },
  })
  const source = Readable.fromWeb((from > 0 ? blob.slice(from, blob.size) : blob).stream() as ReadableStream)
  await pipeline(source, meter, createWriteStream(file, { flags: 'a' }), { signal })
}

// Small files carry git's own hash: SHA-1 over a header and the content.
async function blobHash(file: string, size: number, signal: AbortSignal | undefined): Promise<string> {
  return sha256(file, signal, createHash('sha1').update(`blob ${size}\0`))
}

// What is left of an older version of the file.
async function removeOthers(folder: string, file: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name.endsWith('.part') && join(folder, name) !== file) await rm(join(folder, name), { force: true })
}

function abortable(signal: AbortSignal | undefined): typeof fetch {
  return (input, init) => fetch(input, { ...init, signal: signal ?? init?.signal })
}
