// A cache method under watch: it may drop so much of the attention and no more, and keeps more rows, or all, where it would.
import { rangeError, typeError } from '../../errors.js'
import { asMethod, type MethodLike, makeMethod } from '../define.js'
import type { CacheSeen, Decision, KeepOf, Look, Method, Seen, Shape } from '../method.js'

/** How much more than before a head keeps when too much would go. */
const LOOSEN = 1.25

/**
 * The method, but no head of a layer loses more than `maxDropped` of the attention that its rows have gathered, those that went included: where more would go, the layer keeps more rows,
 * and all of them where nothing less will do. A method with a standing rule is watched at every decode step, row by row: a row that would make it too much stays, beyond the
 * budget, until enough attention has gone elsewhere. Others look again with `every(n, guard(…))`.
 */
export function guard(method: MethodLike, maxDropped: number): Method {
  if (typeof maxDropped !== 'number') throw typeError('a share of the attention', 'maxDropped', maxDropped)
  if (!(maxDropped >= 0 && maxDropped <= 1)) throw rangeError('a share from 0 to 1', 'maxDropped', maxDropped)
  const inside = asMethod(method, 'method')
  if (inside.acts !== 'cache' || inside.withKeep === undefined)
    throw typeError('a method that acts on the cache and takes `keep`', 'method', inside.label)
  const definition = {
    name: 'guard',
    acts: inside.acts,
    label: () => `guard(${inside.label})`,
    repack: inside.repack,
    looks: (shape: Shape) => inside.looks(shape).flatMap(watching),
    decide: (seen: Seen) => loosened(inside, seen, maxDropped),
    takesKeep: true,
    withKeep(_: unknown, keepOf: KeepOf) {
      const other = inside.withKeep?.(keepOf)
      return other && guard(other, maxDropped)
    },
  }
  return makeMethod(definition, Object.freeze({ method: inside, maxDropped }))
}

function watching(look: Look): Look[] {
  if (look.at === 'session') return [look]
  if (look.at !== 'prompt' && look.at !== 'decode') return []
  const { needs } = look
  const others = needs.filter(({ what }) => what !== 'columnSums')
  return [{ ...look, needs: [...others, { what: 'columnSums' }] }]
}

function loosened(inside: Method, seen: Seen, maxDropped: number): Decision[] {
  if (seen.at === 'session') return inside.decide(seen).map((decision) => ruled(inside, decision, maxDropped))
  if (seen.at !== 'prompt' && seen.at !== 'decode') return []
  let decisions = inside.decide(seen)
  let tokens = 0
  while (decisions.some((one) => droppedBy(one, seen) > maxDropped)) {
    tokens = Math.ceil(Math.max(tokens, meanRows(decisions)) * LOOSEN)
    const budget = { tokens }
    decisions = inside.withKeep?.(() => budget).decide(seen) ?? []
  }
  return decisions.map((decision) => ({ method: inside.label, ...decision }))
}

function ruled(inside: Method, decision: Decision, maxDropped: number): Decision {
  if (decision.action !== 'rule') return decision
  return { method: inside.label, ...decision, rule: { ...decision.rule, maxDropped } }
}

function meanRows(decisions: readonly Decision[]): number {
  const heads = decisions.flatMap((one) => (one.action === 'evict' ? one.keptPerHead : []))
  return heads.reduce((sum, kept) => sum + kept.length, 0) / heads.length
}

/** The largest share of a head's accumulated attention that would be gone. */
function droppedBy(decision: Decision, seen: CacheSeen): number {
  if (decision.action !== 'evict') return 0
  const shares = decision.keptPerHead.map((kept, head) => {
    const sources = seen.sources(head)
    const mass = seen.columnSums(head)
    let all = 0
    let stays = 0
    for (let row = 0, at = 0; row < sources.length; row++) {
      all += mass[row] as number
      if (kept[at] !== sources[row]) continue
      stays += mass[row] as number
      at++
    }
    const before = seen.dropped?.(head) ?? 0
    return all > stays ? (before + all - stays) / (before + all) : 0
  })
  return Math.max(...shares)
}
