// The page of runs: for each prompt the answers beside one another, and layer by layer what was still there of its words and pictures.
import { bytes, number } from '../cli/format.js'
import { groupsOf } from '../lab/groups.js'
import { fatesOf, heldAt, LETTERS, runningAt, stopsOf, towerStops } from './fates.js'
import { percentOf } from './heatmap.js'
import { details, el, type Html, page, table } from './html.js'
import { cropName, type Run } from './run.js'
import { controls, pictures, words } from './run-parts.js'
import { RUN_SCRIPT } from './run-script.js'
import { RUN_STYLE } from './run-style.js'

export function runPage(runs: readonly Run[], title = 'What was dropped where'): string {
  const groups = [
    ...groupsOf(runs, ({ crops, model, prompt, tokens }) =>
      JSON.stringify([model, tokens.slice(0, prompt), crops]),
    ).values(),
  ]
  const { model } = runs[0] as Run
  const tower = model.tower ? `, a vision tower of ${model.tower} blocks` : ''
  return page(
    { title, style: RUN_STYLE, script: RUN_SCRIPT, data: groups.map(dataOf) },
    el('h1', {}, title),
    el(
      'p',
      { class: 'soft' },
      `${model.name}: ${model.layers} layers of ${model.kvHeads} KV heads${tower}; ${model.isa}.`,
    ),
    groups.map((group, i) => section(group, i, groups.length)),
  )
}

/** What the page's script reads. */
function dataOf(runs: readonly Run[]): object {
  const first = runs[0] as Run
  const { crops, prompt, tokens } = first
  return {
    letters: LETTERS,
    tower: towerStops(first),
    stops: stopsOf(first),
    tokens: tokens.slice(0, prompt),
    crops: crops.map(({ columns, rows, sources }, i) => ({ columns, rows, sources, name: cropName(first, i) })),
    runs: runs.map((run) => ({ name: run.name, ...fatesOf(run) })),
  }
}

function section(runs: readonly Run[], i: number, count: number): Html {
  const id = `prompt-${i + 1}`
  const first = runs[0] as Run
  const heading = count > 1 ? `Prompt ${i + 1}` : 'What it cost'
  return el(
    'section',
    { 'aria-labelledby': id, class: 'prompt', 'data-group': i },
    el('h2', { id }, heading),
    answers(runs),
    details('All numbers, as a table', costs(runs)),
    el('h2', { id: `${id}-layers` }, 'Layer by layer'),
    controls(runs, id),
    pictures(first),
    words(runs),
    details('Rows by layer, as a table', byLayer(runs)),
  )
}

function answers(runs: readonly Run[]): Html {
  return el(
    'ul',
    { class: 'answers' },
    runs.map((run) =>
      el(
        'li',
        {},
        el('h3', {}, run.name),
        el('p', { class: 'answer' }, run.text.trim() === '' ? el('em', {}, 'nothing') : run.text.trim()),
        el('p', { class: 'soft' }, costLine(run), likeFirst(run, runs)),
      ),
    ),
  )
}

/** The first run is what the others are held against. */
function likeFirst(run: Run, [first]: readonly Run[]): Html | string {
  if (first === undefined || run === first || run.text.trim() !== first.text.trim()) return ''
  return el('span', {}, 'the same answer as the first')
}

/** Each part stays on one line. */
function costLine({ crops, stats: { kv, prompt, time } }: Run): Html[] {
  const share = kv.fullBytes > 0 ? `, ${percentOf(kv.bytes / kv.fullBytes)} of full` : ''
  const said = [
    `${number(Math.round(prompt.seen))} of ${number(prompt.tokens - prompt.cached)} tokens a layer`,
    `cache ${bytes(kv.bytes)}${share}`,
    ...(crops.length > 0 ? [`${number(time.vision)} ms pictures`] : []),
    `${number(time.prefill)} ms prompt`,
    `${number(time.decode)} ms answer`,
  ]
  return said.map((one) => el('span', {}, one))
}

function costs(runs: readonly Run[]): Html {
  const right = (title: string) => ({ title, right: true })
  const pictured = runs.some(({ crops }) => crops.length > 0)
  const columns = [
    { title: 'run' },
    ...['prompt tokens', 'run in a layer, mean', ...(pictured ? ['patches into layer 0', 'into the last'] : [])].map(
      right,
    ),
    ...[
      'cache',
      'of full f16',
      ...(pictured ? ['vision ms'] : []),
      'prompt ms',
      'answer ms',
      'in methods ms',
      'generated',
    ].map(right),
  ]
  const cells = runs.map((run) => {
    const { kv, prompt, time } = run.stats
    const patches = pictured ? [towerStops(run), stopsOf(run) - 1].map((stop) => number(patchesAt(run, stop))) : []
    const vision = pictured ? [number(time.vision)] : []
    const times = [time.prefill, time.decode, time.decide].map(number)
    const cache = [bytes(kv.bytes), kv.fullBytes > 0 ? percentOf(kv.bytes / kv.fullBytes) : '–']
    const tokens = [number(prompt.tokens), number(prompt.seen)]
    return [run.name, ...tokens, ...patches, ...cache, ...vision, ...times, String(run.ids.length)]
  })
  return table('What each run cost', columns, cells)
}

function patchesAt(run: Run, stop: number): number {
  const { gone } = fatesOf(run)
  return run.crops.flatMap(({ sources }) => sources).filter((source) => (gone[source] ?? -1) > stop).length
}

function byLayer(runs: readonly Run[]): Html {
  const first = runs[0] as Run
  const tower = towerStops(first)
  const fates = runs.map(fatesOf)
  const columns = [
    { title: 'where' },
    ...runs.flatMap(({ name }) => [
      { title: `${name}: tokens`, right: true },
      { title: 'cache', right: true },
    ]),
  ]
  const cells = Array.from({ length: stopsOf(first) }, (_, stop) => [
    stop < tower - 1 ? `block ${stop} of the tower` : stop < tower ? 'projector' : `layer ${stop - tower}`,
    ...fates.flatMap((one) => [
      number(runningAt(one, stop, first.prompt)),
      stop < tower ? '' : percentOf(heldAt(one, stop - tower, stop, first.prompt)),
    ]),
  ])
  return table(
    `Of the ${first.prompt} tokens of the prompt: those that run, and the share that the cache holds`,
    columns,
    cells,
  )
}
