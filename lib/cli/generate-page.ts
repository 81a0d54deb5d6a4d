// generate --html: the run as a page, and beside it the same prompt with other budgets.
import type { Generated } from '../generate.js'
import { withKeep } from '../lab/contenders.js'
import { type Method, methods } from '../methods/index.js'
import type { Model } from '../model.js'
import type { Prompt } from '../prompt.js'
import { cropsOf } from '../report/crops.js'
import { recordRun } from '../report/record.js'
import type { Run } from '../report/run.js'
import { runPage } from '../report/run-page.js'
import { keepText } from '../report/table.js'
import type { GenerateOptions } from '../sampling.js'
import type { Session } from '../session.js'
import type { SessionOptions } from '../settings.js'
import { checkTarget, writeWhole } from '../text-file.js'
import { flagOf, numbersOf, type Options, type Parsed, textOf, textsOf, UsageError } from './arguments.js'

export const PAGE_OPTIONS = {
  html: { type: 'string' },
  beside: { type: 'string' },
  trace: { type: 'boolean' },
} satisfies Options

export const PAGE_HELP = `
      --html FILE        a page that shows what was dropped where, in one file
      --beside SHARE,…   on the page too: the same with these budgets; 1 keeps everything
      --trace            with --json: the scores behind decisions too, in the plan`

interface Page {
  readonly html: string | undefined
  readonly beside: readonly number[]
  /** What the session needs for it. */
  readonly session: SessionOptions
}

export async function pageOptions(parsed: Parsed): Promise<Page> {
  const html = textOf(parsed, 'html')
  const beside = numbersOf(parsed, 'beside', { min: 0.0001, max: 1 }) ?? []
  if (beside.length > 0 && html === undefined) throw new UsageError('Expected --html FILE together with --beside')
  if (beside.length > 0 && textsOf(parsed, 'method').length === 0)
    throw new UsageError('Expected --method together with --beside')
  await checkTarget(html)
  // Runs beside one another are only fair where none takes rows of another.
  return {
    html,
    beside,
    session: {
      ...((html !== undefined || flagOf(parsed, 'trace')) && { trace: true }),
      ...(beside.length > 0 && { reuse: false }),
    },
  }
}

interface Done {
  readonly model: Model
  readonly methods: readonly Method[]
  readonly session: Session
  readonly result: Generated
}

export function runOf({ methods, model, result, session }: Done, name = nameOf(methods)): Run {
  const { config, isa, tokenizer, vision } = model
  const { architecture, kvHeads, layers } = config
  const about = { name: config.name ?? architecture, layers, kvHeads, isa, ...(vision && { tower: vision.layers }) }
  const { ids, pictures, plan } = session
  const crops = pictures && cropsOf(pictures.placed, pictures.grid)
  return recordRun({ model: about, tokenizer, ids, plan, result, name, ...(crops && { crops }) })
}

function nameOf(methods: readonly Method[]): string {
  if (methods.length === 0) return 'everything kept'
  return methods.map(({ label, options: { keep } }) => `${label}${keepSaid(keep)}`).join(' + ')
}

function keepSaid(keep: unknown): string {
  if (typeof keep === 'number') return `, keep ${keepText(keep)}`
  return keep === undefined ? '' : `, keep ${JSON.stringify(keep)}`
}

/** What the first picture of a process takes, loading what decodes it, is no run's own. */
export async function warmUp({ beside }: Page, model: Model, prompt: Prompt, signal: AbortSignal): Promise<void> {
  if (beside.length === 0 || model.vision === null) return
  // Another budget than anyone's, so that no run finds its pictures encoded.
  const session = model.session({ methods: [methods.random({ acts: 'vision', keep: 0.99 })], reuse: false })
  await session.forward(prompt, { logits: 'none', signal })
  await session.close()
}

export async function writePage(
  { beside, html }: Page,
  own: Done,
  { options, prompt, sampling }: { options: SessionOptions; prompt: Prompt; sampling: GenerateOptions },
): Promise<void> {
  if (html === undefined) return
  const runs = [runOf(own)]
  for (const keep of beside) {
    const methods = keep === 1 ? [] : own.methods.map((method) => withKeep(method, keep))
    const session = own.model.session({ ...options, methods })
    const name = methods.map(({ label }) => label).join(' + ')
    const result = await session.generate(prompt, sampling)
    runs.push(runOf({ ...own, methods, session, result }, keep === 1 ? undefined : `${name}, keep ${keepText(keep)}`))
    await session.close()
  }
  // From the most rows to the fewest: bytes of small caches are those of pages and tables.
  runs.sort((a, b) => cachedRows(b) - cachedRows(a))
  await writeWhole(html, runPage(runs))
}

function cachedRows({ stats }: Run): number {
  return stats.kv.layers.reduce((sum, { rows }) => sum + rows.reduce((all, count) => all + count, 0), 0)
}
