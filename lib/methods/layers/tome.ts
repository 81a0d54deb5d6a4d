// ToMe: tokens that say the same are merged, not dropped. arXiv 2210.09461, here between two layers of a decoder
import { type Budget, keepsAll, parseBudget } from '../../budget.js'
import { rangeError } from '../../errors.js'
import { defineMethod } from '../define.js'
import type { LayerSeen, Shape } from '../method.js'
import { layerList, type Option, word } from '../options.js'
import { topK } from '../select.js'

const keep: Option<Budget | readonly Budget[]> = {
  default: 0.5,
  about: 'budget: a share, { tokens } or { bytes }, or a list of them, one a listed layer',
  parse: (value, name) =>
    Array.isArray(value)
      ? Object.freeze(value.map((one, i) => parseBudget(one, `${name}[${i}]`)))
      : parseBudget(value, name),
}

/**
 * Before each listed layer the droppable rows that are left are split in turn into A and B. Every row of A finds the row of B with the most similar key (cosine, keys averaged
 * over KV heads, un-rotated); the most similar pairs fold into their row of B, weighted by how many tokens each stands for, as many as the budget asks and at most half of the
 * rows in one step. The row of B keeps its place and position.
 */
export const tome = defineMethod({
  name: 'tome',
  title: 'merges prompt tokens with similar keys before chosen layers',
  paper: '2210.09461',
  acts: 'layers',
  options: {
    keep,
    layers: layerList(null, 'merges before these layers; null: ¼ and ½ of the model, rounded down', 1),
    metric: word('keys', ['keys'], 'what is compared'),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  check({ keep, layers }) {
    const count = layers?.length ?? 2
    if (Array.isArray(keep) && keep.length !== count)
      throw rangeError(`${count} budgets, one a layer,`, 'keep', keep.length)
  },
  keepAt: ({ keep, layers }, shape, layer) =>
    (Array.isArray(keep) ? (keep[listed(layers, shape).indexOf(layer)] ?? 1) : keep) as Budget,
  looks(shape, { layers }, grant) {
    const before = [...new Set(listed(layers, shape))].filter((layer) => !keepsAll(grant.keep(shape, layer)))
    return before.map((layer) => ({ at: 'layer', layer, needs: [{ what: 'partners' }] }))
  },
  decide(seen, { positions }, grant) {
    if (seen.at !== 'layer') return null
    const left = seen.droppable.length
    const pairs = Math.min(left - grant.rows(seen), left >> 1)
    return pairs > 0 ? { action: 'merge', layer: seen.layer, into: fold(seen, pairs), positions } : null
  },
})

function listed(layers: readonly number[] | null, { layers: depth }: Shape): readonly number[] {
  return layers ?? [Math.max(1, depth >> 2), Math.max(1, depth >> 1)]
}

/** [rows]: the source that holds each row after the `pairs` most similar pairs are merged. */
function fold({ droppable, partners, sources }: LayerSeen, pairs: number): Int32Array {
  const { partner, similarity } = partners()
  const into = sources.slice()
  for (const a of topK(similarity, pairs)) {
    into[droppable[2 * a] as number] = sources[droppable[2 * (partner[a] as number) + 1] as number] as number
  }
  return into
}
