// tokensieve methods: the table, or one method's page.
import { type MethodInfo, methods } from '../methods/index.js'
import { flagOf, parse, UsageError } from './arguments.js'
import { plainTable, wrap } from './format.js'
import { type Command, type Io, painter, widthOf } from './io.js'

/** What a method acts on, and when. */
export const ACTS: Readonly<Record<MethodInfo['acts'], string>> = {
  prompt: 'on the text of a prompt, before it is read',
  vision: 'on the patches of an image, before the language model reads them',
  layers: 'in the layers; where it drops tokens, then those of a prompt that are marked droppable',
  cache: 'on the rows of the cache, when a prompt has been read, and where it says so while text is generated',
  attention: 'on what a layer attends to',
  draft: 'on tokens that are guessed ahead and then checked',
  probe: 'nowhere: it looks and reports',
}

/** Where a paper came out, and its address where that is arXiv. */
export function paperOf({ paper }: MethodInfo): { said: string; address?: string } {
  return /^\d{4}\.\d+$/.test(paper)
    ? { said: `arXiv ${paper}`, address: `https://arxiv.org/abs/${paper}` }
    : { said: paper }
}

export function defaultOf(value: unknown): string {
  if (value === null) return 'from the model'
  if (Array.isArray(value)) return value.join(', ')
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

export const command: Command = {
  help: `
The methods: a table, or one method's page.

Usage: tokensieve methods [NAME] [--json]`,

  async run(args, io) {
    const parsed = parse(args, { json: { type: 'boolean' } }, ['[NAME]'])
    const [name] = parsed.positionals
    const list = methods.list()
    const one = list.find((info) => info.name === name)
    if (name !== undefined && !one)
      throw new UsageError(
        `Expected one of ${list.map((info) => info.name).join(', ')} but received ${JSON.stringify(name)}`,
      )
    if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(one ?? list)}\n`)
    else if (one) printPage(one, io)
    else printTable(list, io)
    return 0
  },
}

function printTable(list: readonly MethodInfo[], io: Io): void {
  const columns = ['method', 'acts on', 'paper', ''].map((title) => ({ title }))
  const head = plainTable(
    columns,
    list.map((info) => [info.name, info.acts, info.paper]),
  )
  const start = Math.max(...head.map((line) => line.length)) + 2
  const paint = painter(io.out)
  const indent = ' '.repeat(start)
  const [titles = '', ...lines] = head
  io.out.write(`${paint('dim', titles)}\n`)
  for (const [i, { title }] of list.entries())
    io.out.write(`${(lines[i] ?? '').padEnd(start)}${wrap(title, widthOf(io.out), indent).trimStart()}\n`)
  io.out.write('\n"tokensieve methods NAME" tells the options of one.\n')
}

function printPage(info: MethodInfo, io: Io): void {
  const width = widthOf(io.out)
  const paint = painter(io.out)
  const section = (title: string, text: string) =>
    `${paint('dim', title.padEnd(10))}${wrap(text, width, ' '.repeat(10)).trimStart()}\n`
  io.out.write(`${paint('bold', info.name)}\n${wrap(info.title, width)}\n\n`)
  io.out.write(section('acts', ACTS[info.acts]))
  const { address, said } = paperOf(info)
  if (said !== '') io.out.write(section('paper', address ?? said))
  io.out.write(section('shell', `--method ${info.name}${exampleOf(info)}`))
  const rows = Object.entries(info.options).map(([name, option]) => [name, defaultOf(option.default)])
  const [titles = '', ...lines] = plainTable([{ title: 'option' }, { title: 'default' }], rows)
  const start = Math.max(titles.length, ...lines.map((line) => line.length)) + 2
  io.out.write(`\n${paint('dim', titles)}\n`)
  for (const [i, { about }] of Object.values(info.options).entries())
    io.out.write(`${(lines[i] ?? '').padEnd(start)}${wrap(about, width, ' '.repeat(start)).trimStart()}\n`)
}

function exampleOf({ options }: MethodInfo): string {
  if ('keep' in options) return ':keep=0.25'
  return 'ratios' in options ? ':ratios=0.5/0.25/0.125' : ''
}
