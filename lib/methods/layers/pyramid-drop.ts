// PyramidDrop: fewer and fewer tokens from stage to stage of the model. arXiv 2410.17247
import { layerMethod } from '../layer-method.js'
import type { Shape } from '../method.js'
import { layerList, list, real, word } from '../options.js'
import { checkStages, depths, partOf, ratiosOf } from '../stages.js'

const QUARTERS = [8, 16, 24]

export const pyramidDrop = layerMethod({
  name: 'pyramidDrop',
  title: 'drops prompt tokens before several layers by the attention that the last token would give them there',
  paper: '2410.17247',
  options: {
    layers: layerList(null, 'drops before these layers, ascending; null: ¼, ½ and ¾ of the model, rounded down', 1),
    ratios: list(
      real(1, '', 0, 1),
      [0.5, 0.25, 0.125],
      'share of the original count that goes on from each, rounded down',
    ),
    positions: word('repack', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  check: ({ layers, ratios }) => checkStages(layers, ratios, QUARTERS.length),
  layers: (options, shape) => [...stages(options, shape).keys()],
  needs: () => [{ what: 'attention', rows: 1, of: 'next' }],
  score: (seen) => seen.attention(),
  target: (seen, options) => partOf(stages(options, seen.shape).get(seen.layer) ?? 1, seen.given),
  positions: ({ positions }) => positions,
})

function stages(
  { layers, ratios }: { layers: readonly number[] | null; ratios: readonly number[] },
  shape: Shape,
): ReadonlyMap<number, number> {
  return ratiosOf(layers ?? depths(shape, QUARTERS), ratios)
}
