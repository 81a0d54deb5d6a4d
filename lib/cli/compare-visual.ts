// tokensieve compare --pictures: right answers about pictures against the patches that are kept.

import { compareVisual, type VisualComparison } from '../lab/visual.js'
import { parseVisualTasks } from '../lab/visual-set.js'
import { visualPage } from '../report/visual-page.js'
import { VISUAL_LEGEND, visualTable } from '../report/visual-table.js'
import { checkTarget, readText, writeWhole } from '../text-file.js'
import { flagOf, numberOf, numbersOf, type Parsed, textOf, textsOf, UsageError } from './arguments.js'
import { mixesOf, progress } from './compare.js'
import { markdownTable, wrap } from './format.js'
import { type Io, widthOf } from './io.js'
import { openModel } from './open-model.js'
import { packagePath } from './package-file.js'

/** Options of the other tasks, which say nothing about pictures. */
const OTHERS = ['tasks', 'kv', 'lengths', 'depths', 'seeds', 'question', 'text', 'prompts']

/** The questions that come with the package. */
export const SHIPPED = 'models/vlm/tasks/tasks.json'
const FILES = new Map([
  ['pictures', SHIPPED],
  ['films', 'models/vlm/tasks/films.json'],
])

export function asksForPictures(parsed: Parsed): boolean {
  return textOf(parsed, 'pictures') !== undefined || textsOf(parsed, 'task').some((name) => FILES.has(name))
}

export async function runVisual(parsed: Parsed, io: Io): Promise<number> {
  const other = OTHERS.find((name) => parsed.values[name] !== undefined)
  if (other !== undefined) throw new UsageError(`Expected questions about pictures without --${other}`)
  const [name = 'pictures', second] = textsOf(parsed, 'task')
  const task = FILES.has(name) ? second : name
  if (task !== undefined) throw new UsageError(`Expected questions about pictures without --task ${task}`)
  const file = textOf(parsed, 'pictures') ?? packagePath(FILES.get(name) as string)
  const each = numberOf(parsed, 'each', { min: 1, whole: true })
  const keep = numbersOf(parsed, 'keep', { min: 0.0001, max: 0.9999 })
  const methods = mixesOf(parsed)?.filter(({ name }) => name !== 'grid') // always there
  const tasks = parseVisualTasks(await readText(file), file, each)
  const html = textOf(parsed, 'html')
  await checkTarget(html)
  const { model } = await openModel(parsed, io)
  try {
    const { signal } = io.interrupts
    const given = { ...(methods && { methods }), ...(keep && { keep }) }
    const found = await compareVisual(model, { tasks, ...given, signal, onProgress: (at) => progress(io, at) })
    if (html !== undefined) await writeWhole(html, visualPage(found))
    if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(found)}\n`)
    else print(found, io)
  } finally {
    await model.close()
  }
  return 0
}

function print(found: VisualComparison, io: Io): void {
  const { cells, columns } = visualTable(found)
  const { isa, layers, name } = found.model
  io.out.write(`${name}, ${layers} layers, ${isa}\n\n${markdownTable(columns, cells)}\n\n`)
  io.out.write(`${wrap(VISUAL_LEGEND.map(([word, meaning]) => `${word}: ${meaning}.`).join(' '), widthOf(io.out))}\n`)
}
