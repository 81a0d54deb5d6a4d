// What the built addon shows to the outside: two symbols, no library that a machine with Node may lack.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

const addon = join(fileURLToPath(new URL('../..', import.meta.url)), 'build/Release/addon.node')
const skip = process.platform === 'linux' ? false : 'needs nm and ldd of Linux'

function lines(command: string, args: string[]): string[] {
  const { stdout, status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command}: ${stderr}`)
  return stdout.trim().split('\n')
}

test('exactly two symbols are exported', { skip }, async (t) => {
  const symbols = lines('nm', ['-D', '--defined-only', addon]).map((line) => line.split(' ').at(-1))
  t.same(symbols.sort(), ['napi_register_module_v1', 'node_api_module_get_api_version_v1'])
})

test('only the system libraries that Node itself needs', { skip }, async (t) => {
  const needed = lines('objdump', ['-p', addon]).filter((line) => line.includes('NEEDED'))
  for (const line of needed) t.match(line, /lib(c|m|stdc\+\+|gcc_s|pthread|dl)\.so|ld-linux/, line.trim())
})
