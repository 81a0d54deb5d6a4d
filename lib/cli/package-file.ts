// Files of the package that the running program belongs to.
import { readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Where a file of the package lies: the program is dist/cli/main.js. */
export function packagePath(path: string): string {
  return join(dirname(realpathSync(process.argv[1] ?? '.')), '..', '..', path)
}

export function readPackageFile(path: string): string {
  return readFileSync(packagePath(path), 'utf8')
}
