// p-MoD: the deeper a layer, the fewer patches take part in it; those that pass it by come back. arXiv 2412.04449
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import type { LayerSeen, Shape } from '../method.js'
import { real } from '../options.js'
import { topK } from '../select.js'
import { partOf } from '../stages.js'

/**
 * Of the patches that came a share takes part in each layer: half a cosine over the depth, around `mean`; where it is above `most` all do, and nowhere fewer than `least`. The others
 * keep what they are, have no row in the layer's cache, and may take part in the next one. The first layer is never passed by.
 *
 * The paper trains a router for each layer, and the model with it. This is its schedule without training: those take part that the words behind the picture would look at most in
 * that layer, and nothing is weighed.
 */
export const pMod = defineMethod({
  name: 'pMod',
  title: 'lets fewer and fewer patches take part in a layer, the deeper it is; the others pass it by and may come back',
  paper: '2412.04449',
  acts: 'layers',
  options: {
    mean: real(0.5, 'share around which the cosine swings', 0, 1),
    most: real(0.85, 'share above which all take part', 0, 1),
    least: real(0.15, 'share below which it does not fall', 0, 1),
  },
  looks: (shape, options) =>
    allLayers(shape)
      .filter((layer) => layer > 0 && shareIn(layer, shape, options) < 1)
      .map((layer) => ({ at: 'layer', layer, needs: [{ what: 'question' }] })),
  decide(seen, options) {
    if (seen.at !== 'layer') return null
    const { came, droppable, layer, sources } = seen
    const count = partOf(shareIn(layer, seen.shape, options), came)
    if (count >= droppable.length) return null
    const scores = givenByWords(seen)
    const passing = new Uint8Array(sources.length)
    for (const place of droppable) passing[place] = 1
    for (const best of topK(scores, count)) passing[droppable[best] as number] = 0
    return { action: 'pass', layer, what: 'block', kept: sources.filter((_, place) => passing[place] === 0), scores }
  },
})

function shareIn(
  layer: number,
  { layers }: Shape,
  { least, mean, most }: { least: number; mean: number; most: number },
): number {
  const share = mean + Math.cos((Math.PI * layer) / Math.max(1, layers - 1)) / 2
  return share > most ? 1 : Math.max(least, share)
}

/** [droppable] */
function givenByWords({ droppable, question, sources }: LayerSeen): Float64Array {
  const { asking, attention } = question()
  const sums = new Float64Array(droppable.length)
  for (let line = 0; line < asking.length; line++)
    for (const [i, place] of droppable.entries())
      sums[i] = (sums[i] as number) + (attention[line * sources.length + place] as number)
  return sums
}
