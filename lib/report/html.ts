// Pieces of a page: text that is escaped, elements, tables, and the frame around them. Nothing is loaded from anywhere.
import { createHash } from 'node:crypto'
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

/** Elements without an end. */
const VOID = new Set(['img', 'input'])

/** `<name attributes>children</name>`; children are escaped unless they are markup. */
export function el(name: string, attributes: Attributes = {}, ...children: Child[]): Html {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escaped(String(value))}"`)
  const start = `<${name}${written.join('')}>`
  return new Html(VOID.has(name) ? start : `${start}${inner(children)}</${name}>`)
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

export interface Frame {
  readonly title: string
  /** Beside what all pages have. */
  readonly style?: string
  /** Runs when the page is there, and may read `data` of the element with that id. Nothing else runs. */
  readonly script?: string
  readonly data?: unknown
}

export function page(frame: string | Frame, ...children: Child[]): string {
  const { data, script, style = '', title } = typeof frame === 'string' ? ({ title: frame } as Frame) : frame
  const run =
    script === undefined ? '' : `; script-src 'sha256-${createHash('sha256').update(script).digest('base64')}'`
  const policy = `default-src 'none'; style-src 'unsafe-inline'; img-src data:${run}`
  const head = [
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="color-scheme" content="light dark">',
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}${style}</style>`,
  ]
  // In a script element only the end of the element would be markup.
  const plain = JSON.stringify(data ?? null).replaceAll('<', '\\u003c')
  const tail =
    script === undefined
      ? ''
      : `<script type="application/json" id="data">${plain}</script>\n<script>${script}</script>\n`
  return `<!doctype html>\n<html lang="en">\n<head>\n${head.join('\n')}\n</head>\n<body>\n${el('main', {}, ...children).text}\n${tail}</body>\n</html>\n`
}
