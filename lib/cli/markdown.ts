// The parts of the documentation that are made, not written: the method table, the methods page, the error table.
import { ERROR_CODES } from '../errors.js'
import type { MethodInfo } from '../methods/index.js'
import { markdownTable } from './format.js'
import { ACTS, defaultOf, paperOf } from './methods.js'

const titles = (...all: string[]) => all.map((title) => ({ title }))

function link(info: MethodInfo): string {
  const { address, said } = paperOf(info)
  return address ? `[${said}](${address})` : said
}

export function methodTable(list: readonly MethodInfo[]): string {
  const rows = list.map((info) => [
    `[\`${info.name}\`](docs/methods.md#${info.name.toLowerCase()})`,
    info.acts,
    info.title,
    link(info),
  ])
  return markdownTable(titles('method', 'acts on', 'what it does', 'paper'), rows)
}

export function methodPages(list: readonly MethodInfo[]): string {
  return list.map(methodPage).join('\n\n')
}

function methodPage(info: MethodInfo): string {
  const rows = Object.entries(info.options).map(([name, option]) => [
    `\`${name}\``,
    `\`${defaultOf(option.default)}\``,
    option.about,
  ])
  const paper = info.paper === '' ? '' : ` ${link(info)}.`
  const [first = '', ...rest] = info.title
  const does = `${first.toUpperCase()}${rest.join('')}.${paper}`
  return `## ${info.name}\n\n${does} Acts ${ACTS[info.acts]}.\n\n${markdownTable(titles('option', 'default', 'meaning'), rows)}`
}

export function errorTable(): string {
  return markdownTable(
    titles('code', 'meaning'),
    Object.entries(ERROR_CODES).map(([code, meaning]) => [`\`${code}\``, meaning]),
  )
}

/** `text` with the lines between `<!-- name -->` and `<!-- /name -->` replaced. */
export function fill(text: string, name: string, content: string): string {
  const begin = `<!-- ${name} -->`
  const end = `<!-- /${name} -->`
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  if (from < 0 || to < from) throw new Error(`expected ${begin} and ${end} in the text`)
  return `${text.slice(0, from + begin.length)}\n\n${content}\n\n${text.slice(to)}`
}
