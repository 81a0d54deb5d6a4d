// Where the vision tower of a model lies when nobody says it.
import { access } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { readJson } from './processor.js'

/** In the model's own folder, whose config.json then names it; or beside its file, under its name. */
export async function findTower(path: string, folder: boolean): Promise<string | undefined> {
  if (folder) {
    const config = await readJson(join(path, 'config.json')).catch(() => undefined) // told by whoever needs it
    return config?.vision_config === undefined ? undefined : path
  }
  const name = basename(path)
  const beside = [`mmproj-${name}`, `${name.replace(/\.gguf$/i, '')}.mmproj.gguf`].map((one) =>
    join(dirname(path), one),
  )
  for (const one of beside) if (one !== path && (await isThere(one))) return one
  return undefined
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
