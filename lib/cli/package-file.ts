// Files of the package that the running program belongs to.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../native.js'

export function packagePath(path: string): string {
  return join(packageRoot(), path)
}

export function readPackageFile(path: string): string {
  return readFileSync(packagePath(path), 'utf8')
}
