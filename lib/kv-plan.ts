// What a plan says of a cache whose heads are not all stored alike: an entry for each layer, or for those of its heads that are, which is not in f16 throughout.
import { TokensieveError } from './errors.js'
import { type HeadKv, type KvGiven, parseKv } from './kv.js'
import { headsOf, type KvSettings } from './kv-heads.js'
import type { Shape } from './methods/index.js'
import type { PlanEntry } from './plan.js'

type Heads = Pick<Shape, 'layers' | 'kvHeads' | 'headSize'>

export function quantizeEntries(kv: KvSettings, shape: Heads): PlanEntry[] {
  const { kinds, of } = headsOf(kv, shape)
  if (kinds.length === 1) return []
  const entries: PlanEntry[] = []
  for (let layer = 0; layer < shape.layers; layer++) {
    const own = Array.from({ length: shape.kvHeads }, (_, head) => of[layer * shape.kvHeads + head] ?? 0)
    for (const kind of new Set(own)) {
      const { keys, values } = kinds[kind] as HeadKv
      if (keys === 'f16' && values === 'f16') continue
      const heads = own.flatMap((one, head) => (one === kind ? [head] : []))
      entries.push({
        ...{ phase: 'prompt', step: 0, layer, method: 'kv', action: 'quantize', before: 0, after: 0 },
        kv: { ...(kinds[kind] as HeadKv) },
        ...(heads.length < shape.kvHeads && { heads }),
      })
    }
  }
  return entries
}

/** The cache that a plan was made with. ERR_PLAN where it does not fit the model. */
export function kvOfPlan(plan: readonly PlanEntry[], { kvHeads, layers }: Heads): KvGiven {
  const except = plan.flatMap(({ action, heads, kv, layer }) => {
    if (action !== 'quantize' || !kv) return []
    const beyond = heads?.find((head) => head >= kvHeads)
    if (layer >= layers || beyond !== undefined) {
      const place = beyond === undefined ? `layer ${layer}` : `head ${beyond} of layer ${layer}`
      const said = `Expected a plan for ${layers} layers of ${kvHeads} KV heads but received one that acts on ${place}`
      throw new TokensieveError('ERR_PLAN', said)
    }
    return [{ layers: [layer, layer + 1] as const, ...(heads && { heads }), ...kv }]
  })
  return parseKv({ except })
}
