// Pieces of a page: text that is escaped, elements, tables, and the frame around them. Nothing is loaded from anywhere.
import type { Column } from '../cli/format.js'
import { STYLE } from './style.js'

/** Markup that is safe to insert. */
export class Html {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export type Child = Html | string | number | readonly Child[]
export type Attributes = Readonly<Record<string, string | number | undefined>>

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => ENTITIES[letter] as string)
}

function inner(child: Child): string {
  if (child instanceof Html) return child.text
  if (Array.isArray(child)) return child.map(inner).join('')
  return escaped(String(child))
}

/** `<name attributes>children</name>`; children are escaped unless they are markup. */
export function el(name: string, attributes: Attributes = {}, ...children: Child[]): Html {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escaped(String(value))}"`)
  return new Html(`<${name}${written.join('')}>${inner(children)}</${name}>`)
}

/** A number with at most one digit behind the point, as coordinates are. */
export function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}

/** A table with a caption; the first `heads` cells of a row name it. */
export function table(
  caption: string,
  columns: readonly Column[],
  cells: readonly (readonly string[])[],
  heads = 1,
): Html {
  const side = (i: number) => (columns[i]?.right ? { class: 'number' } : {})
  const top = columns.map(({ title }, i) => el('th', { scope: 'col', ...side(i) }, title))
  const rows = cells.map((row) =>
    el(
      'tr',
      {},
      row.map((cell, i) => (i < heads ? el('th', { scope: 'row', ...side(i) }, cell) : el('td', side(i), cell))),
    ),
  )
  const made = el('table', {}, el('caption', {}, caption), el('thead', {}, el('tr', {}, top)), el('tbody', {}, rows))
  // A wide table scrolls by itself, also with the keyboard.
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption }, made)
}

/** What opens on demand. */
export function details(summary: string, ...children: Child[]): Html {
  return el('details', {}, el('summary', {}, summary), ...children)
}

export function page(title: string, ...children: Child[]): string {
  const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
  const head = [
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="color-scheme" content="light dark">',
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}</style>`,
  ]
  return `<!doctype html>\n<html lang="en">\n<head>\n${head.join('\n')}\n</head>\n<body>\n${el('main', {}, ...children).text}\n</body>\n</html>\n`
}
