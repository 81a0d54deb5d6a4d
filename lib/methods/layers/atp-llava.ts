// ATP-LLaVA: how many patches stay is for thresholds to say, layer by layer. arXiv 2412.00447
import { defineMethod } from '../define.js'
import type { LayerSeen } from '../method.js'
import { layerList, real, word } from '../options.js'
import { depths } from '../stages.js'

/** All rows of any prompt. */
const ALL = 2 ** 20

/**
 * A patch is scored by what the other patches and the words behind it would give it in the layer (the mean of both means, each patch's over those that can see it), over the
 * largest such score; and by its place: 1 less lambda times the density of the sparsest grid that it lies on, of every fourth, third or second row and column. It stays where one
 * of the two is above its threshold. The paper learns thresholds for each prompt; here they are given, so that plain pictures keep fewer patches than cluttered ones.
 */
export const atpLlava = defineMethod({
  name: 'atpLlava',
  title: 'drops patches that neither words nor other patches look at, but keeps a sparse grid of the picture',
  paper: '2412.00447',
  acts: 'layers',
  options: {
    layers: layerList(null, 'drops before these layers; null: at 4, 14 and 24 32nds of the depth', 1),
    redundant: real(0.3, 'threshold of the score, over the largest; 0: all stay', 0, 1),
    spatial: real(0.8, 'threshold of the place; 1: places say nothing', 0, 1),
    lambda: real(3, 'how much a dense grid counts against its patches', 0, 100),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  looks: (shape, { layers, redundant }) =>
    (redundant === 0 ? [] : (layers ?? [...new Set(depths(shape, [4, 14, 24]))])).map((layer) => ({
      at: 'layer',
      layer,
      needs: [{ what: 'attention', rows: ALL, of: 'next' }, { what: 'question' }],
    })),
  decide(seen, { lambda, positions, redundant, spatial }) {
    if (seen.at !== 'layer' || seen.droppable.length === 0) return null
    const { droppable, layer, sources } = seen
    const scores = received(seen)
    const most = Math.max(...scores)
    const gone = new Set(
      [...droppable].filter(
        (place, i) => !((scores[i] as number) > redundant * most || spread(seen, place, lambda) > spatial),
      ),
    )
    return gone.size > 0
      ? { action: 'drop', layer, kept: sources.filter((_, place) => !gone.has(place)), positions }
      : null
  },
})

/** [droppable] */
function received(seen: LayerSeen): number[] {
  const { droppable } = seen
  const rows = seen.sources.length
  const { asking, attention } = seen.question()
  const all = seen.attention()
  return Array.from(droppable, (place, i) => {
    let words = 0
    for (let line = 0; line < asking.length; line++) words += attention[line * rows + place] as number
    const patches = Math.max(0, (all[place] as number) * rows - words) / (droppable.length - i)
    return (patches + words / asking.length) / 2
  })
}

/** The score of a place; 0 where it lies on no grid, or is no patch. */
function spread({ patch, sources }: LayerSeen, place: number, lambda: number): number {
  const at = patch?.(sources[place] as number)
  const step = at && [4, 3, 2].find((every) => at.row % every === 0 && at.column % every === 0)
  return step === undefined ? 0 : Math.max(0, 1 - lambda / step ** 2)
}
