// A run as data: what "generate --json" prints and "report" draws. Everything that a page needs is in it, pictures too.
import { TokensieveError } from '../errors.js'
import type { Crop } from '../methods/method.js'
import { type PlanEntry, parsePlan } from '../plan.js'
import type { SessionStats } from '../stats.js'

export interface Run {
  readonly kind: 'tokensieve-run'
  readonly version: 1
  readonly text: string
  /** Generated tokens. */
  readonly ids: readonly number[]
  readonly finishReason: 'stop' | 'length'
  readonly stats: SessionStats
  readonly plan: readonly PlanEntry[]
  /** tower: blocks of its vision tower; missing where it reads text only. */
  readonly model: {
    readonly name: string
    readonly layers: number
    readonly kvHeads: number
    readonly isa: string
    readonly tower?: number
  }
  /** How the run differs from others of the same prompt: its methods and budget. */
  readonly name: string
  /** The text of every token of session.ids; '' where it is a patch, or where its character ends with a later token. */
  readonly tokens: readonly string[]
  /** How many of them are the prompt's. */
  readonly prompt: number
  /** What of pictures and films the tower read at once, in the order of their patches. */
  readonly crops: readonly RunCrop[]
}

export interface RunCrop extends Crop {
  /** The place in session.ids of each patch, row by row; below 0 where a patch has none: -1 less its number in the picture. */
  readonly sources: readonly number[]
  /** A data URL of PNG, JPEG or WebP. */
  readonly picture: string
}

export const KIND = 'tokensieve-run'

const PICTURE = /^data:image\/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*$/

/** What was read from a file, if it is a run; throws where it says so and is none. */
export function parseRun(value: unknown, file: string): Run | undefined {
  if (typeof value !== 'object' || value === null || (value as Run).kind !== KIND) return undefined
  const run = value as Run
  const check = (right: boolean, what: string) => {
    if (!right) throw new TokensieveError('ERR_FILE_FORMAT', `[report] expected ${what} in ${file}`)
  }
  check(run.version === 1, `version 1 of a run, not ${String(run.version)},`)
  check(isList(run.tokens, isText), 'the text of every token')
  check(typeof run.name === 'string' && typeof run.text === 'string', 'a name and an answer')
  check(whole(run.prompt) && run.prompt <= run.tokens.length, 'how many tokens the prompt has')
  check(isModel(run.model), 'a model with layers and heads')
  check(isStats(run.stats), 'statistics of the run')
  check(
    isList(run.crops, (crop) => isCrop(crop, run.tokens.length)),
    'pictures whose patches are tokens of the run',
  )
  return { ...run, plan: parsePlan(run.plan) }
}

/** What a page calls a picture, a tile or a frame. */
export function cropName({ crops }: Run, i: number): string {
  const { column, image, kind, row } = crops[i] as RunCrop
  const which = new Set(crops.map((crop) => crop.image)).size > 1 ? ` ${image + 1}` : ''
  if (kind === 'frame') return `Film${which}, frame ${row + 1}`
  if (kind === 'tile') return `Picture${which}, tile in row ${row + 1}, column ${column + 1}`
  return `Picture${which}${kind === 'thumbnail' ? ', the whole of it, small' : ''}`
}

function isList(value: unknown, of: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(of)
}

const isText = (value: unknown): boolean => typeof value === 'string'
const whole = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0

function isModel(value: unknown): boolean {
  const { isa, kvHeads, layers, name, tower = 0 } = (value ?? {}) as Partial<Run['model']>
  return isText(name) && isText(isa) && whole(layers) && whole(kvHeads) && whole(tower)
}

function isStats(value: unknown): boolean {
  const { kv, prompt, time } = (value ?? {}) as Partial<SessionStats>
  const numbers = [kv?.bytes, kv?.fullBytes, prompt?.tokens, prompt?.seen, ...Object.values(time ?? {})]
  return time !== undefined && numbers.every((one) => typeof one === 'number')
}

function isCrop(value: unknown, tokens: number): boolean {
  const { columns, image, picture, rows, row, column, sources } = (value ?? {}) as Partial<RunCrop>
  if (![columns, image, rows, row, column].every(whole) || typeof picture !== 'string') return false
  const place = (one: unknown) => Number.isInteger(one) && (one as number) < tokens
  return isList(sources, place) && sources?.length === (rows as number) * (columns as number) && PICTURE.test(picture)
}
