// tokensieve compare: quality and cost of methods against the full cache, chance and the newest rows.
import type { KvTypes } from '../kv.js'
import { parseKvText } from '../kv-text.js'
import { type CompareOptions, type Comparison, compare, type Mix } from '../lab/index.js'
import { parsePrompts } from '../lab/prompt-file.js'
import { TASK_NAMES } from '../lab/tasks/index.js'
import { comparisonPage } from '../report/comparison.js'
import { LEGEND, tableOf } from '../report/table.js'
import { checkTarget, readText, writeWhole } from '../text-file.js'
import {
  flagOf,
  numberOf,
  numbersOf,
  type Options,
  type Parsed,
  parse,
  textOf,
  textsOf,
  UsageError,
} from './arguments.js'
import { asksForPictures, runVisual } from './compare-visual.js'
import { markdownTable, wrap } from './format.js'
import { type Command, type Io, painter, widthOf } from './io.js'
import { METHOD_HELP, parseMethod } from './method-option.js'
import { MODEL_HELP, MODEL_OPTIONS, openModel } from './open-model.js'
import { readPackageFile } from './package-file.js'

const OPTIONS = {
  ...MODEL_OPTIONS,
  method: { type: 'string', multiple: true },
  methods: { type: 'string' },
  task: { type: 'string', multiple: true },
  tasks: { type: 'string' },
  keep: { type: 'string' },
  kv: { type: 'string' },
  lengths: { type: 'string' },
  depths: { type: 'string' },
  seeds: { type: 'string' },
  question: { type: 'string' },
  text: { type: 'string' },
  prompts: { type: 'string' },
  pictures: { type: 'string' },
  each: { type: 'string' },
  json: { type: 'boolean' },
  html: { type: 'string' },
} satisfies Options

export const command: Command = {
  help: `
Measures what methods cost and what they ruin, beside the full cache (the ceiling), rows kept by
chance and the newest rows (the floors). Tasks are made from seeds; nothing is downloaded.

Usage: tokensieve compare [options]

      --method METHOD    tried at every budget, unless it names its own keep; A+B for two at once;
                         may be repeated; default snapkv and h2o
      --methods A,B      several, by their names
      --task TASK        may be repeated, or --tasks A,B; default needle; known:
                         ${TASK_NAMES.slice(0, 7).join(' ')}
                         ${TASK_NAMES.slice(7).join(' ')}
      --keep SHARE,…     default 0.5,0.25,0.125,0.0625
      --kv TYPE,…        how caches are stored, as in "generate"; the first is the full one's
      --lengths N,…      tokens of the context; default 512
      --depths N         places of the needle, from the beginning to the end; default 5
      --seeds N          cases for each place; default 3
      --question WHEN    after: methods choose rows before they see the question; before: when they
                         have seen it; default both
      --text FILE        read by the task "text"; default the guide that comes with the package
      --prompts FILE     your own: a JSON object a line, { prompt, question?, answer? }, or text
                         with --- between prompts; without an answer the full cache's own is taken
      --pictures FILE    questions about pictures instead: a JSON list of { image, question, answer,
                         type }, or with video: [frames] for image; right answers against the
                         patches that are kept. --task pictures and --task films ask those that
                         come with the package
      --each N           of each type of question at most; default all
      --json             all of it as one object, which "report" draws
      --html FILE        a page with pictures, in one file
${MODEL_HELP.slice(1)}
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    if (asksForPictures(parsed)) return runVisual(parsed, io)
    const options = await optionsOf(parsed)
    await checkTarget(textOf(parsed, 'html'))
    const { model } = await openModel(parsed, io)
    try {
      const { signal } = io.interrupts
      const found = await compare(model, { ...options, signal, onProgress: (at) => progress(io, at) })
      const html = textOf(parsed, 'html')
      if (html !== undefined) await writeWhole(html, comparisonPage(found))
      if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(found)}\n`)
      else print(found, io)
    } finally {
      await model.close()
    }
    return 0
  },
}

async function optionsOf(parsed: Parsed): Promise<CompareOptions> {
  const text = textOf(parsed, 'text')
  const file = textOf(parsed, 'prompts')
  const named = [...textsOf(parsed, 'task'), ...listOf(parsed, 'tasks')].flatMap((one) => one.split(','))
  const own = [...(text === undefined ? [] : ['text']), ...(file === undefined ? [] : ['prompts'])]
  const tasks = named.length > 0 ? named : own
  const unknown = tasks.find((task) => !TASK_NAMES.includes(task))
  if (unknown !== undefined)
    throw new UsageError(`Expected one of ${TASK_NAMES.join(', ')} for --task but received ${JSON.stringify(unknown)}`)
  if (tasks.includes('prompts') && file === undefined)
    throw new UsageError('Expected --prompts FILE for the task prompts')
  const share = { min: 0.0001, max: 0.9999 }
  const given = {
    methods: mixesOf(parsed),
    tasks: tasks.length > 0 ? tasks : undefined,
    keep: numbersOf(parsed, 'keep', share),
    kv: kvsOf(parsed),
    lengths: numbersOf(parsed, 'lengths', { min: 16, whole: true }),
    depths: numberOf(parsed, 'depths', { min: 1, max: 100, whole: true }),
    seeds: numberOf(parsed, 'seeds', { min: 1, max: 10000, whole: true }),
    question: questionOf(parsed),
    text: tasks.includes('text') ? await textFor(text) : undefined,
    prompts: file === undefined ? undefined : parsePrompts(await readText(file), file),
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

function listOf(parsed: Parsed, name: string): string[] {
  const text = textOf(parsed, name)
  return text === undefined ? [] : [text]
}

export async function textFor(path: string | undefined): Promise<string> {
  return path === undefined ? readPackageFile('docs/guide.md') : readText(path)
}

/** Methods under the texts that name them; 'A+B' is both at once. */
export function mixesOf(parsed: Parsed): Mix[] | undefined {
  const texts = [...textsOf(parsed, 'method'), ...listOf(parsed, 'methods').flatMap((text) => text.split(','))]
  if (texts.length === 0) return undefined
  return texts
    .filter((text) => text !== 'full' && text !== 'random' && text !== 'recent') // always there
    .map((name) => {
      const methods = name.split('+').map((one) => parseMethod(one))
      return { name, methods, sweep: !/[:,]keep[.=]/.test(name) }
    })
}

export function kvsOf(parsed: Parsed): KvTypes[] | undefined {
  return textOf(parsed, 'kv')?.split(',').map(parseKvText)
}

function questionOf(parsed: Parsed): 'after' | 'before' | 'both' | undefined {
  const text = textOf(parsed, 'question')
  if (text === undefined || text === 'after' || text === 'before' || text === 'both') return text
  throw new UsageError(`Expected after, before or both for --question but received ${JSON.stringify(text)}`)
}

/** One line on a terminal that is written over; nothing in a pipe. */
export function progress(io: Io, { done, total, what }: { done: number; total: number; what: string }): void {
  if (!io.err.isTTY) return
  const said = what === '' ? '' : `run ${done + 1} of ${total}: ${what}`
  io.err.write(`\r\x1b[K${painter(io.err)('dim', said)}`)
}

function print({ model, rows }: Comparison, io: Io): void {
  const { cells, columns } = tableOf(rows)
  io.out.write(`${model.name}, ${model.layers} layers, ${model.isa}\n\n${markdownTable(columns, cells)}\n\n`)
  io.out.write(`${wrap(LEGEND.map(([word, meaning]) => `${word}: ${meaning}.`).join(' '), widthOf(io.out))}\n`)
}
