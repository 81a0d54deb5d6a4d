// A cache method that may not touch some tokens: sinks that were found, a passage that has to stay.
import { rangeError, typeError } from '../../errors.js'
import { asMethod, type MethodLike, makeMethod } from '../define.js'
import type { Decision, KeepOf, LayerSeen, Method, Seen, Shape } from '../method.js'

/**
 * The method, but rows of these tokens (their places in session.ids) stay in every head, within its budget: what is left of it goes to the best of the others, of which the newest
 * row is always one. Standing rules know no tokens, so a method that has one acts after prompts alone; `every(n, protect(…))` goes on while text is generated.
 */
export function protect(tokens: readonly number[], method: MethodLike): Method {
  const held = parseTokens(tokens)
  const safe = new Set(held)
  const inside = asMethod(method, 'method')
  if (inside.acts !== 'cache') throw typeError('a method that acts on the cache', 'method', inside.label)
  const definition = {
    name: 'protect',
    acts: inside.acts,
    label: () => `protect(${inside.label})`,
    repack: inside.repack,
    ranking: () => inside.ranking,
    looks: (shape: Shape) => inside.looks(shape).filter(({ at }) => at !== 'session'),
    decide(seen: Seen) {
      if (seen.at === 'layer') return inside.decide(seen).map((decision) => sparing(decision, seen, safe, inside.label))
      if (seen.at !== 'prompt' && seen.at !== 'decode') return []
      const all = seen.safe ? new Set([...seen.safe, ...safe]) : safe
      return inside.decide({ ...seen, safe: all }).map((decision) => ({ method: inside.label, ...decision }))
    },
    takesKeep: inside.withKeep !== undefined,
    withKeep(_: unknown, keepOf: KeepOf) {
      const other = inside.withKeep?.(keepOf)
      return other && protect(held, other)
    },
  }
  return makeMethod(definition, Object.freeze({ tokens: held, method: inside }))
}

/** Protected rows take part in a layer that others pass by. */
function sparing(decision: Decision, { sources }: LayerSeen, safe: ReadonlySet<number>, method: string): Decision {
  if (decision.action !== 'pass') return { method, ...decision }
  const taking = new Set([...Array.from(decision.kept), ...safe])
  return { method, ...decision, kept: sources.filter((source) => taking.has(source)) }
}

function parseTokens(value: unknown): readonly number[] {
  if (!Array.isArray(value)) throw typeError('an array of places in session.ids', 'tokens', value)
  for (const [i, token] of value.entries()) {
    if (typeof token !== 'number') throw typeError('a place in session.ids', `tokens[${i}]`, token)
    if (!(Number.isInteger(token) && token >= 0)) throw rangeError('a whole number from 0', `tokens[${i}]`, token)
  }
  return Object.freeze([...value])
}
