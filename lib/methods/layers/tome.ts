// ToMe: tokens that say the same are merged, not dropped. arXiv 2210.09461: in the blocks of the vision tower, and here between two layers of a decoder as well
import { type Budget, keepsAll, parseBudget } from '../../budget.js'
import { rangeError } from '../../errors.js'
import { defineMethod, type Grant } from '../define.js'
import { foldBest, inTurn, linearSteps, matchIn, mergeTo } from '../fold-patches.js'
import type { Decision, LayerSeen, Shape, VisionSeen } from '../method.js'
import { layerList, type Option, real, word } from '../options.js'
import { topK } from '../select.js'
import { cosinesOf } from '../similar.js'

const keep: Option<Budget | readonly Budget[]> = {
  default: 0.5,
  about: 'budget: a share, { tokens } or { bytes }, or a list of them, one a listed layer',
  parse: (value, name) =>
    Array.isArray(value)
      ? Object.freeze(value.map((one, i) => parseBudget(one, `${name}[${i}]`)))
      : parseBudget(value, name),
}

interface Options {
  readonly keep: Budget | readonly Budget[]
  readonly acts: 'layers' | 'vision'
  readonly layers: readonly number[] | null
  readonly inflection: number
}

/**
 * Rows are split in turn into A and B. Every row of A finds the row of B with the most similar key (cosine, keys averaged over KV heads, un-rotated); the most similar pairs fold
 * into their row of B, weighted by how many tokens each stands for, as many as the budget asks and at most half of the rows in one step. The row of B keeps its place and position.
 * In layers these are the droppable rows that are left before each listed layer. In the tower patches merge between attention and MLP of every block (or those listed), about as
 * many in each, so that the last one leaves the budget, and rows count in attention as all the patches that they stand for.
 */
export const tome = defineMethod({
  name: 'tome',
  title: 'merges prompt tokens with similar keys before chosen layers, or patches in the blocks of the vision tower',
  paper: '2210.09461',
  acts: ({ acts }) => acts,
  options: {
    keep,
    acts: word('layers', ['layers', 'vision'], 'where it merges'),
    layers: layerList(
      null,
      'merges before these layers, or in these blocks; null: ¼ and ½ of the model, rounded down, or every block',
    ),
    inflection: real(0, 'in the tower -1: most merge in the first blocks, 1: in the last ones', -1, 1),
    metric: word('keys', ['keys'], 'what is compared'),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  check({ acts, keep, layers }) {
    if (acts === 'layers' && layers?.includes(0)) throw rangeError('a whole number from 1', 'layers', 0)
    const count = layers?.length ?? (acts === 'layers' ? 2 : undefined)
    if (Array.isArray(keep) && keep.length !== count)
      throw rangeError(`${count ?? 'no list of'} budgets, one a layer,`, 'keep', keep.length)
  },
  keepAt: ({ keep, ...options }, shape, layer) =>
    (Array.isArray(keep) ? (keep[listed(options, shape).indexOf(layer)] ?? 1) : keep) as Budget,
  looks(shape, options, grant) {
    const before = [...new Set(listed(options, shape))].filter((layer) => !keepsAll(grant.keep(shape, layer)))
    if (options.acts === 'layers') return before.map((layer) => ({ at: 'layer', layer, needs: [{ what: 'partners' }] }))
    return before.map((layer) => ({ at: 'vision', layer, part: 'mlp', needs: [{ what: 'keyCosines', layer }] }))
  },
  decide(seen, options, grant) {
    if (seen.at === 'vision') return mergePatches(seen, options, grant)
    if (seen.at !== 'layer') return null
    const left = seen.droppable.length
    const pairs = Math.min(left - grant.rows(seen), left >> 1)
    const { positions } = options
    return pairs > 0 ? { action: 'merge', layer: seen.layer, into: fold(seen, pairs), positions } : null
  },
})

function listed(
  { acts, layers }: Pick<Options, 'acts' | 'layers'>,
  { layers: depth, vision }: Shape,
): readonly number[] {
  if (acts === 'vision') return vision ? (layers ?? Array.from({ length: vision.layers }, (_, block) => block)) : []
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

function mergePatches(seen: VisionSeen, options: Options, grant: Grant): Decision | null {
  const blocks = listed(options, seen.shape)
  const steps = linearSteps(blocks.length, seen.given, grant.rows(seen), options.inflection)
  const target = Array.isArray(options.keep) ? grant.rows(seen) : (steps[blocks.indexOf(seen.layer)] as number)
  const fold = (rows: Parameters<typeof inTurn>[1], remove: number, into: Int32Array) => {
    const halves = matchIn(cosinesOf(seen, rows, 'keyCosines'), rows, ...inTurn(seen, rows))
    foldBest(halves, topK(halves.similarity, remove), into, seen.sources)
  }
  return mergeTo(seen, target, fold, { proportional: true })
}
