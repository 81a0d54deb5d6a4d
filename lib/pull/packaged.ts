// Models that come with the package: names for files of it, nothing to download.
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../native.js'

const PACKAGED: Readonly<Record<string, { readonly title: string; readonly file: string }>> = {
  vlm: { title: 'the embedded vision-language model, questions about drawn scenes', file: 'tokensieve-vlm.gguf' },
  'vlm-judge': { title: 'the same, never told where to look', file: 'tokensieve-vlm-judge.gguf' },
}

/** The path that a name stands for; undefined where it is no such name. The file may be missing from a build without models. */
export function packagedPath(name: string): string | undefined {
  const model = Object.hasOwn(PACKAGED, name) ? PACKAGED[name] : undefined
  return model && join(packageRoot(), 'models', 'vlm', model.file)
}

/** Those that are there. */
export function packagedModels(): { name: string; title: string; bytes: number; path: string }[] {
  return Object.entries(PACKAGED).flatMap(([name, { title }]) => {
    const path = packagedPath(name) as string
    return existsSync(path) ? [{ name, title, bytes: statSync(path).size, path }] : []
  })
}
