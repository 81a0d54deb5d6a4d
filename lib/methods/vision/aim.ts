// AIM: patches fold by halves before the decoder reads them, and leave it layer by layer by a PageRank over its attention. arXiv 2412.03248

import { keepsAll } from '../../budget.js'
import { defineMethod, type Grant } from '../define.js'
import { mergeTo } from '../fold-patches.js'
import { foldHalves } from '../halves.js'
import { dropTo } from '../layer-method.js'
import type { Decision, LayerSeen, Shape, VisionSeen } from '../method.js'
import { keep, type Option, real, whole, word } from '../options.js'
import { depths, partOf } from '../stages.js'
import { anyPlace } from '../vision-method.js'

const layerOrNone = whole(0, '', 1)
const from: Option<number | null> = {
  default: null,
  about: 'last layer that reads all patches; null: half of the depth',
  parse: (value, name) => (value === null ? null : layerOrNone.parse(value, name)),
}

interface Pruning {
  readonly from: number | null
  readonly slope: number
  readonly temperature: number
  readonly rounds: number
}

/**
 * Merging: in each round the rows are split in turn into A and B; those of A most like a row of B fold into it, at most half of all, and it becomes the plain mean of what it is made
 * of, whatever that stands for. Rounds go on until the budget is met: a quarter is two of them.
 *
 * Pruning: behind layer `from` another eighth of the patches that came goes before each layer, with `slope` 0.125 in a model of 32 layers; in others as much over the same share of
 * the depth. Those stay that rank highest after a few steps of PageRank, in which every row hands its rank on as its attention in that layer says, sharpened by a temperature. (The paper
 * ranks by the layer before, which has run.)
 */
export const aim = defineMethod({
  name: 'aim',
  title: 'merges patches by halves, those most alike first, and drops more before each later layer by PageRank',
  paper: '2412.03248',
  acts: 'vision',
  options: {
    keep,
    part: word('merge', ['merge', 'prune', 'both'], 'what it does; pruning takes no budget'),
    from,
    slope: real(0.125, 'share of the patches that goes before each of the next layers, of 32', 0, 1),
    temperature: real(0.1, 'what scores are divided by before the softmax', 0.001, 1000),
    rounds: whole(5, 'steps of PageRank', 1, 1000),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays between layers'),
  },
  looks(shape, options, grant) {
    const { part, rounds, temperature } = options
    const { vision } = shape
    const merges = part !== 'prune' && vision !== undefined && !keepsAll(grant.keep(shape, vision.layers))
    const needs = [{ what: 'rank', temperature, rounds }] as const
    return [
      ...(merges ? [{ ...anyPlace(vision), needs: [{ what: 'cosines', layer: vision.layers }] } as const] : []),
      ...(part === 'merge' || (part === 'both' && !merges) ? [] : pruned(shape, options)).map(
        (layer) => ({ at: 'layer', layer, needs }) as const,
      ),
    ]
  },
  decide(seen, options, grant) {
    if (seen.at === 'vision') return merge(seen, grant)
    if (seen.at !== 'layer') return null
    return prune(seen, options)
  },
})

/** Layers before which patches go, until none is left. */
function pruned(shape: Shape, options: Pruning): number[] {
  const layers = Array.from({ length: shape.layers }, (_, layer) => layer)
  const rate = (layer: number) => rateBefore(layer, shape, options)
  return layers.filter((layer) => layer > 0 && rate(layer) < 1 && rate(layer - 1) > 0)
}

/** Share of the patches that goes on before a layer. */
function rateBefore(layer: number, shape: Shape, { from, slope }: Pruning): number {
  const behind = layer - (from ?? (depths(shape, [16])[0] as number))
  return behind <= 0 ? 1 : Math.max(0, 1 - (slope * behind * 32) / shape.layers)
}

function prune(seen: LayerSeen, options: Pruning & { positions: 'keep' | 'repack' }): Decision | null {
  const target = partOf(rateBefore(seen.layer, seen.shape, options), seen.came)
  return dropTo(seen, target, () => seen.rank(), options.positions)
}

function merge(seen: VisionSeen, grant: Grant): Decision | null {
  const weights = new Float64Array(seen.sources.length).fill(1)
  return mergeTo(seen, grant.rows(seen), foldHalves(seen, weights), { weights })
}
