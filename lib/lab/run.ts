// One case with one cache: the context is read with the methods at work, then the question and the answer in one call, so that the answer is judged after compression alone.
import type { KvTypes } from '../kv.js'
import type { Method } from '../methods/index.js'
import type { Model } from '../model.js'
import type { PlanEntry } from '../plan.js'
import type { Session } from '../session.js'
import { Draw, seedOf } from './draw.js'
import { type Reading, readingOf } from './judge.js'
import { CONTINUATION, type Place, type Task } from './tasks/task.js'

/** What the methods could see when they chose: 'after', the context alone; 'before', the question too; 'none', there is no question. */
export type Query = 'after' | 'before' | 'none'

export interface Case extends Place {
  readonly task: string
  readonly gated: boolean
  readonly query: Query
  /** Of the context. */
  readonly tokens: number
  readonly characters: number
  /** Tokens of the first call, all of which layer methods may drop up to `droppable`. */
  readonly first: Int32Array
  readonly droppable: number
  /** Tokens of the second call before the answer, at least one. */
  readonly second: Int32Array
  readonly answer: Int32Array
  /** First token of what the question asks for, and the one after its last. */
  readonly span?: readonly [number, number]
}

export async function caseOf(
  model: Model,
  task: Task,
  place: Place,
  query: Query,
  signal?: AbortSignal,
): Promise<Case> {
  const { tokenizer } = model
  const bare = (text: string) => tokenizer.encode(text, { addSpecial: false })
  const draw = new Draw(seedOf(task.name, place.length, place.depth, place.seed))
  const sample = task.make({ ...place, draw, tokens: (text) => bare(text).length })
  const context = tokenizer.encode(sample.context)
  const question = bare(sample.question)
  // What speaks before the answer is never compressed: the last token waits for the second call.
  const all = [...context, ...question]
  const cut = query === 'after' ? context.length : all.length - 1
  const first = Int32Array.from(all.slice(0, cut))
  const second = Int32Array.from(all.slice(cut))
  const answer = sample.answer === undefined ? await continuation(model, all, signal) : bare(sample.answer)
  const span = spanOf(sample.context, sample.mark, (text) => tokenizer.encode(text).length)
  return {
    ...place,
    task: task.name,
    gated: task.gated,
    query,
    tokens: context.length,
    characters: sample.context.length,
    first,
    droppable: Math.min(first.length, context.length),
    second,
    answer,
    ...(span && { span }),
  }
}

async function continuation(model: Model, ids: readonly number[], signal?: AbortSignal): Promise<Int32Array> {
  const session = model.session({ contextLength: ids.length + CONTINUATION + 1 })
  try {
    const options = { maxTokens: CONTINUATION, temperature: 0, ignoreEnd: true, ...(signal && { signal }) }
    return (await session.generate(Int32Array.from(ids), options)).ids
  } finally {
    await session.close()
  }
}

function spanOf(
  context: string,
  mark: string | undefined,
  tokens: (text: string) => number,
): [number, number] | undefined {
  const at = mark === undefined ? -1 : context.indexOf(mark)
  if (mark === undefined || at < 0) return undefined
  return [tokens(context.slice(0, at)), tokens(context.slice(0, at + mark.length))]
}

export interface Run {
  readonly reading: Reading
  /** Bytes of the cache once the first call was compressed, from the allocator. */
  readonly bytes: number
  readonly plan: readonly PlanEntry[]
}

interface With {
  readonly kv: KvTypes
  readonly methods: readonly Method[]
  /** Layers whose rows have a sum of attention that is not in the session: see Watch. */
  readonly summed?: readonly number[] | undefined
  readonly signal?: AbortSignal | undefined
}

/** Of a sum of attention, one a row. */
const SUM = 4

/** A session that has read the context. Others take its rows while it is open, wherever their methods do not have to see how they are computed. */
export async function readContext(
  model: Model,
  { answer, droppable, first, second }: Case,
  { kv, methods, signal }: With,
): Promise<Session> {
  const contextLength = first.length + second.length + answer.length + 1
  const session = model.session({ contextLength, kv, methods })
  try {
    const parts = [
      { ids: first.slice(0, droppable), droppable: true },
      { ids: first.slice(droppable), droppable: false },
    ].filter(({ ids }) => ids.length > 0)
    await session.forward(parts, { logits: 'none', ...(signal && { signal }) })
    return session
  } catch (error) {
    await session.close()
    throw error
  }
}

export async function runCase(model: Model, one: Case, given: With): Promise<Run> {
  const { answer, second } = one
  const { signal, summed = [] } = given
  const session = await readContext(model, one, given)
  try {
    const { bytes, layers } = session.stats.kv
    const sums = summed.flatMap((layer) => layers[layer]?.rows ?? []).reduce((sum, rows) => sum + rows * SUM, 0)
    const { plan } = session
    const ids = Int32Array.from([...second, ...answer])
    const logits = await session.forward(ids, { logits: 'all', ...(signal && { signal }) })
    return { reading: readingOf(logits, answer.length, model.config.vocabularySize), bytes: bytes + sums, plan }
  } finally {
    await session.close()
  }
}
