// Wheels by the ordinary pip: it knows the user's index, proxy and certificates, and checks what the index says of the file.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { TokensieveError } from '../errors.js'

const POLL = 150 // milliseconds between two looks at the growing file

/** Downloads the wheel of `requirement` into the empty folder `into` and returns its path; `seen(bytes)` follows the growing file. */
export async function downloadWheel(
  requirement: string,
  into: string,
  signal: AbortSignal | undefined,
  seen: (bytes: number) => void,
): Promise<string> {
  const options = [
    '--no-deps',
    '--only-binary',
    ':all:',
    '--no-input',
    '--no-color',
    '--progress-bar',
    'off',
    '--quiet',
    '--dest',
    into,
  ]
  const scratch = join(into, 'pip')
  await mkdir(scratch, { recursive: true })
  // pip writes to its temporary folder first: in one of ours the file can be watched.
  const env = {
    ...process.env,
    TMPDIR: scratch,
    TEMP: scratch,
    TMP: scratch,
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    FORCE_COLOR: undefined,
  }
  let most = 0
  const look = async () => {
    const size = Math.max(...(await wheels(into)).map((wheel) => wheel.size))
    if (size <= most) return
    most = size
    seen(size)
  }
  const watch = setInterval(look, POLL)
  try {
    const { code, errors } = await pip(['download', ...options, requirement], env, signal)
    if (code !== 0) throw failed(requirement, errors)
  } finally {
    clearInterval(watch)
  }
  const found = (await wheels(into)).find(({ depth }) => depth === 0)
  if (found === undefined) throw failed(requirement, 'it left no wheel')
  return found.path
}

// Python has one of two names, and pip may be missing from the first.
async function pip(
  args: string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<{ code: number; errors: string }> {
  for (const python of process.platform === 'win32' ? ['python', 'py'] : ['python3', 'python']) {
    const ended = await run(python, ['-m', 'pip', ...args], env, signal).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (ended !== undefined && !ended.errors.includes('No module named pip')) return ended
  }
  throw new TokensieveError(
    'ERR_DOWNLOAD',
    "[pull] expected Python 3 with pip on PATH, but there is none. Debian and Ubuntu: apt-get install python3-pip. macOS: brew install python. Elsewhere: Python's installer.",
  )
}

function run(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<{ code: number; errors: string }> {
  signal?.throwIfAborted()
  return new Promise((resolve, reject) => {
    const child: ChildProcess = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'], windowsHide: true })
    let errors = ''
    const abort = () => child.kill()
    signal?.addEventListener('abort', abort, { once: true })
    child.stderr?.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-4000)
    })
    child.on('error', reject)
    child.on('close', (code) => {
      signal?.removeEventListener('abort', abort)
      if (signal?.aborted) reject(signal.reason)
      else resolve({ code: code ?? -1, errors })
    })
  })
}

async function wheels(folder: string, depth = 0): Promise<{ path: string; size: number; depth: number }[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const found = await Promise.all(
    entries.map(async (entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return wheels(path, depth + 1)
      if (!entry.name.endsWith('.whl')) return []
      const file = await stat(path).catch(() => undefined) // pip may have moved it meanwhile
      return file === undefined ? [] : [{ path, size: file.size, depth }]
    }),
  )
  return found.flat()
}

function failed(requirement: string, errors: string): TokensieveError {
  const lines = errors
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  const reason = lines.filter((line) => line.startsWith('ERROR')).at(-1) ?? lines.at(-1) ?? 'pip said nothing'
  return new TokensieveError('ERR_DOWNLOAD', `[pull] expected pip to download ${requirement}, but it failed: ${reason}`)
}
