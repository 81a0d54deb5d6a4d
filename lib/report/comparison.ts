// The page of a comparison: curves, maps, pictures, and every number of them in a table.
import { groupsOf } from '../lab/groups.js'
import type { CaseResult, Comparison, KeptRows, Row } from '../lab/index.js'
import { drawHeatmap, type Heatmap, heatmapCells, heatmapsOf, mapWidth, nameOf } from './heatmap.js'
import { details, el, type Html, page, table } from './html.js'
import { drawKept } from './kept.js'
import { drawPareto, KL, LOGPROB } from './pareto.js'
import { LEGEND, tableOf } from './table.js'

/** Columns that a section's headline says already: task and question. */
const SAID = 2

const QUESTIONS = {
  after: 'question after compression: methods chose rows without having seen it',
  before: 'question before compression: methods had seen it when they chose',
  none: 'no question: the answer goes on from the context',
} as const

export function comparisonPage(found: Comparison): string {
  const sections = [...groupsOf(found.rows, ({ query, task }) => `${task}-${query}`)]
  const { model } = found
  const about = `${model.name}: ${model.layers} layers of ${model.kvHeads} KV heads, ${model.isa}. ${found.cases.length} runs.`
  const links = sections.map(([id, [row]]) => el('li', {}, el('a', { href: `#${id}` }, headline(row as Row))))
  return page(
    `What methods cost: ${model.name}`,
    el('h1', {}, 'What methods cost'),
    el('p', {}, about),
    el('nav', { 'aria-label': 'Tasks' }, el('ul', {}, links)),
    details(
      'What the words mean',
      el(
        'dl',
        {},
        LEGEND.map(([word, meaning]) => [el('dt', {}, word), el('dd', {}, meaning)]),
      ),
    ),
    sections.map(([id, rows]) => section(id, rows, found)),
  )
}

function headline({ query, task }: Row): string {
  return query === 'none' ? task : `${task}, question ${query}`
}

function section(id: string, rows: readonly Row[], { cases, kept, model, tasks }: Comparison): Html {
  const { counted, cases: all, query, task } = rows[0] as Row
  const mine = <T extends { task: string; query: Row['query'] }>(list: readonly T[]) =>
    list.filter((one) => one.task === task && one.query === query)
  const title = tasks.find(({ name }) => name === task)?.title ?? task
  const { cells, columns } = tableOf(rows)
  const none = el('p', {}, 'The full cache answers none of these cases, so they say nothing about methods.')
  return el(
    'section',
    { 'aria-labelledby': id },
    el('h2', { id }, headline(rows[0] as Row)),
    el(
      'p',
      { class: 'soft' },
      `${title}; ${QUESTIONS[query]}. ${counted} of ${all} cases count. A point is a budget, a bar its 95 % interval; ringed: no other cache is smaller and better.`,
    ),
    counted === 0 ? none : charts(rows),
    details(
      'All numbers, as a table',
      table(
        headline(rows[0] as Row),
        columns.slice(SAID),
        cells.map((line) => line.slice(SAID)),
      ),
    ),
    counted === 0 ? '' : maps(mine(cases)),
    pictures(mine(kept), model.layers),
  )
}

function charts(rows: readonly Row[]): Html {
  const drawn = [drawPareto(rows, LOGPROB), drawPareto(rows, KL)].filter((one) => one !== undefined)
  return el('div', { class: 'charts' }, drawn)
}

function maps(cases: readonly CaseResult[]): Html[] {
  const made = heatmapsOf(cases)
  const [first] = made
  if (!first) return []
  const columns = [
    { title: 'cache' },
    { title: 'depth', right: true },
    ...first.lengths.map((length) => ({ title: `${length} tokens`, right: true })),
  ]
  const lines = [...groupsOf(made, ({ method }: Heatmap) => method).values()]
  const broadest = Math.max(...lines.map(({ length }) => length)) * (mapWidth(first) + 24)
  return [
    el('h3', {}, 'By depth and length'),
    el(
      'p',
      { class: 'soft' },
      'Probability of an answer token in percent, down by where in the context the answer lies, across by tokens of the context; – where the full cache fails.',
    ),
    el(
      'div',
      { class: 'lines', style: `--wide:${broadest}px` },
      lines.map((line) => el('div', { class: 'maps' }, line.map(drawHeatmap))),
    ),
    details('The maps, as a table', table('Probability of an answer token', columns, heatmapCells(made), 2)),
  ]
}

function pictures(kept: readonly KeptRows[], layers: number): Html[] {
  const drawn = kept.flatMap(({ keep, method, plan, span, tokens }) =>
    drawKept({ title: nameOf({ keep, method }), plan, span, tokens, layers }),
  )
  if (drawn.length === 0) return []
  return [
    el('h3', {}, 'What was kept'),
    el(
      'p',
      { class: 'soft' },
      'One case: tokens of the context from left to right, layers from top to bottom, a line for each KV head.',
    ),
    el('div', { class: 'kept' }, drawn),
  ]
}
