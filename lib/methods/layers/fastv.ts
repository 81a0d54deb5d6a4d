// FastV: after the first layers, keep the tokens that the last one looks at. arXiv 2403.06764
import { layerMethod } from '../layer-method.js'
import { keep, whole, word } from '../options.js'

export const fastv = layerMethod({
  name: 'fastv',
  title: 'drops prompt tokens before one layer by the attention of the last token in the layer before it',
  paper: '2403.06764',
  options: {
    keep,
    layer: whole(2, 'drops before this layer', 1),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  layers: ({ layer }) => [layer],
  needs: () => [{ what: 'attention', rows: 1, of: 'before' }],
  score: (seen) => seen.attention(),
  positions: ({ positions }) => positions,
})
