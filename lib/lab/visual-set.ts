// Questions about pictures, from a file: what is asked, what is right, and of which kind it is.
import { dirname, join } from 'node:path'
import { TokensieveError } from '../errors.js'

export interface VisualTask {
  /** A path; of a film, that of its first frame. */
  readonly image: string
  /** Paths of the frames, where a film is asked about. */
  readonly film?: readonly string[]
  readonly question: string
  readonly answer: string
  /** Accuracy is told for each type. */
  readonly type: string
}

/**
 * A list of { image, question, answer, type }; or { scenes: [{ image, questions: [{ type, text, answer }] }] }, as models/vlm writes it. Pictures lie beside the file. `video` in place of
 * `image` lists the frames of a film.
 * @param each questions of every type at most, taken evenly from the whole file
 */
export function parseVisualTasks(text: string, file: string, each = Number.POSITIVE_INFINITY): VisualTask[] {
  const all = listOf(parsed(text, file)).map((one, i) => taskOf(one, `${file}[${i}]`, dirname(file)))
  if (all.length === 0) throw malformed(file, 'at least one question')
  const types = [...new Set(all.map(({ type }) => type))]
  const taken = new Set(
    types.flatMap((type) =>
      evenly(
        all.filter((one) => one.type === type),
        each,
      ),
    ),
  )
  return all.filter((one) => taken.has(one))
}

function parsed(text: string, file: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw malformed(file, 'JSON')
  }
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value
  const { scenes } = (value ?? {}) as { scenes?: unknown }
  if (!Array.isArray(scenes)) return []
  return scenes.flatMap(({ image, questions, video }: { image?: unknown; questions?: unknown; video?: unknown }) =>
    Array.isArray(questions) ? questions.map((one: object) => ({ ...one, image, video })) : [],
  )
}

interface Read {
  readonly [key: string]: unknown
}

function taskOf(value: unknown, place: string, folder: string): VisualTask {
  const { answer, question, text = question, type, video } = (value ?? {}) as Read
  const film = Array.isArray(video) && video.every((one) => typeof one === 'string') ? video : undefined
  const { image = film?.[0] } = (value ?? {}) as Read
  for (const [key, one] of Object.entries({ image, question: text, answer, type }))
    if (typeof one !== 'string' || one === '') throw malformed(place, `text for ${key}`)
  const frames = film && { film: film.map((one) => join(folder, one)) }
  return { image: join(folder, image as string), ...frames, question: text, answer, type } as VisualTask
}

/** At most `count` of a list, spread over it. */
function evenly<T>(list: readonly T[], count: number): T[] {
  if (list.length <= count) return [...list]
  return Array.from({ length: count }, (_, i) => list[Math.floor((i * list.length) / count)] as T)
}

function malformed(place: string, what: string): TokensieveError {
  return new TokensieveError('ERR_FILE_FORMAT', `[${place}] expected ${what}`)
}
