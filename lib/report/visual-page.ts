// The page of a comparison over pictures: right answers against the patches that are left, of all questions and by type.
import { groupsOf } from '../lab/groups.js'
import { meanOf } from '../lab/statistics.js'
import type { VisualComparison } from '../lab/visual.js'
import type { VisualRow } from '../lab/visual-summary.js'
import { details, el, type Html, page, table } from './html.js'
import { drawPareto, type Measure, type Spot } from './pareto.js'
import { VISUAL_LEGEND, visualTable } from './visual-table.js'

type Point = Spot & { readonly row: VisualRow }

const NONE = { mean: Number.NaN, low: Number.NaN, high: Number.NaN }

/** Of one model, or of several one after another. */
export function visualPage(given: VisualComparison | readonly VisualComparison[]): string {
  const all = [given].flat() as VisualComparison[]
  const names = all.map(({ model }) => model.name)
  return page(
    `What fewer patches cost: ${names.join(', ')}`,
    el('h1', {}, 'What fewer patches cost'),
    el(
      'p',
      {},
      'Questions about pictures, answered with all patches and with fewer. A point is a budget, a bar its 95 % interval; ringed: no other costs less and is right more often.',
    ),
    details(
      'What the words mean',
      el(
        'dl',
        {},
        VISUAL_LEGEND.map(([word, meaning]) => [el('dt', {}, word), el('dd', {}, meaning)]),
      ),
    ),
    all.map(section),
  )
}

function section(found: VisualComparison): Html {
  const { model, rows, types } = found
  const { cells, columns } = visualTable(found)
  const questions = rows[0]?.cases ?? 0
  const groups = groupsOfRows(rows)
  return el(
    'section',
    { 'aria-label': model.name },
    el('h2', {}, model.name),
    el('p', { class: 'soft' }, `${model.layers} layers, ${model.isa}, ${questions} questions`),
    groups.map(({ rows: own, title }) => [
      title === '' ? '' : el('h3', {}, title),
      el(
        'div',
        { class: 'charts' },
        chart(pointsOf(own), 'right answers', ({ right }) => right),
        chart(timedOf(own, rows), 'right answers', ({ right }) => right, 'time of tower and prompt'),
      ),
    ]),
    details('All numbers, as a table', table('Right answers and what they cost', columns, cells, 2)),
    el(
      'h3',
      {},
      groups.length > 1 ? 'By type of question, the methods that are right most often' : 'By type of question',
    ),
    el(
      'div',
      { class: 'charts' },
      types.map((type) => chart(pointsOf(bestOf(rows)), type, ({ byType }) => byType[type] ?? NONE)),
    ),
  )
}

/** Lines that a chart has room for beside the floors. */
const MOST = 8
const SHOWN = 3 // of the tower and of the layers, in charts of one type of question
const ALWAYS = ['full', 'random', 'grid']

interface Group {
  readonly title: string
  readonly rows: readonly VisualRow[]
}

/** Charts that can be read: methods by where they act, as many as have colours of their own. */
function groupsOfRows(rows: readonly VisualRow[]): Group[] {
  const floors = rows.filter(({ method }) => ALWAYS.includes(method))
  const others = rows.filter(({ method }) => !ALWAYS.includes(method))
  if (new Set(others.map(({ method }) => method)).size <= MOST) return [{ title: '', rows }]
  const inTower = (row: VisualRow) => row.acts === 'vision'
  return [
    { title: 'In the tower, or before the decoder', own: others.filter(inTower) },
    { title: 'Between layers of the decoder', own: others.filter((row) => !inTower(row)) },
  ].flatMap(({ own, title }) => {
    const names = [...new Set(own.map(({ method }) => method))]
    const charts = Math.ceil(names.length / MOST)
    const each = Math.ceil(names.length / charts)
    return Array.from({ length: charts }, (_, i) => {
      const named = new Set(names.slice(i * each, (i + 1) * each))
      return { title: i === 0 ? title : '', rows: [...floors, ...own.filter(({ method }) => named.has(method))] }
    })
  })
}

/** The methods with the most right answers, a mean over their budgets: as many of the tower as of the layers; and the floors. */
function bestOf(rows: readonly VisualRow[]): readonly VisualRow[] {
  const groups = [...groupsOf(rows, ({ method }) => method)].filter(([method]) => !ALWAYS.includes(method))
  if (groups.length <= MOST) return rows
  const worth = (own: readonly VisualRow[]) => meanOf(own.map(({ right }) => right.mean))
  const best = new Set(ALWAYS)
  for (const inTower of [true, false]) {
    const own = groups.filter(([, [row]]) => (row?.acts === 'vision') === inTower)
    for (const [method] of own.sort(([, a], [, b]) => worth(b) - worth(a)).slice(0, SHOWN)) best.add(method)
  }
  return rows.filter(({ method }) => best.has(method))
}

const pointsOf = (rows: readonly VisualRow[]): Point[] =>
  rows.map((row) => ({ ...row, kv: 'f16', bytes: row.visual, row }))

/** all: with the row of all patches first, which others are held against. */
const timedOf = (rows: readonly VisualRow[], all: readonly VisualRow[]): Point[] =>
  pointsOf(rows).map((point) => ({ ...point, bytes: time(point.row), share: shareOf(point.row, all) }))

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
