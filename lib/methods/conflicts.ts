// What methods claim, and the error where two claim the same.
import { TokensieveError } from '../errors.js'
import type { Decision, Look, Method, Shape } from './method.js'
import { partName } from './tower.js'

/** A method of a session, with its looks and what it decided before anything runs. */
export interface Part {
  readonly method: Method
  readonly looks: readonly Look[]
  readonly standing: readonly Decision[]
}

export function partOf(method: Method, shape: Shape): Part {
  const looks = method.looks(shape)
  const standing = looks.some(({ at }) => at === 'session') ? method.decide({ at: 'session', shape }) : []
  return { method, looks, standing }
}

/** ERR_METHOD_CONFLICT where two methods claim the same; names both and the layer. Methods that only probe claim nothing. */
export function checkConflicts(parts: readonly Part[]): void {
  const owners = new Map<string, string>()
  for (const part of parts) {
    const { acts, label } = part.method
    for (const claim of acts === 'probe' ? [] : claims(part)) {
      const owner = owners.get(claim)
      if (owner !== undefined) throw conflict(owner, label, claim)
      owners.set(claim, label)
    }
  }
  const skips = skippedAttention(parts)
  for (const { looks, method } of parts) {
    for (const look of looks) {
      const missing =
        look.at === 'layer'
          ? look.needs.map((need) => watchedLayer(need, look.layer)).find((layer) => skips.has(layer))
          : undefined
      if (missing !== undefined)
        throw conflict(
          skips.get(missing) as string,
          method.label,
          `the attention of layer ${missing}, which one skips and the other looks at`,
        )
    }
  }
}

export function conflict(a: string, b: string, what: string): TokensieveError {
  return new TokensieveError('ERR_METHOD_CONFLICT', `Expected one method for ${what}, but received ${a} and ${b}`)
}

/** Layer -> the method that skips its attention: it holds no cache and nothing can be seen of it. */
export function skippedAttention(parts: readonly Part[]): Map<number, string> {
  const skips = new Map<number, string>()
  for (const { method, standing } of parts) {
    for (const decision of standing)
      if (decision.action === 'skip' && (decision.what === 'attention' || decision.what === 'block'))
        skips.set(decision.layer, method.label)
  }
  return skips
}

function watchedLayer(need: { what: string; of?: string }, layer: number): number {
  if (need.what === 'hidden' || need.what === 'embedded' || need.what === 'class') return -1
  return need.of === 'before' ? layer - 1 : layer
}

function claims({ looks, standing }: Part): Set<string> {
  const claimed = new Set<string>()
  for (const look of looks) {
    if (look.at === 'vision') claimed.add(`the patches before ${partName(look)}`)
    if (look.at === 'layer') claimed.add(`the rows before layer ${look.layer}`)
    if (look.at === 'prompt' || look.at === 'decode')
      for (const layer of look.layers) claimed.add(`the cache of layer ${layer}`)
  }
  for (const decision of standing) {
    if (decision.action === 'rule') claimed.add(`the cache of layer ${decision.layer}`)
    if (decision.action !== 'skip') continue
    if (decision.what === 'heads') {
      for (const head of decision.heads) claimed.add(`head ${head} of layer ${decision.layer}`)
      continue
    }
    if (decision.what !== 'mlp') claimed.add(`the attention of layer ${decision.layer}`)
    if (decision.what !== 'attention') claimed.add(`the MLP of layer ${decision.layer}`)
  }
  return claimed
}
