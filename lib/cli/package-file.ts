// Files of the package that the running program belongs to.
import { readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Text of a file by its path in the package: the program is dist/cli/main.js. */
export function readPackageFile(path: string): string {
  return readFileSync(join(dirname(realpathSync(process.argv[1] ?? '.')), '..', '..', path), 'utf8')
}
