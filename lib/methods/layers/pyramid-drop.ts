// PyramidDrop: fewer and fewer tokens from stage to stage of the model. arXiv 2410.17247
import { rangeError } from '../../errors.js'
import { layerMethod } from '../layer-method.js'
import type { LayerSeen, Shape } from '../method.js'
import { layerList, list, real, word } from '../options.js'

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
  check({ layers, ratios }) {
    const count = layers?.length ?? 3
    if (ratios.length !== count) throw rangeError(`${count} ratios, one a layer,`, 'ratios', ratios.length)
    if (layers?.some((layer, i) => layer <= (layers[i - 1] ?? 0)))
      throw rangeError('ascending layers', 'layers', layers.join(', '))
    if (ratios.some((ratio, i) => ratio > (ratios[i - 1] ?? 1)))
      throw rangeError('ratios that do not grow', 'ratios', ratios.join(', '))
  },
  layers: ({ layers, ratios }, shape) => [...stages(layers, ratios, shape).keys()],
  needs: () => [{ what: 'attention', rows: 1, of: 'next' }],
  score: (seen) => seen.attention(),
  target: (seen, { layers, ratios }) =>
    Math.floor((stages(layers, ratios, seen.shape).get(seen.layer) ?? 1) * seen.given + 1e-9),
  positions: ({ positions }) => positions,
})

/** layer -> ratio. In a model with fewer layers than stages the later ratio of a layer counts; a ratio of 1 needs no stage. */
function stages(
  layers: readonly number[] | null,
  ratios: readonly number[],
  shape: LayerSeen['shape'] | Shape,
): Map<number, number> {
  const before = layers ?? [1, 2, 3].map((quarter) => Math.max(1, Math.floor((quarter * shape.layers) / 4)))
  const pairs = before.map((layer, i) => [layer, ratios[i] ?? 1] as const)
  return new Map(pairs.filter(([, ratio]) => ratio < 1))
}
