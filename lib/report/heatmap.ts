// Needle heatmaps: depth down, length across, one map for each method and budget.
import { groupsOf } from '../lab/groups.js'
import type { CaseResult } from '../lab/index.js'
import { el, type Html, px } from './html.js'
import { keepText } from './table.js'

const WIDTH = 44
const HEIGHT = 22
const LEFT = 40
const TOP = 18

export interface Heatmap {
  readonly method: string
  readonly keep: number | null
  readonly lengths: readonly number[]
  readonly depths: readonly number[]
  /** By depth and length: mean probability of an answer token (the geometric one), NaN where the full cache fails. */
  readonly values: readonly (readonly number[])[]
}

/** The maps of one task and question; none where depth and length do not vary. */
export function heatmapsOf(cases: readonly CaseResult[]): Heatmap[] {
  const distinct = (of: (one: CaseResult) => number) => [...new Set(cases.map(of))].sort((a, b) => a - b)
  const lengths = distinct(({ length }) => length)
  const depths = distinct(({ depth }) => depth)
  if (lengths.length * depths.length < 3 || depths.length < 2) return []
  const groups = groupsOf(cases, ({ keep, kv, method }) => JSON.stringify([method, keep, kv]))
  return [...groups.values()].map((group) => {
    const { keep, method } = group[0] as CaseResult
    const values = depths.map((depth) =>
      lengths.map((length) => chanceOf(group.filter((one) => one.depth === depth && one.length === length))),
    )
    return { method, keep, lengths, depths, values }
  })
}

function chanceOf(cases: readonly CaseResult[]): number {
  const counted = cases.filter((one) => one.counted)
  return Math.exp(counted.reduce((sum, { logprob }) => sum + logprob, 0) / counted.length)
}

export function nameOf({ keep, method }: Pick<Heatmap, 'method' | 'keep'>): string {
  return method === 'full' ? 'full' : `${method}, keep ${keepText(keep)}`
}

export function mapWidth({ lengths }: Heatmap): number {
  return LEFT + lengths.length * WIDTH
}

export function drawHeatmap(map: Heatmap): Html {
  const { depths, lengths, values } = map
  const width = mapWidth(map)
  const height = TOP + depths.length * HEIGHT
  const across = lengths.map((length, x) =>
    el('text', { x: px(LEFT + (x + 0.5) * WIDTH), y: TOP - 6, 'text-anchor': 'middle', class: 'soft' }, length),
  )
  const down = depths.map((depth, y) =>
    el(
      'text',
      { x: LEFT - 6, y: px(TOP + (y + 0.5) * HEIGHT + 4), 'text-anchor': 'end', class: 'soft' },
      percentOf(depth),
    ),
  )
  const cells = values.flatMap((row, y) => row.map((value, x) => cell(value, LEFT + x * WIDTH, TOP + y * HEIGHT)))
  const label = `${nameOf(map)}: probability of an answer token by depth and length; the table below has the numbers`
  const svg = el(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label },
    across,
    down,
    cells,
  )
  return el('figure', {}, el('figcaption', {}, nameOf(map)), svg)
}

function cell(value: number, x: number, y: number): Html[] {
  const known = Number.isFinite(value)
  const box = { x, y, width: WIDTH - 1, height: HEIGHT - 1, rx: 2 }
  const fill = known ? `fill:var(--heat);fill-opacity:${Number((0.06 + 0.94 * value).toFixed(2))}` : 'fill:var(--wash)'
  const ink = known && value > 0.5 ? 'fill:var(--on-heat)' : 'fill:var(--ink)'
  const spot = { x: px(x + WIDTH / 2), y: y + HEIGHT / 2 + 4, 'text-anchor': 'middle', style: ink }
  return [el('rect', { ...box, style: fill }), el('text', spot, known ? Math.round(100 * value) : '–')]
}

export function percentOf(share: number): string {
  return `${Math.round(100 * share)} %`
}

/** The same numbers as rows: map and depth, then a column for each length. */
export function heatmapCells(maps: readonly Heatmap[]): string[][] {
  return maps.flatMap((map) =>
    map.depths.map((depth, y) => [
      nameOf(map),
      percentOf(depth),
      ...(map.values[y] as readonly number[]).map((value) => (Number.isFinite(value) ? percentOf(value) : '–')),
    ]),
  )
}
