// The rows of a comparison over pictures as cells.
import { type Column, number } from '../cli/format.js'
import type { Estimate } from '../lab/index.js'
import type { VisualComparison } from '../lab/visual.js'
import { keepText, percent } from './table.js'

export function visualTable({ rows, types }: Pick<VisualComparison, 'rows' | 'types'>): {
  columns: Column[]
  cells: string[][]
} {
  const right = (title: string) => ({ title, right: true })
  const costs = ['patches a layer', 'vision ms', 'prompt ms', 'answer ms', 'faster', 'of ideal']
  const columns = [{ title: 'method' }, ...['keep', 'right', 'over random', ...types, ...costs].map(right)]
  const cells = rows.map((row) => [
    row.method,
    keepText(row.keep),
    withInterval(row.right),
    row.overRandom ? points(row.overRandom) : '',
    ...types.map((type) => percent(row.byType[type]?.mean ?? Number.NaN)),
    `${number(Math.round(row.visual))}, ${percent(row.share)}`,
    ...[row.vision, row.prefill, row.decode].map(number),
    `${row.speedup.measured.toFixed(2)} ×`,
    row.speedup.ideal > 1.01 ? percent(row.speedup.measured / row.speedup.ideal) : '',
  ])
  return { columns, cells }
}

function withInterval({ high, low, mean }: Estimate): string {
  return `${percent(mean)} [${number(Math.round(100 * low))}, ${number(Math.round(100 * high))}]`
}

/** Percentage points, with a sign. */
function points({ high, low, mean }: Estimate): string {
  const plain = (value: number) => `${value > 0 ? '+' : ''}${Math.round(100 * value)}`.replace('-', '−')
  return `${plain(mean)} [${plain(low)}, ${plain(high)}]`
}

export const VISUAL_LEGEND: readonly (readonly [word: string, meaning: string])[] = [
  ['keep', 'share of the patches that the method was told to keep'],
  ['right', 'answers that are right word for word, with the interval of 95 % of bootstrap means'],
  ['over random', 'percentage points more than patches kept by chance at the same budget, question by question'],
  ['patches a layer', 'patches that run in a layer of the decoder, a mean over its layers; and their share'],
  [
    'vision, prompt, answer ms',
    'medians: the tower (where the picture was new), the prompt and the answer in the decoder',
  ],
  ['faster', 'time of the prompt with all patches over that of this row'],
  ['of ideal', 'the same against rows saved: 100 % if all else were free'],
]
