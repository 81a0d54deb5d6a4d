// The page of a comparison over pictures: right answers against the patches that are left, of all questions and by type.
import type { VisualComparison } from '../lab/visual.js'
import type { VisualRow } from '../lab/visual-summary.js'
import { details, el, type Html, page, table } from './html.js'
import { drawPareto, type Measure, type Spot } from './pareto.js'
import { VISUAL_LEGEND, visualTable } from './visual-table.js'

type Point = Spot & { readonly row: VisualRow }

const NONE = { mean: Number.NaN, low: Number.NaN, high: Number.NaN }

export function visualPage(found: VisualComparison): string {
  const { model, rows, types } = found
  const points: Point[] = rows.map((row) => ({ ...row, kv: 'f16', bytes: row.visual, row }))
  const timed = points.map((point) => ({ ...point, bytes: time(point.row), share: shareOf(point.row, rows) }))
  const { cells, columns } = visualTable(found)
  const questions = rows[0]?.cases ?? 0
  return page(
    `What fewer patches cost: ${model.name}`,
    el('h1', {}, 'What fewer patches cost'),
    el('p', {}, `${model.name}: ${model.layers} layers, ${model.isa}. ${questions} questions about pictures.`),
    details(
      'What the words mean',
      el(
        'dl',
        {},
        VISUAL_LEGEND.map(([word, meaning]) => [el('dt', {}, word), el('dd', {}, meaning)]),
      ),
    ),
    el('h2', {}, 'All questions'),
    el(
      'div',
      { class: 'charts' },
      chart(points, 'right answers', ({ right }) => right),
      chart(timed, 'right answers', ({ right }) => right, 'time of tower and prompt'),
    ),
    el(
      'p',
      { class: 'soft' },
      'A point is a budget, a bar its 95 % interval; ringed: no other costs less and is right more often.',
    ),
    details('All numbers, as a table', table('Right answers and what they cost', columns, cells, 2)),
    el('h2', {}, 'By type of question'),
    el(
      'div',
      { class: 'charts' },
      types.map((type) => chart(points, type, ({ byType }) => byType[type] ?? NONE)),
    ),
  )
}

const time = ({ prefill, vision }: VisualRow): number => prefill + (Number.isFinite(vision) ? vision : 0)

/** Of the time with all patches. */
function shareOf(row: VisualRow, [full]: readonly VisualRow[]): number {
  return Math.min(1, time(row) / time(full as VisualRow))
}

function chart(
  points: readonly Point[],
  title: string,
  of: (row: VisualRow) => VisualRow['right'],
  cost = 'patches a layer',
): Html {
  const measure: Measure<Point> = {
    of: ({ row }) => of(row),
    title,
    up: true,
    log: false,
    cost,
    whole: 'that of all patches',
  }
  return drawPareto(points, measure) ?? el('p', {}, `${title}: not asked.`)
}
