// tokensieve report: pictures of what was saved, a plan or a comparison.
import { basename } from 'node:path'
import { TokensieveError } from '../errors.js'
import type { Comparison } from '../lab/index.js'
import { parsePlan } from '../plan.js'
import { comparisonPage } from '../report/comparison.js'
import { planPage } from '../report/plan.js'
import { readText, writeWhole } from '../text-file.js'
import { type Options, parse, textOf } from './arguments.js'
import type { Command } from './io.js'

const OPTIONS = { output: { type: 'string', short: 'o' } } satisfies Options

export const command: Command = {
  help: `
Draws what was dropped where, as one HTML page that loads nothing from anywhere.

Usage: tokensieve report RUN.json [options]

RUN.json is a plan (session.plan as JSON), what "generate --json" printed, or what "compare --json"
printed.

  -o, --output FILE      default: stdout`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS, ['RUN.json'])
    const [path = ''] = parsed.positionals
    const html = pageOf(await readText(path), path)
    const output = textOf(parsed, 'output')
    if (output === undefined) io.out.write(html)
    else await writeWhole(output, html)
    return 0
  },
}

function pageOf(text: string, path: string): string {
  const value = parsedJson(text, path)
  if (Array.isArray(value)) return planPage(parsePlan(value), basename(path))
  const { kind, plan, rows } = (value ?? {}) as { kind?: unknown; plan?: unknown; rows?: unknown }
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
