// Methods in a row: each acts on what those before it left.
import { typeError } from '../../errors.js'
import { asMethod, type MethodLike, makeMethod } from '../define.js'
import { isDue } from '../looks.js'
import type { Decision, KeepOf, Method, Seen, Shape } from '../method.js'
import { after } from '../seen.js'

/** The methods one after another, where they look at the same place; each sees only what those before it left, with what was observed before the first. */
export function chain(...methods: readonly MethodLike[]): Method {
  if (methods.length < 2) throw typeError('two methods or more', 'methods', methods[0])
  const inside = Object.freeze(methods.map((method) => asMethod(method, 'methods')))
  const definition = {
    name: 'chain',
    acts: inside[0]?.acts ?? 'cache',
    label: () => `chain(${inside.map(({ label }) => label).join(', ')})`,
    repack: inside.some(({ repack }) => repack),
    looks: (shape: Shape) => inside.flatMap((method) => method.looks(shape)),
    decide: (seen: Seen) => decideInTurn(inside, seen),
    takesKeep: inside.some(({ withKeep }) => withKeep !== undefined),
    withKeep(_: unknown, keepOf: KeepOf) {
      return chain(...inside.map((method) => method.withKeep?.(keepOf) ?? method))
    },
  }
  return makeMethod(definition, Object.freeze({ methods: inside }))
}

function decideInTurn(methods: readonly Method[], seen: Seen): Decision[] {
  const decisions: Decision[] = []
  let left = seen
  for (const method of methods) {
    if (!isDue(method.looks(seen.shape), left)) continue
    for (const decision of method.decide(left)) {
      decisions.push({ method: method.label, ...decision })
      left = after(left, decision)
    }
  }
  return decisions
}
