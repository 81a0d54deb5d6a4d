// tokensieve demo: questions about a picture, answered with all of its patches and with a quarter of them, and what that saved and cost.
import { compareVisual } from '../../lab/visual.js'
import { parseVisualTasks } from '../../lab/visual-set.js'
import type { Method } from '../../methods/index.js'
import type { Model } from '../../model.js'
import type { Run } from '../../report/run.js'
import { runPage } from '../../report/run-page.js'
import { percent } from '../../report/table.js'
import { checkTarget, readText, writeWhole } from '../../text-file.js'
import { type Parsed, textOf, textsOf } from '../arguments.js'
import { progress } from '../compare.js'
import { SHIPPED } from '../compare-visual.js'
import { bytes, number, plainTable, wrap } from '../format.js'
import { runOf } from '../generate-page.js'
import { type Io, painter, widthOf } from '../io.js'
import { parseMethod } from '../method-option.js'
import { openModel, PICTURE_MODEL } from '../open-model.js'
import { packagePath } from '../package-file.js'

export const PICTURE = 'models/vlm/demo/shapes.png'
export const QUESTIONS = [
  'What color is the star?',
  'What letter is on the circle?',
  'Where is the heart?',
  'How many small objects are there?',
  'What is at the top right?',
]
export const PICTURE_METHODS = ['fastv:layer=3,keep=0.25', 'turbo:keep=0.25', 'random:acts=vision,keep=0.25']
/** Questions of each type that are asked of it. */
const EACH = 15
const PAGE = 'tokensieve-demo.html'

interface Setting {
  readonly label: string
  readonly methods: readonly Method[]
}

export async function askAboutPicture(parsed: Parsed, io: Io): Promise<void> {
  const image = textOf(parsed, 'image') ?? packagePath(PICTURE)
  const questions = textsOf(parsed, 'question').length > 0 ? textsOf(parsed, 'question') : QUESTIONS
  const settings = settingsOf(parsed)
  const page = textOf(parsed, 'html') ?? PAGE
  await checkTarget(page)
  const { model } = await openModel(parsed, io, PICTURE_MODEL)
  try {
    introduce(model, textOf(parsed, 'image') ?? PICTURE, io)
    const runs: Run[][] = []
    for (const question of questions) runs.push(await answers(model, image, question, settings, io.interrupts.signal))
    showAnswers(questions, settings, runs, io)
    const right = textOf(parsed, 'model') === undefined ? await rightAnswers(model, settings, io) : undefined
    showCosts(settings, runs, right, io)
    await writeWhole(page, runPage(runs.flat(), 'A picture with all of its patches, and with less'))
    io.out.write(`\nWhich patches were dropped, layer by layer: ${page}\n`)
  } finally {
    await model.close()
  }
}

function settingsOf(parsed: Parsed): Setting[] {
  const given = textsOf(parsed, 'method')
  const texts = given.length > 0 ? given : PICTURE_METHODS
  return [{ label: 'everything', methods: [] }, ...texts.map((label) => ({ label, methods: [parseMethod(label)] }))]
}

function introduce(model: Model, picture: string, io: Io): void {
  const paint = painter(io.out)
  const line = (name: string, text: string) => io.out.write(`${paint('dim', name.padEnd(10))}${text}\n`)
  const { config, vision } = model
  const tower = vision ? `${vision.layers} blocks of vision, ` : ''
  line('model', `${config.name ?? config.architecture}, ${tower}${config.layers} layers of language`)
  line('picture', picture)
}

/** One question, with each setting; none takes rows of another. */
async function answers(
  model: Model,
  image: string,
  question: string,
  settings: readonly Setting[],
  signal: AbortSignal,
): Promise<Run[]> {
  const runs: Run[] = []
  for (const { label, methods } of settings) {
    const session = model.session({ methods, reuse: false, trace: true })
    try {
      const prompt = [{ role: 'user', content: [{ image }, { text: question }] }]
      const result = await session.generate(prompt, { maxTokens: 8, signal })
      runs.push(runOf({ model, methods, session, result }, label))
    } finally {
      await session.close()
    }
  }
  return runs
}

function showAnswers(
  questions: readonly string[],
  settings: readonly Setting[],
  runs: readonly (readonly Run[])[],
  io: Io,
): void {
  const paint = painter(io.out)
  const columns = [{ title: '' }, ...settings.map(({ label }) => ({ title: nameOf(label) }))]
  const rows = questions.map((question, i) => {
    const all = runs[i]?.map(({ text }) => text.trim()) ?? []
    return [question, ...all.map((text) => (text === all[0] ? text : paint('yellow', text)))]
  })
  const [head = '', ...lines] = plainTable(columns, rows)
  io.out.write(`\n${paint('dim', head)}\n${lines.join('\n')}\n`)
}

const nameOf = (label: string): string => label.split(':')[0] ?? label

/** Shares of right answers to the questions that come with the package, by setting. */
async function rightAnswers(model: Model, settings: readonly Setting[], io: Io): Promise<(number | undefined)[]> {
  const file = packagePath(SHIPPED)
  const tasks = parseVisualTasks(await readText(file), file, EACH)
  const named = settings.slice(1).map(({ label, methods }) => ({ name: `own ${label}`, methods, sweep: false }))
  const { signal } = io.interrupts
  const { rows } = await compareVisual(model, {
    tasks,
    methods: named,
    keep: [0.25],
    signal,
    onProgress: (at) => progress(io, at),
  })
  const of = (name: string) => rows.find(({ method }) => method === name)?.right.mean
  return [of('full'), ...named.map(({ name }) => of(name))]
}

function showCosts(
  settings: readonly Setting[],
  runs: readonly (readonly Run[])[],
  right: readonly (number | undefined)[] | undefined,
  io: Io,
): void {
  const column = (title: string) => ({ title, right: true })
  const columns = [{ title: '' }, ...['tokens/layer', 'cache', 'vision ms', 'prompt ms'].map(column)]
  if (right) columns.push(column('right answers'))
  const rows = settings.map(({ label }, i) => {
    const mean = (of: (run: Run) => number) =>
      runs.reduce((sum, all) => sum + of(all[i] as Run), 0) / Math.max(1, runs.length)
    const cells = [
      label,
      number(Math.round(mean(({ stats }) => stats.prompt.seen))),
      bytes(mean(({ stats }) => stats.kv.bytes)),
      number(Math.max(...runs.map((all) => (all[i] as Run).stats.time.vision))),
      number(mean(({ stats }) => stats.time.prefill)),
    ]
    return right ? [...cells, percent(right[i] ?? Number.NaN)] : cells
  })
  const [head = '', ...lines] = plainTable(columns, rows)
  io.out.write(`\n${painter(io.out)('dim', head)}\n${lines.join('\n')}\n\n${wrap(EXPLANATION, widthOf(io.out))}\n`)
}

const EXPLANATION = `tokens/layer: prompt tokens that a layer computed, on average; the picture alone is 144. cache: keys and values in memory at the end. vision ms: of a new picture; a second question does not encode it again. prompt ms: reading the prompt. right answers: to the questions about other pictures that come with the package, word for word.`
