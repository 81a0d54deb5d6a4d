// tokensieve report: pictures of what was saved: runs, a plan or a comparison.
import { basename } from 'node:path'
import { TokensieveError } from '../errors.js'
import type { Comparison } from '../lab/index.js'
import type { VisualComparison } from '../lab/visual.js'
import { parsePlan } from '../plan.js'
import { comparisonPage } from '../report/comparison.js'
import { planPage } from '../report/plan.js'
import { parseRun, type Run } from '../report/run.js'
import { runPage } from '../report/run-page.js'
import { visualPage } from '../report/visual-page.js'
import { readText, writeWhole } from '../text-file.js'
import { type Options, parse, textOf, UsageError } from './arguments.js'
import type { Command } from './io.js'

const OPTIONS = { output: { type: 'string', short: 'o' } } satisfies Options

/** Runs on one page. */
const MOST = 16

export const command: Command = {
  help: `
Draws what was dropped where, as one HTML page that loads nothing from anywhere.

Usage: tokensieve report RUN.json… [options]

RUN.json is what "generate --json" printed: several of one prompt stand beside one another. Or it is
what "compare --json" printed, or a plan (session.plan as JSON).

  -o, --output FILE      default: stdout`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS, ['RUN.json', ...Array.from({ length: MOST - 1 }, () => '[RUN.json]')])
    const html = await pageOf(parsed.positionals)
    const output = textOf(parsed, 'output')
    if (output === undefined) io.out.write(html)
    else await writeWhole(output, html)
    return 0
  },
}

async function pageOf(paths: readonly string[]): Promise<string> {
  const values = await Promise.all(paths.map(async (path) => parsedJson(await readText(path), path)))
  const runs = values.map((value, i) => parseRun(value, paths[i] as string))
  if (runs.every((run) => run !== undefined)) return runPage(runs as Run[])
  const [path = ''] = paths
  if (paths.length > 1) throw new UsageError('Expected one file, or several that "generate --json" printed')
  const [value] = values
  if (Array.isArray(value)) return planPage(parsePlan(value), basename(path))
  const { kind, plan, rows } = (value ?? {}) as { kind?: unknown; plan?: unknown; rows?: unknown }
  if (kind === 'tokensieve-visual' && Array.isArray(rows)) return visualPage(value as VisualComparison)
  if (kind === 'tokensieve-compare' && Array.isArray(rows)) return comparisonPage(value as Comparison)
  if (Array.isArray(plan)) return planPage(parsePlan(plan), basename(path))
  throw malformed(path, 'a plan, or what "generate --json" or "compare --json" printed')
}

function parsedJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw malformed(path, 'JSON')
  }
}

function malformed(path: string, what: string): TokensieveError {
  return new TokensieveError('ERR_FILE_FORMAT', `[report] expected ${what} in ${path}`)
}
