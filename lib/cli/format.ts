// Numbers and tables as people read them.
import { stripVTControlCharacters } from 'node:util'

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const

export function bytes(count: number): string {
  const power = count < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10))
  const value = count / 1024 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[power]}`
}

/** Three digits that matter: 1,234 · 98.7 · 9.87 · 0.0123. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString('en-US')
  const digits = Math.abs(value) >= 10 ? 1 : 2
  return Math.abs(value) >= 1 || value === 0 ? value.toFixed(digits) : String(Number(value.toPrecision(3)))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}

export interface Column {
  readonly title: string
  readonly right?: boolean
}

const lengthOf = (text: string): number => stripVTControlCharacters(text).length

function padded(text: string, width: number, right: boolean | undefined): string {
  const blank = ' '.repeat(Math.max(0, width - lengthOf(text)))
  return right ? blank + text : text + blank
}

function widths(columns: readonly Column[], rows: readonly (readonly string[])[]): number[] {
  return columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => lengthOf(row[i] ?? ''))))
}

/** Lines of a table without borders, a line of titles first. */
export function plainTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const wide = widths(columns, rows)
  const line = (cells: readonly string[]) =>
    columns
      .map(({ right }, i) => padded(cells[i] ?? '', wide[i] ?? 0, right))
      .join('  ')
      .trimEnd()
  return [columns.map(({ title }) => title), ...rows].map(line)
}

/** A Markdown table whose columns stand under one another in plain text too. */
export function markdownTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const wide = widths(columns, rows).map((width) => Math.max(3, width))
  const line = (cells: readonly string[]) =>
    `| ${columns.map(({ right }, i) => padded(cells[i] ?? '', wide[i] ?? 0, right)).join(' | ')} |`
  const rule = `| ${columns.map(({ right }, i) => (right ? `${'-'.repeat((wide[i] ?? 3) - 1)}:` : '-'.repeat(wide[i] ?? 3))).join(' | ')} |`
  return [line(columns.map(({ title }) => title)), rule, ...rows.map(line)].join('\n')
}

/** Text in lines of at most `width` columns, each after `indent`. */
export function wrap(text: string, width: number, indent = ''): string {
  const wrapped = new Wrapper(width, indent)
  return wrapped.push(text) + wrapped.end()
}

/** The same for text that comes in pieces. A word goes out when its end is known. */
export class Wrapper {
  readonly #width: number
  readonly #indent: string
  #column = 0
  #word = ''
  #gap = ''

  constructor(width: number, indent = '') {
    this.#width = width
    this.#indent = indent
  }

  push(text: string): string {
    let out = ''
    for (const letter of text) {
      if (letter === '\n') {
        out += `${this.#place()}\n`
        this.#column = 0
        this.#gap = ''
      } else if (letter === ' ') {
        out += this.#place()
        this.#gap += ' '
      } else this.#word += letter
    }
    return out
  }

  end(): string {
    return this.#place()
  }

  #place(): string {
    if (this.#word === '') return ''
    const length = [...this.#word].length
    const fresh = this.#column === 0
    const full = !fresh && this.#column + this.#gap.length + length > this.#width
    const lead = full ? this.#indent : fresh ? this.#indent + this.#gap : this.#gap
    this.#column = (full || fresh ? 0 : this.#column) + lead.length + length
    const out = (full ? '\n' : '') + lead + this.#word
    this.#word = ''
    this.#gap = ''
    return out
  }
}
