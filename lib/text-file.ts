// Text files that a command reads and writes; what is written is there whole or not at all.
import { randomBytes } from 'node:crypto'
import { access, constants, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { TokensieveError } from './errors.js'

export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const said = `[file] expected a text that can be read: ${(cause as Error).message}`
    throw new TokensieveError('ERR_FILE_NOT_FOUND', said, { cause })
  }
}

/** Fails where `writeWhole` would, before hours of work. */
export async function checkTarget(path: string | undefined): Promise<void> {
  if (path !== undefined) await access(dirname(path), constants.W_OK)
}

export async function writeWhole(path: string, text: string): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    await writeFile(beside, text)
    await rename(beside, path)
  } catch (error) {
    await rm(beside, { force: true })
    throw error
  }
}
