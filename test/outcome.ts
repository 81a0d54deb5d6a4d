// A session's sayings, to be held against those of one that shares nothing.
import type { Model, Session, SessionOptions } from '../lib/index.js'
import { same } from './engine.js'
import { randomIds } from './numbers.js'

type Test = { same(a: unknown, b: unknown, said: string): void; ok(a: unknown, said: string): void }

export const joined = (...parts: Int32Array[]) => Int32Array.from(parts.flatMap((part) => [...part]))
/** Two prompts with the same first hundred tokens, and what is said after them. */
export const system = randomIds(100, 21)
export const one = joined(system, randomIds(20, 22))
export const two = joined(system, randomIds(30, 23))
export const more = randomIds(9, 24)

export interface Outcome {
  logits: Float32Array
  ids: number[]
  later: Float32Array
  rows: unknown
  plan: unknown
}

/** What a session says to a prompt, and after it. */
export async function outcome(session: Session, prompt: Int32Array | { ids: Int32Array; droppable: boolean }[]) {
  const logits = await session.forward(prompt)
  const { ids } = await session.generate(more, { maxTokens: 7, ignoreEnd: true, temperature: 1, seed: 3 })
  const later = await session.forward(more)
  return { logits, ids: [...ids], later, rows: session.stats.kv.layers.map(({ rows }) => rows), plan: session.plan }
}

export async function alone(
  model: Model,
  options: SessionOptions,
  prompt: Parameters<typeof outcome>[1],
): Promise<Outcome> {
  const session = model.session({ ...options, reuse: false })
  const made = await outcome(session, prompt)
  await session.close()
  return made
}

export function agree(t: Test, got: Outcome, expected: Outcome, said: string): void {
  t.ok(same(got.logits, expected.logits), `${said}: logits`)
  t.same(got.ids, expected.ids, `${said}: ids`)
  t.ok(same(got.later, expected.later), `${said}: logits later`)
  t.same(got.rows, expected.rows, `${said}: rows`)
  t.same(got.plan, expected.plan, `${said}: plan`)
}
