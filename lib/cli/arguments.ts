// Arguments of a command: parsed by Node, checked here; what is wrong is one sentence and exit code 2.
import { type ParseArgsConfig, parseArgs } from 'node:util'

/** A command line that cannot be meant. */
export class UsageError extends Error {
  override name = 'UsageError'
}

export type Options = NonNullable<ParseArgsConfig['options']>

/** One value an option; all its values where it may be repeated; true for a flag. */
export interface Parsed {
  readonly values: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>
  readonly positionals: readonly string[]
}

/** @param positionals what the words beside the options are, `[name]` for one that may be missing */
export function parse(args: readonly string[], options: Options, positionals: readonly string[] = []): Parsed {
  const parsed = parsedBy(args, options)
  const surplus = parsed.positionals[positionals.length]
  if (surplus !== undefined)
    throw new UsageError(
      `Expected ${positionals.length === 0 ? 'options alone' : `no more than ${positionals.join(' ')}`} but received ${JSON.stringify(surplus)}`,
    )
  const missing = positionals.slice(parsed.positionals.length).find((name) => !name.startsWith('['))
  if (missing !== undefined) throw new UsageError(`Expected ${missing}, which is missing`)
  return parsed
}

function parsedBy(args: readonly string[], options: Options): Parsed {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    if (!(error instanceof Error) || !String((error as NodeJS.ErrnoException).code).startsWith('ERR_PARSE_ARGS'))
      throw error
    const [sentence = ''] = error.message.split(/\.\s|\n/)
    throw new UsageError(sentence.replace(/\.$/, ''))
  }
}

export function textOf({ values }: Parsed, name: string): string | undefined {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}

export function textsOf({ values }: Parsed, name: string): string[] {
  const value = values[name]
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : []
}

export function flagOf({ values }: Parsed, name: string): boolean {
  return values[name] === true
}

export interface Range {
  readonly min: number
  readonly max?: number
  readonly whole?: boolean
}

export function numberOf(parsed: Parsed, name: string, range: Range): number | undefined {
  const text = textOf(parsed, name)
  return text === undefined ? undefined : checkedNumber(text, name, range)
}

/** A list such as 512,2048; '' gives none. */
export function numbersOf(parsed: Parsed, name: string, range: Range): number[] | undefined {
  const text = textOf(parsed, name)
  if (text === undefined) return undefined
  return text === '' ? [] : text.split(',').map((one) => checkedNumber(one, name, range))
}

function checkedNumber(
  text: string,
  name: string,
  { min, max = Number.POSITIVE_INFINITY, whole = false }: Range,
): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (value >= min && value <= max && (!whole || Number.isInteger(value))) return value
  const range = max === Number.POSITIVE_INFINITY ? `from ${min}` : `from ${min} to ${max}`
  throw new UsageError(
    `Expected a ${whole ? 'whole ' : ''}number ${range} for --${name} but received ${JSON.stringify(text)}`,
  )
}
