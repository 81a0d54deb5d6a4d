// The rows of a comparison as cells: one table for the terminal, Markdown and the page.
import { bytes, type Column, number } from '../cli/format.js'
import type { Estimate, Row } from '../lab/index.js'

const right = (title: string): Column => ({ title, right: true })

/** What is told of each row. `kv` shows only where caches differ in it. */
export function tableOf(rows: readonly Row[]): { columns: Column[]; cells: string[][] } {
  const kvs = new Set(rows.map(({ kv }) => kv)).size > 1
  const columns = [
    { title: 'task' },
    { title: 'question' },
    { title: 'method' },
    ...(kvs ? [{ title: 'kv' }] : []),
    ...['keep', 'cache', 'of full', 'log p', 'over random', 'KL', 'top-1', 'exact', 'counted'].map(right),
  ]
  return { columns, cells: rows.map((row) => cellsOf(row, kvs)) }
}

function cellsOf(row: Row, kvs: boolean): string[] {
  const { overRandom } = row
  return [
    row.task,
    row.query,
    row.method,
    ...(kvs ? [row.kv] : []),
    keepText(row.keep),
    bytes(row.bytes),
    percent(row.share),
    withInterval(row.logprob),
    overRandom ? withInterval(overRandom, true) : '',
    row.method === 'full' && row.kl.mean === 0 ? '0' : withInterval(row.kl),
    percent(row.top1.mean),
    percent(row.exact.mean),
    `${row.counted} of ${row.cases}`,
  ]
}

export function keepText(keep: number | null): string {
  return keep === null ? 'own' : String(Number(keep.toPrecision(3)))
}

export function percent(share: number): string {
  return Number.isFinite(share) ? `${number(Math.round(1000 * share) / 10)} %` : '–'
}

function withInterval({ high, low, mean }: Estimate, signed = false): string {
  if (!Number.isFinite(mean)) return '–'
  const plain = (value: number) => `${signed && value > 0 ? '+' : ''}${short(value)}`
  return low === high ? plain(mean) : `${plain(mean)} [${plain(low)}, ${plain(high)}]`
}

/** Two digits behind the point, three below a tenth. */
export function short(value: number): string {
  const text = value.toFixed(Math.abs(value) < 0.1 ? 3 : 2)
  return text.replace('-', '−').replace(/^−(0\.0+)$/, '$1')
}

/** What the columns mean. */
export const LEGEND: readonly (readonly [word: string, meaning: string])[] = [
  ['question', 'after: methods chose rows before they saw it; before: when they had seen it'],
  ['cache', 'keys and values in memory once the context was compressed, from the allocator'],
  ['log p', 'natural logarithm of the probability of an answer token, with the interval of 95 % of bootstrap means'],
  [
    'over random',
    'log p less that of rows kept by chance at the same budget, case by case; above 0 is better than chance',
  ],
  ['KL', "divergence from the full cache's next-token distributions, nats a token"],
  ['top-1', 'answer tokens where both caches have the same likeliest one'],
  ['exact', 'answers that greedy decoding gives word for word'],
  ['counted', 'cases that the full cache answers; the others say nothing about methods and are left out'],
]
