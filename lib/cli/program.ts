// The list of commands, and how each of them ends: 0, 1 for a failure, 2 for a command line that cannot be meant, 130 after Ctrl-C.
import { TokensieveError } from '../errors.js'
import { UsageError } from './arguments.js'
import type { Command, Io } from './io.js'
import { readPackageFile } from './package-file.js'

const COMMANDS: Readonly<Record<string, { readonly about: string; load(): Promise<{ command: Command }> }>> = {
  generate: { about: 'text after a prompt', load: () => import('./generate.js') },
  chat: { about: 'a conversation in the terminal', load: () => import('./chat.js') },
  methods: { about: 'what can be dropped, and how: the table or one page', load: () => import('./methods.js') },
  inspect: { about: 'what a model file holds, and what a context would take', load: () => import('./inspect.js') },
  pull: { about: 'gets a model, checked and resumable, and prints its path', load: () => import('./pull.js') },
  bench: {
    about: 'speed against the limits of this machine, with and without methods; profiles',
    load: () => import('./bench.js'),
  },
  compare: {
    about: 'quality and cost of methods, as a table or a page',
    load: () => import('./compare.js'),
  },
  calibrate: {
    about: 'finds the smallest cache that stays near the full one',
    load: () => import('./calibrate.js'),
  },
  report: { about: 'pictures of a plan or a comparison that was saved', load: () => import('./report.js') },
  doctor: { about: 'what this machine can run, and why not', load: () => import('./doctor.js') },
  demo: { about: 'a question about a long text: the full cache against two methods', load: () => import('./demo.js') },
}

const HELP = `Runs language models in Node and lets named methods thin the tokens, cache rows, heads and layers inside them.

Usage: tokensieve COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { about }]) => `  ${name.padEnd(11)}${about}`)
  .join('\n')}

tokensieve COMMAND --help tells the options. Results go to stdout, everything else to stderr.
Exit code: 0, 1 failure, 2 usage, 130 interrupted.
Environment: TOKENSIEVE_MODELS, TOKENSIEVE_THREADS, TOKENSIEVE_ISA, TOKENSIEVE_DEVICE, NO_COLOR.
`

export async function run(args: readonly string[], io: Io): Promise<number> {
  const [name, ...rest] = args
  if (name === '--version' || name === '-v')
    return said(io, `${(JSON.parse(readPackageFile('package.json')) as { version: string }).version}\n`)
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    if (name !== undefined) return said(io, HELP)
    io.err.write(HELP)
    return 2
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (!entry)
    return failed(
      io,
      '',
      new UsageError(`Expected a command (${Object.keys(COMMANDS).join(', ')}) but received ${JSON.stringify(name)}`),
    )
  try {
    const { command } = await entry.load()
    const options = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest
    if (options.includes('--help') || options.includes('-h')) return said(io, `${command.help.trim()}\n`)
    return (await command.run(rest, io)) ?? 0
  } catch (error) {
    return io.interrupts.signal.aborted ? 130 : failed(io, name, error)
  }
}

function said(io: Io, text: string): number {
  io.out.write(text)
  return 0
}

/** Misuse that only the library can see (an option's range, a layer that the model has not) is a usage error too. */
function failed(io: Io, command: string, error: unknown): number {
  const message = error instanceof Error ? error.message : String(error)
  const misuse = (error instanceof TypeError || error instanceof RangeError) && message.startsWith('Expected ')
  const usage = error instanceof UsageError || misuse
  const program = command === '' ? 'tokensieve' : `tokensieve ${command}`
  const known = usage || error instanceof TokensieveError || typeof (error as NodeJS.ErrnoException)?.code === 'string'
  const code = error instanceof TokensieveError ? ` (${error.code})` : ''
  io.err.write(`${program}: ${known || !(error instanceof Error) ? message : (error.stack ?? message)}${code}\n`)
  if (usage) io.err.write(`Try "${program} --help".\n`)
  return usage ? 2 : 1
}
