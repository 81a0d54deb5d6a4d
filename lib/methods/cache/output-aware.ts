// MustDrop's output-aware cache: what no later layer needed, no token to come will. arXiv 2411.10803
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import { whole } from '../options.js'

/**
 * After a prompt that methods have thinned between layers, tokens that did not reach the last layer give up their rows in the caches from layer `from` on; those before it stay whole.
 * Layers behind the last cut hold survivors alone. Beside `fastv`, `pyramidDrop`, `tome` or any other method that drops or merges tokens; it takes no budget of its own.
 */
export const outputAware = defineMethod({
  name: 'outputAware',
  title: 'drops the cache rows of tokens that another method has dropped before a later layer',
  paper: '2411.10803',
  acts: 'cache',
  options: { from: whole(2, 'the first layer whose cache gives up rows') },
  looks: (shape, { from }) => ({ at: 'prompt', layers: allLayers(shape).slice(from) }),
  decide(seen) {
    if (seen.at !== 'prompt') return null
    const gone = new Set(seen.gone())
    if (gone.size === 0) return null
    const heads = Array.from({ length: seen.shape.kvHeads }, (_, head) => head)
    const keptPerHead = heads.map((head) => seen.sources(head).filter((source) => !gone.has(source)))
    return { action: 'evict', layer: seen.layer, keptPerHead }
  },
})
