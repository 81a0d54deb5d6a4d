// compareVisual: questions about pictures × budgets × methods, beside all patches, patches kept by chance and an even grid of them.
import { rangeError, typeError } from '../errors.js'
import { methods as all, type Method, type MethodLike } from '../methods/index.js'
import type { Model } from '../model.js'
import type { Prompt } from '../prompt.js'
import { checkSignal } from '../sampling.js'
import { optionsOf } from '../settings.js'
import { FULL, type Mix, mixOf, withKeep } from './contenders.js'
import type { VisualTask } from './visual-set.js'
import { summarizeVisual, type VisualRow } from './visual-summary.js'

export interface CompareVisualOptions {
  readonly tasks: readonly VisualTask[]
  /** Methods, or mixes of some under one name. 'full', 'random' and 'grid' are always there. */
  readonly methods?: readonly (MethodLike | Mix)[]
  /** Shares of the patches that every method is tried at; default .5, .25, .125, .0625. */
  readonly keep?: readonly number[]
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly what: string }) => void
  readonly signal?: AbortSignal
}

/** One question with one contender. */
export interface VisualCase {
  /** Its place among the tasks. */
  readonly task: number
  readonly type: string
  readonly method: string
  readonly keep: number | null
  /** Where its methods act, the first of them; missing for all patches. */
  readonly acts?: Method['acts']
  /** What was said, and whether it is right word for word. */
  readonly text: string
  readonly right: boolean
  /** Patches of the prompt, and those that run in a layer of the decoder, a mean over layers. */
  readonly patches: number
  readonly visual: number
  readonly tokens: number
  readonly seen: number
  readonly bytes: number
  /** Milliseconds; `vision` only where the picture was new, since it is not encoded again for a second question. */
  readonly vision: number | null
  readonly prefill: number
  readonly decode: number
}

export interface VisualComparison {
  readonly kind: 'tokensieve-visual'
  readonly version: 1
  readonly model: { readonly name: string; readonly layers: number; readonly isa: string }
  readonly types: readonly string[]
  readonly rows: readonly VisualRow[]
  readonly cases: readonly VisualCase[]
}

interface Contender {
  readonly method: string
  readonly keep: number | null
  readonly methods: readonly Method[]
}

/** Tokens that an answer may have: a few words. */
const MOST = 12

/** What methods that act on pictures cost in right answers, and what they save. */
export async function compareVisual(model: Model, options: CompareVisualOptions): Promise<VisualComparison> {
  const { onProgress, signal, tasks } = checked(options)
  const contenders = contendersOf(options)
  const total = contenders.length * tasks.length
  const cases: VisualCase[] = []
  // What the first picture of a process takes, loading what decodes it, is nobody's. No other budget is the same, so no one finds it encoded.
  const first = { method: '', keep: null, methods: [all.random({ acts: 'vision', keep: 0.99 })] }
  await runOne(model, tasks[0] as VisualTask, 0, { contender: first, fresh: true, signal })
  const met = new Set<string>()
  // Question by question, so that whatever else the machine does falls on all of them.
  for (const [place, task] of tasks.entries()) {
    const known = met.has(task.image)
    met.add(task.image)
    for (const [i, contender] of contenders.entries()) {
      signal?.throwIfAborted()
      const { keep, method, methods } = contender
      const said = keep === null || method === FULL ? method : `${method} keep ${keep}`
      onProgress?.({ done: place * contenders.length + i, total, what: said })
      // Without a method in the tower, pictures are encoded as they were for all patches.
      const encodes = i === 0 || methods.some(({ acts }) => acts === 'vision')
      cases.push(await runOne(model, task, place, { contender, fresh: encodes && !known, signal }))
    }
  }
  onProgress?.({ done: total, total, what: '' })
  const { config, isa } = model
  const types = [...new Set(tasks.map(({ type }) => type))]
  const about = { name: config.name ?? config.architecture, layers: config.layers, isa }
  return { kind: 'tokensieve-visual', version: 1, model: about, types, rows: summarizeVisual(cases), cases }
}

async function runOne(
  model: Model,
  { answer, type, ...asked }: VisualTask,
  task: number,
  { contender, fresh, signal }: { contender: Contender; fresh: boolean; signal: AbortSignal | undefined },
): Promise<VisualCase> {
  const { keep, method, methods } = contender
  const session = model.session({ methods, reuse: false })
  try {
    const options = { maxTokens: MOST, temperature: 0, ...(signal && { signal }) }
    const { text, stats } = await session.generate(promptOf(model, asked), options)
    const patches = session.ids.filter((id) => id < 0).length
    const { kv, prompt, time } = stats
    const cost = { tokens: prompt.tokens, seen: prompt.seen, bytes: kv.bytes }
    const times = { vision: fresh ? time.vision : null, prefill: time.prefill, decode: time.decode }
    const visual = Math.max(0, prompt.seen - (prompt.tokens - patches))
    const [first] = methods
    const who = { task, type, method, keep, ...(first && { acts: first.acts }) }
    return { ...who, text, right: same(text, answer), patches, visual, ...cost, ...times }
  } finally {
    await session.close()
  }
}

type Asked = Pick<VisualTask, 'image' | 'film' | 'question'>

/** The picture, then the question: as a message where the model has a template for those. */
function promptOf({ tokenizer }: Model, { film, image, question }: Asked): Prompt {
  const parts = [film ? { video: film } : { image }, { text: question }]
  try {
    tokenizer.chat([{ role: 'user', content: question }])
  } catch {
    return parts
  }
  return [{ role: 'user', content: parts }]
}

/** Words count, not how they are written. */
function same(text: string, answer: string): boolean {
  const words = (one: string) => one.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []
  return words(text).join(' ') === words(answer).join(' ')
}

function contendersOf({ keep = [0.5, 0.25, 0.125, 0.0625], methods = [] }: CompareVisualOptions): Contender[] {
  for (const one of keep) if (!(one > 0 && one < 1)) throw rangeError('shares above 0 and below 1', 'keep', one)
  const floors = [
    { name: 'random', methods: [all.random({ acts: 'vision' })] },
    { name: 'grid', methods: [all.grid()] },
  ]
  const named = new Set([FULL, ...floors.map(({ name }) => name)])
  const mixes = methods.map(mixOf)
  for (const { name } of mixes) {
    if (named.has(name)) throw typeError('names that differ', 'methods', name)
    named.add(name)
  }
  const swept = [...floors, ...mixes].flatMap((mix) => sweep(mix, keep))
  return [{ method: FULL, keep: 1, methods: [] }, ...swept]
}

function sweep({ methods, name, sweep = true }: Mix, keeps: readonly number[]): Contender[] {
  const made = methods as readonly Method[]
  if (!sweep || !made.some((one) => one.withKeep)) return [{ method: name, keep: null, methods: made }]
  return keeps.map((keep) => ({ method: name, keep, methods: made.map((one) => withKeep(one, keep)) }))
}

const OPTIONS = ['tasks', 'methods', 'keep', 'onProgress', 'signal']

function checked(options: CompareVisualOptions): CompareVisualOptions {
  optionsOf(options, OPTIONS)
  checkSignal(options.signal)
  if (!Array.isArray(options.tasks) || options.tasks.length === 0)
    throw typeError('a list of tasks that is not empty', 'tasks', options.tasks)
  return options
}
