// The benchmark's tables, in Markdown that is read as it is.
import type { MachineLimits, Rate } from '../../kernels.js'
import { bytes, type Column, markdownTable, number } from '../format.js'
import type { Machine } from '../machine.js'
import type { Context } from './context.js'
import type { Growth } from './growth.js'
import type { PictureRun } from './pictures.js'
import type { Run } from './runs.js'

export interface Report {
  /** What prompts are made of. */
  readonly context: Context
  readonly machine: Machine & { readonly isa: string; readonly threads: number }
  readonly limits: MachineLimits
  /** Of cards that models run on. */
  readonly cards: Readonly<Record<string, MachineLimits>>
  readonly models: readonly { readonly name: string; readonly file: string }[]
  readonly runs: readonly Run[]
  readonly growth: readonly Growth[]
  readonly sessions: readonly Growth[]
  readonly dropping: readonly Run[]
  readonly pictures: readonly PictureRun[]
}

export function reportText(report: Report): string {
  const { context, dropping, growth, machine, models, pictures, runs, sessions } = report
  const head = [
    models.map(({ file, name }) => (name === file ? file : `${name} (${file})`)).join(', '),
    `${machine.threads} threads, ${machine.isa}, ${machine.cpu}, Node ${machine.node}; ${contextText(context)}`,
    limitsText(report.limits),
    ...Object.entries(report.cards).map(([name, limits]) => limitsText(limits, `limits of ${name}`)),
  ].join('\n')
  const several = models.length > 1
  const parts = [
    runs.length > 0 ? runTable(runs, several) : '',
    growth.length > 0 ? growthTable(growth, several, 'tokens') : '',
    sessions.length > 0 ? growthTable(sessions, several, 'sessions') : '',
    dropping.length > 0 ? runTable(dropping, several) : '',
    pictures.length > 0 ? pictureTable(pictures, several) : '',
    notes(report),
  ]
  return `${[head, ...parts.filter((part) => part !== '')].join('\n\n')}\n`
}

export function contextText(context: Context): string {
  return context === 'text' ? 'prompts are text' : 'prompts are random tokens'
}

const giga = (rate: Rate | null, unit: string) =>
  rate === null ? 'none' : `${number(rate.median / 1e9)} ${unit} (best ${number(rate.best / 1e9)})`

export function limitsText({ bf16, f32, int8, read }: MachineLimits, what = 'limits'): string {
  const peaks = [`int8 ${giga(int8, 'Gop/s')}`, `bf16 ${giga(bf16, 'Gop/s')}`, `f32 ${giga(f32, 'Gop/s')}`]
  return `${what}, measured beside: read ${giga(read, 'GB/s')}, ${peaks.join(', ')}`
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined || !Number.isFinite(share) ? '' : `${number(100 * share)} %`
}

const right = (title: string): Column => ({ title, right: true })

interface Cell<T> {
  readonly column: Column
  readonly text: (row: T) => string
}

function tableOf<T>(cells: readonly Cell<T>[], rows: readonly T[]): string {
  return markdownTable(
    cells.map(({ column }) => column),
    rows.map((row) => cells.map(({ text }) => text(row))),
  )
}

const times = (factor: number | undefined) => (factor === undefined ? '' : `${factor.toFixed(2)} ×`)
const modelCell = { column: { title: 'model' }, text: ({ model }: { model: string }) => model }

const achievedCell: Cell<Run> = {
  column: right('achieved'),
  text: ({ achieved, what }) =>
    achieved === undefined
      ? ''
      : what === 'prefill'
        ? `${number(achieved / 1e12)} TFLOP/s`
        : `${number(achieved / 1e9)} GB/s`,
}

export function runTable(runs: readonly Run[], several: boolean): string {
  const methods = runs.some(({ ideal }) => ideal !== undefined)
  const cells: Cell<Run>[] = [
    ...(several ? [modelCell] : []),
    { column: { title: 'what' }, text: ({ what }) => what },
    { column: right('tokens'), text: ({ tokens }) => number(tokens) },
    { column: { title: 'method' }, text: ({ method }) => method },
    { column: { title: 'kv' }, text: ({ kv }) => kv },
    { column: right('tokens/s, median'), text: (run) => number(run.median) },
    { column: right('best'), text: ({ best }) => number(best) },
    { column: right('limit'), text: ({ limit }) => number(limit) },
    { column: right('of limit'), text: ({ share }) => percent(share) },
    ...(runs.some(({ achieved }) => achieved !== undefined) ? [achievedCell] : []),
    { column: right('ms'), text: ({ ms }) => number(ms) },
  ]
  const saved: Cell<Run>[] = [
    { column: right('faster'), text: ({ speedup }) => times(speedup) },
    { column: right('ideal'), text: ({ ideal }) => times(ideal) },
    { column: right('of ideal'), text: ({ ideal, speedup }) => (ideal && speedup ? percent(speedup / ideal) : '') },
    { column: right('in methods'), text: ({ decide }) => percent(decide) },
  ]
  const memory: Cell<Run>[] = [
    { column: right('cache'), text: ({ kvBytes }) => bytes(kvBytes) },
    { column: right('process'), text: ({ rss }) => bytes(rss) },
  ]
  return tableOf([...cells, ...(methods ? saved : []), ...memory], runs)
}

export function growthTable(rows: readonly Growth[], several: boolean, what: 'tokens' | 'sessions'): string {
  const cells: Cell<Growth>[] = [
    ...(several ? [modelCell] : []),
    { column: right(what === 'tokens' ? 'prompt' : 'sessions'), text: ({ size }) => number(size) },
    { column: { title: 'kv' }, text: ({ kv }) => kv },
    { column: right(what === 'tokens' ? 'ms' : 'ms a step'), text: ({ ms }) => number(ms) },
    { column: right('best'), text: ({ best }) => number(best) },
    { column: right(what === 'tokens' ? 'tokens/s' : 'tokens/s together'), text: ({ rate }) => number(rate) },
    ...(what === 'sessions' ? [{ column: right('each'), text: ({ rate, size }: Growth) => number(rate / size) }] : []),
    { column: right('limit'), text: ({ limit }) => number(limit) },
    { column: right('of limit'), text: ({ share }) => percent(share) },
    { column: right('grows by'), text: ({ exponent }) => exponent?.toFixed(2) ?? '' },
    { column: right('arithmetic'), text: ({ expected }) => expected?.toFixed(2) ?? '' },
  ]
  return tableOf(cells, rows)
}

export function pictureTable(runs: readonly PictureRun[], several: boolean): string {
  const cells: Cell<PictureRun>[] = [
    ...(several ? [modelCell] : []),
    { column: { title: 'method' }, text: ({ method }) => method },
    {
      column: right('patches'),
      text: ({ entered, patches }) => (entered < patches ? `${entered} of ${patches}` : number(patches)),
    },
    { column: right('a layer'), text: ({ visual }) => number(Math.round(visual)) },
    { column: right('tower ms'), text: ({ vision }) => number(vision) },
    { column: right('prompt ms'), text: ({ prefill }) => number(prefill) },
    { column: right('methods ms'), text: ({ decide }) => number(decide) },
    { column: right('all ms'), text: ({ ms }) => number(ms) },
    { column: right('median'), text: ({ median }) => number(median) },
    { column: right('of limit'), text: ({ share }) => percent(share) },
    { column: right('faster'), text: ({ speedup }) => times(speedup) },
    { column: right('ideal'), text: ({ ideal }) => times(ideal) },
    { column: right('of ideal'), text: ({ ideal, speedup }) => (ideal && speedup ? percent(speedup / ideal) : '') },
    { column: right('of saving'), text: ({ saved }) => percent(saved) },
  ]
  return tableOf(cells, runs)
}

function notes({ dropping, growth, pictures, runs, sessions }: Report): string {
  if (runs.length + dropping.length + growth.length + sessions.length === 0) return PICTURE_NOTES
  const all = ['limit: what the rows that ran or are read would allow at the limits above.']
  if ([...runs, ...dropping].some(({ achieved }) => achieved !== undefined))
    all.push(
      "achieved: operations of a prompt, bytes that a step reads. A card's products are held against its bf16 peak.",
    )
  if (runs.length + dropping.length > 0) all.unshift('ms: of the whole prompt, or of one generated token.')
  if ([...runs, ...dropping].some(({ ideal }) => ideal !== undefined))
    all.push('ideal: how much faster the arithmetic of what is left is. in methods: of the time of the prompt.')
  if (growth.length + sessions.length > 0)
    all.push('grows by: the exponent of time against size since the line before; 1 is linear, 2 quadratic.')
  if (pictures.length > 0) all.push(PICTURE_NOTES)
  return all.join('\n')
}

const PICTURE_NOTES = [
  'patches: that leave the tower; a layer: that run in a layer of the decoder, a mean over its layers.',
  'tower, prompt, methods, all: of the fastest round, from pixels to a cache that can answer; median: of all rounds.',
  'ideal: how much faster the arithmetic of tower and decoder is; of saving: time saved, of the share that this promises.',
].join('\n')
