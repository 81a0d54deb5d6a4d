// LLM-Drop: not all attention is needed. Chosen sub-layers do not run; a layer without attention owns no cache. arXiv 2406.15786
import { defineMethod } from '../define.js'
import { checkLayer } from '../grant.js'
import type { Shape } from '../method.js'
import { layerList, word } from '../options.js'

export const llmDrop = defineMethod({
  name: 'llmDrop',
  title: 'skips the attention, the MLP or the whole of chosen layers',
  paper: '2406.15786',
  acts: 'layers',
  options: {
    layers: layerList(
      null,
      'layers that are skipped; null: those at 22, 24, 25 and 26 32nds of the depth, the example of the paper',
    ),
    what: word('attention', ['attention', 'mlp', 'block'], 'what of them'),
  },
  looks(shape, { layers }) {
    for (const layer of layers ?? []) checkLayer(layer, 0, shape, 'layers')
    return layers?.length === 0 ? [] : { at: 'session' }
  },
  decide: ({ shape }, { layers, what }) => (layers ?? usual(shape)).map((layer) => ({ action: 'skip', layer, what })),
})

function usual({ layers }: Shape): number[] {
  const depths = [22, 24, 25, 26].map((part) => Math.floor((part * layers) / 32))
  return [...new Set(depths)].filter((layer) => layer > 0)
}
