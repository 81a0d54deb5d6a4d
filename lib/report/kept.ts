// Kept-token pictures: tokens across, layers (and KV heads) down, darker where more of them stay.
import type { PlanEntry } from '../plan.js'
import { percentOf } from './heatmap.js'
import { details, el, type Html, px, table } from './html.js'
import { cacheLanes, isCut, type Lane, sharesOf, tokenLanes, tokensOf } from './lanes.js'

const COLUMNS = 128
const WIDTH = 384
const LEFT = 44
const TOP = 22
const LEVELS = 4
const TENTHS = 10

export interface KeptPicture {
  readonly title: string
  readonly plan: readonly PlanEntry[]
  readonly tokens?: number
  readonly layers?: number
  /** Tokens that a question asks for. */
  readonly span?: readonly [number, number] | undefined
}

export function drawKept({ layers, plan, span, title, tokens = tokensOf(plan) }: KeptPicture): Html[] {
  const cuts = plan.filter(isCut).map(({ layer }) => layer)
  const cache = cacheLanes(plan)
  const made: Html[] = []
  if (cache.length > 0) made.push(picture(`${title}: rows of the cache`, cache, tokens, span))
  if (cuts.length > 0) {
    const lanes = tokenLanes(plan, layers ?? Math.max(...cuts) + 1, tokens)
    made.push(picture(`${title}: tokens that reach a layer`, lanes, tokens, span))
  }
  return made
}

function picture(title: string, lanes: readonly Lane[], tokens: number, span: KeptPicture['span']): Html {
  const columns = Math.min(COLUMNS, tokens)
  const heads = Math.max(...lanes.map(({ head = 0 }) => head)) + 1
  const lane = heads > 4 ? 3 : heads > 1 ? 4 : 8
  const gap = heads > 1 ? 1 : 0
  const step = WIDTH / columns
  const tops = lanes.map(({ head = 0 }, i) => TOP + i * lane + gap * Math.floor((i - head) / heads))
  const height = (tops.at(-1) ?? TOP) + lane + 4
  const share = lanes.reduce((sum, { kept }) => sum + kept.length, 0) / (lanes.length * tokens)
  const bars = paths(lanes, tops, tokens, columns, { step, lane })
  const width = LEFT + WIDTH + 4
  const ground = { x: LEFT, y: TOP, width: WIDTH, height: height - 4 - TOP, style: 'fill:var(--wash)' }
  const label = `${title}, ${percentOf(share)} of ${tokens} tokens; the table below has the shares by layer`
  const svg = el(
    'svg',
    {
      viewBox: `0 0 ${px(width)} ${px(height)}`,
      width: px(width),
      height: px(height),
      role: 'img',
      'aria-label': label,
    },
    el('rect', ground),
    bars,
    layerNames(lanes, tops, lane * heads),
    spanMark(span, tokens),
  )
  const caption = el('figcaption', {}, `${title}, ${percentOf(share)} of ${tokens} tokens`)
  return el('figure', {}, caption, svg, details('By layer, as a table', layerTable(title, lanes, tokens)))
}

/** One path a level of grey: runs of columns with about the same share of tokens. */
function paths(
  lanes: readonly Lane[],
  tops: readonly number[],
  tokens: number,
  columns: number,
  { lane, step }: { lane: number; step: number },
): Html[] {
  const parts = Array.from({ length: LEVELS + 1 }, () => [] as string[])
  for (const [i, { kept }] of lanes.entries()) {
    const levels = Array.from(sharesOf(kept, tokens, columns), (share) => Math.ceil(share * LEVELS - 1e-9))
    for (let from = 0; from < columns; ) {
      let to = from + 1
      while (to < columns && levels[to] === levels[from]) to++
      parts[levels[from] as number]?.push(
        `M${px(LEFT + from * step)} ${px((tops[i] as number) + lane / 2)}h${px((to - from) * step)}`,
      )
      from = to
    }
  }
  return parts.flatMap((runs, level) => {
    if (level === 0 || runs.length === 0) return []
    const style = `fill:none;stroke:var(--heat);stroke-width:${px(lane * 0.92)};stroke-opacity:${level / LEVELS}`
    return [el('path', { d: runs.join(''), style })]
  })
}

function layerNames(lanes: readonly Lane[], tops: readonly number[], tall: number): Html[] {
  const layers = lanes.map(({ layer }) => layer)
  const every = Math.max(1, Math.ceil(14 / tall))
  return layers.flatMap((layer, i) => {
    if (layers[i - 1] === layer || (layer - (layers[0] ?? 0)) % every !== 0) return []
    const spot = {
      x: LEFT - 5,
      y: px((tops[i] as number) + Math.min(tall, 12) / 2 + 4),
      'text-anchor': 'end',
      class: 'soft',
    }
    return [el('text', spot, i === 0 ? `layer ${layer}` : layer)]
  })
}

function spanMark(span: KeptPicture['span'], tokens: number): Html[] {
  if (!span) return []
  const [from, to] = span.map((at) => LEFT + (at * WIDTH) / tokens) as [number, number]
  const middle = Math.min(LEFT + WIDTH - 30, Math.max(LEFT + 30, (from + to) / 2))
  return [
    el('rect', { x: px(from), y: TOP - 5, width: px(Math.max(3, to - from)), height: 4, style: 'fill:var(--mark)' }),
    el('text', { x: px(middle), y: TOP - 9, 'text-anchor': 'middle', style: 'fill:var(--mark)' }, 'asked for'),
  ]
}

/** Shares of each tenth of the tokens, mean over a layer's heads. */
function layerTable(title: string, lanes: readonly Lane[], tokens: number): Html {
  const layers = [...new Set(lanes.map(({ layer }) => layer))]
  const right = (name: string) => ({ title: name, right: true })
  const tenths = Array.from({ length: TENTHS }, (_, i) => right(`${10 * i}–${10 * i + 10} %`))
  const rows = layers.map((layer) => {
    const own = lanes.filter((lane) => lane.layer === layer)
    const shares = own.map(({ kept }) => sharesOf(kept, tokens, TENTHS))
    const mean = (i: number) => shares.reduce((sum, one) => sum + (one[i] ?? 0), 0) / shares.length
    return [String(layer), own.map(({ kept }) => kept.length).join(', '), ...tenths.map((_, i) => percentOf(mean(i)))]
  })
  const columns = [{ title: 'layer' }, right('rows, head by head'), ...tenths]
  return table(`${title}: share that stays of each tenth of the ${tokens} tokens`, columns, rows)
}
