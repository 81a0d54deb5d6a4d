// Quality against bytes: a line for each method over its budgets, the full cache at the left, less memory to the right.
import type { Estimate, Row } from '../lab/index.js'
import { nameOf, percentOf } from './heatmap.js'
import { el, type Html, px } from './html.js'
import { COLOURS } from './style.js'
import { short } from './table.js'

const BOX = { left: 52, top: 14, width: 330, height: 230 }
const MARGIN = { right: 118, bottom: 40 }

/** What a point is, beside what is measured of it. */
export type Spot = Pick<Row, 'method' | 'keep' | 'kv' | 'bytes' | 'share'>

export interface Measure<R extends Spot = Row> {
  readonly of: (row: R) => Estimate
  readonly title: string
  /** Which way is better. */
  readonly up: boolean
  readonly log: boolean
  /** What `bytes` and `share` are of. */
  readonly cost: string
  /** What the shares are shares of. */
  readonly whole: string
}

const CACHE = { cost: 'bytes of the cache', whole: 'the full one' }

export const LOGPROB: Measure = {
  of: (row) => row.logprob,
  title: 'log p of the answer',
  up: true,
  log: false,
  ...CACHE,
}
export const KL: Measure = { of: (row) => row.kl, title: 'KL to the full cache', up: false, log: true, ...CACHE }

/** Smallest divergence that a logarithmic axis shows. */
const FLOOR = 1e-4

interface Line<R> {
  readonly name: string
  readonly colour: number
  readonly rows: readonly R[]
}

/** Floors and their colours. */
const FLOORS: Readonly<Record<string, number>> = { random: 0, recent: 1, grid: 1 }

/** Lines in the order of the rows; chance and the newest rows have the two quiet colours. */
function linesOf<R extends Spot>(rows: readonly R[]): Line<R>[] {
  const names = [...new Set(rows.map(lineName))].filter((name) => name !== 'full')
  let next = 2
  return names.map((name) => {
    const quiet = FLOORS[name] ?? -1
    const colour = quiet >= 0 ? quiet : next < COLOURS ? next++ : 2 + ((next++ - 2) % (COLOURS - 2))
    const own = rows.filter((row) => lineName(row) === name).sort(byBudget)
    return { name, colour, rows: own }
  })
}

/** From much to little. */
function byBudget(a: Spot, b: Spot): number {
  return (b.keep ?? b.share) - (a.keep ?? a.share) || b.share - a.share
}

function lineName({ kv, method }: Spot): string {
  return kv === 'f16' ? method : `${method} ${kv}`
}

/** Rows that no other row beats in bytes and in quality at once. */
export function frontOf<R extends Spot>(rows: readonly R[], { of, up }: Measure<R>): Set<R> {
  const worth = (row: R) => (up ? 1 : -1) * of(row).mean
  const beaten = (row: R) =>
    rows.some(
      (other) =>
        other.bytes <= row.bytes &&
        worth(other) >= worth(row) &&
        (other.bytes < row.bytes || worth(other) > worth(row)),
    )
  return new Set(rows.filter((row) => !beaten(row)))
}

/** Lines stand a little beside one another, so that their intervals can be told apart. */
function aside(axes: Axes, count: number, i: number): Axes {
  const shift = 2.5 * (i - (count - 1) / 2)
  return { ...axes, x: (share) => axes.x(share) + shift }
}

interface Axes {
  x(share: number): number
  y(value: number): number
  readonly ticks: readonly number[]
}

function axesOf<R extends Spot>(rows: readonly R[], { log, of }: Measure<R>): Axes {
  const place = (value: number) => (log ? Math.log10(Math.max(value, FLOOR)) : value)
  const known = rows.flatMap((row) => [of(row).low, of(row).high].map(place))
  const low = Math.min(...known)
  const high = Math.max(...known)
  const room = Math.max(0.05 * (high - low), 1e-6)
  const [from, to] = [low - room, high + room]
  const least = Math.min(0.9, ...rows.map(({ share }) => share)) / 1.15
  return {
    x: (share) => BOX.left + 12 + ((BOX.width - 12) * Math.log(share)) / Math.log(least),
    y: (value) => BOX.top + (BOX.height * (to - place(value))) / (to - from),
    ticks: log ? decades(from, to) : steps(from, to),
  }
}

/** 1, 2 and 5 times powers of ten; powers alone where that would be many. */
function decades(from: number, to: number): number[] {
  const made: number[] = []
  const parts = to - from > 2 ? [1] : [1, 2, 5]
  for (let power = Math.floor(from); power <= to; power++)
    for (const part of parts) {
      const at = power + Math.log10(part)
      if (at >= from && at <= to) made.push(part * 10 ** power)
    }
  return made
}

function steps(from: number, to: number): number[] {
  const rough = (to - from) / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5].find((part) => part * power >= rough) ?? 10) * power
  const first = Math.ceil(from / step)
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(6)),
  )
}

export function drawPareto<R extends Spot>(all: readonly R[], measure: Measure<R>): Html | undefined {
  const rows = all.filter((row) => Number.isFinite(measure.of(row).mean))
  const full = rows.find(({ method }) => method === 'full')
  if (rows.length < 2 || !full) return undefined
  const shown = measure.log ? rows.filter((row) => row !== full) : rows
  const axes = axesOf(shown, measure)
  const lines = linesOf(rows)
  const front = frontOf(rows, measure)
  const width = BOX.left + BOX.width + MARGIN.right
  const height = BOX.top + BOX.height + MARGIN.bottom
  const ceiling = measure.log ? [] : level(axes, measure.of(full).mean)
  const drawn = lines.map((line, i) => drawLine(line, aside(axes, lines.length, i), measure, front))
  const label = `${measure.title} against the ${measure.cost}, one line a method; the table has the numbers`
  const svg = el(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label },
    frame(shown, axes, measure),
    ceiling,
    drawn,
    labels(lines, axes, measure),
  )
  const better = measure.up ? 'higher is better' : 'lower is better'
  return el('figure', {}, el('figcaption', {}, `${measure.title} (${better})`), svg)
}

function frame(rows: readonly Spot[], { ticks, x, y }: Axes, { cost, whole }: Pick<Measure, 'cost' | 'whole'>): Html[] {
  const bottom = BOX.top + BOX.height
  const right = BOX.left + BOX.width
  const level = ticks.flatMap((tick) => [
    el('path', { class: 'axis', d: `M${BOX.left} ${px(y(tick))}H${right}` }),
    el('text', { x: BOX.left - 6, y: px(y(tick) + 4), 'text-anchor': 'end', class: 'soft' }, tickText(tick)),
  ])
  const least = Math.min(...rows.map(({ share }) => share))
  const shares = Array.from({ length: 12 }, (_, i) => 2 ** -i).filter((share) => share === 1 || share >= least / 1.1)
  const across = shares.map((share) =>
    el('text', { x: px(x(share)), y: bottom + 16, 'text-anchor': 'middle', class: 'soft' }, shareText(share)),
  )
  const title = el(
    'text',
    { x: px((BOX.left + right) / 2), y: bottom + 33, 'text-anchor': 'middle', class: 'soft' },
    `${cost}, share of ${whole} →`,
  )
  return [...level, el('path', { class: 'axis', d: `M${BOX.left} ${bottom}H${right}` }), ...across, title]
}

function tickText(tick: number): string {
  return String(Number(tick.toPrecision(3))).replace('-', '−')
}

function shareText(share: number): string {
  return share >= 0.01 ? `${Number((100 * share).toPrecision(2))} %` : String(share)
}

function level({ x, y }: Axes, value: number): Html[] {
  const at = px(y(value))
  return [
    el('path', {
      style: 'stroke:var(--ink);stroke-dasharray:1 3;fill:none',
      d: `M${BOX.left} ${at}H${BOX.left + BOX.width}`,
    }),
    el('circle', { cx: px(x(1)), cy: at, r: 4 }),
  ]
}

function drawLine<R extends Spot>(
  { colour, name, rows }: Line<R>,
  { x, y }: Axes,
  { cost, of }: Measure<R>,
  front: ReadonlySet<R>,
): Html {
  const at = rows.map((row) => `${px(x(row.share))} ${px(y(of(row).mean))}`)
  const points = rows.map((row) => {
    const { high, low, mean } = of(row)
    const spot = px(x(row.share))
    const said = `${nameOf(row)}: ${short(mean)} [${short(low)}, ${short(high)}] at ${percentOf(row.share)} of the ${cost}`
    return el(
      'g',
      {},
      el('title', {}, said),
      el('path', { class: 'bar', d: `M${spot} ${px(y(low))}V${px(y(high))}` }),
      front.has(row) ? el('circle', { class: 'ring', cx: spot, cy: px(y(mean)), r: 6.5 }) : '',
      el('circle', { class: 'dot', cx: spot, cy: px(y(mean)), r: 3.5 }),
    )
  })
  return el(
    'g',
    { 'aria-label': name, style: `color:var(--c${colour})` },
    el('path', { class: 'curve', d: `M${at.join('L')}`, ...(colour < 2 && { 'stroke-dasharray': '5 4' }) }),
    points,
  )
}

/** Names at the right, pushed apart, each led to the end of its line. */
function labels<R extends Spot>(lines: readonly Line<R>[], axes: Axes, { of }: Measure<R>): Html[] {
  const ends = lines
    .map(({ colour, name, rows }, i) => {
      const last = rows.at(-1) as R
      return { colour, name, x: aside(axes, lines.length, i).x(last.share), y: axes.y(of(last).mean) }
    })
    .sort((a, b) => a.y - b.y)
  const gap = 14
  const spots = ends.map(({ y: at }) => at)
  for (let i = 1; i < spots.length; i++) spots[i] = Math.max(spots[i] as number, (spots[i - 1] as number) + gap)
  const over = (spots.at(-1) ?? 0) - (BOX.top + BOX.height)
  for (let i = spots.length - 1, most = BOX.top + BOX.height; over > 0 && i >= 0; i--, most -= gap)
    spots[i] = Math.min(spots[i] as number, most)
  const right = BOX.left + BOX.width + 10
  return ends.map(({ colour, name, x: from, y: at }, i) => {
    const paint = `var(--c${colour})`
    const to = spots[i] as number
    const lead = `M${px(from + 7)} ${px(at)}L${right} ${px(to)}`
    return el(
      'g',
      {},
      el('path', { d: lead, style: `fill:none;stroke:${paint};stroke-opacity:.4` }),
      el('text', { x: right + 4, y: px(to + 4), style: `fill:${paint}` }, name),
    )
  })
}
