// A cache method that acts again and again while decoding.
import { rangeError, typeError } from '../../errors.js'
import { asMethod, type MethodLike, makeMethod } from '../define.js'
import { isDue } from '../looks.js'
import type { KeepOf, Look, Method, Seen, Shape } from '../method.js'
import { asPrompt } from '../seen.js'

/** The method after every prompt, as ever, and after every n-th decode step. */
export function every(n: number, method: MethodLike): Method {
  if (typeof n !== 'number') throw typeError('a number of decode steps', 'n', n)
  if (!(Number.isInteger(n) && n >= 1)) throw rangeError('a whole number from 1', 'n', n)
  const inside = asMethod(method, 'method')
  if (inside.acts !== 'cache') throw typeError('a method that acts on the cache', 'method', inside.label)
  const definition = {
    name: 'every',
    acts: inside.acts,
    label: () => `every(${n}, ${inside.label})`,
    repack: inside.repack,
    ranking: () => inside.ranking,
    looks: (shape: Shape) => inside.looks(shape).flatMap((look) => again(look, n)),
    decide(seen: Seen) {
      const own = seen.at !== 'decode' || isDue(inside.looks(seen.shape), seen)
      return inside.decide(own ? seen : asPrompt(seen)).map((decision) => ({ method: inside.label, ...decision }))
    },
    takesKeep: inside.withKeep !== undefined,
    withKeep(_: unknown, keepOf: KeepOf) {
      const other = inside.withKeep?.(keepOf)
      return other && every(n, other)
    },
  }
  return makeMethod(definition, Object.freeze({ n, method: inside }))
}

function again(look: Look, n: number): Look[] {
  return look.at === 'prompt' ? [look, { at: 'decode', every: n, layers: look.layers, needs: look.needs }] : [look]
}
