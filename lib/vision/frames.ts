// A folder of pictures as the frames of a film.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { TokensieveError } from '../errors.js'
import { MOST_FRAMES } from './image.js'

/** Paths of what lies in a folder, by name with numbers as numbers ("9.png" before "10.png"), hidden files and folders left out; undefined where it is no folder. */
export async function framesIn(path: string): Promise<string[] | undefined> {
  const found = await stat(path).catch(() => undefined) // whoever opens it says what is wrong
  if (!found?.isDirectory()) return undefined
  const { compare } = new Intl.Collator('en', { numeric: true })
  const names = (await readdir(path, { withFileTypes: true }))
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => name)
    .sort((a, b) => compare(a, b) || (a < b ? -1 : 1))
  if (names.length === 0)
    throw new TokensieveError(
      'ERR_FILE_NOT_FOUND',
      `[video] expected pictures in the folder ${path}, but there are none`,
    )
  checkFrames(names.length, path)
  return names.map((name) => join(path, name))
}

/** ERR_UNSUPPORTED where a film is too long. */
export function checkFrames(count: number, name: string): void {
  if (count <= MOST_FRAMES) return
  throw new TokensieveError(
    'ERR_UNSUPPORTED',
    `[${name}] expected at most ${MOST_FRAMES} frames, but there are ${count}`,
  )
}
