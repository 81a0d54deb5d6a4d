// DyVTE: once the words have taken in the picture, its rows leave, all at once. arXiv 2411.19628
import { defineMethod } from '../define.js'
import type { LayerSeen, Shape } from '../method.js'
import { type Option, real, whole, word } from '../options.js'

const fixed = whole(0, '', 1)
const layer: Option<number | null> = {
  default: null,
  about: 'they leave before this layer; null: where the last row looks at them no more',
  parse: (value, name) => (value === null ? null : fixed.parse(value, name)),
}

/**
 * The paper trains a gate for each layer. Without one, as here, the rows leave before the first layer behind which they are no more looked at: the last row of the prompt gave
 * them less than `least` of its attention in the layer before. Positions stay as they are. Of a prompt with pictures only patches leave.
 */
export const dyvte = defineMethod({
  name: 'dyvte',
  title: 'drops all patches at once, where the last row of the prompt does not look at them any more',
  paper: '2411.19628',
  acts: 'layers',
  options: {
    layer,
    from: real(1 / 3, 'depth, as a share, before which they stay in any case', 0, 1),
    least: real(0.02, 'share of the attention below which they leave', 0, 1),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  looks: (shape, { from, layer }) =>
    candidates(shape, from, layer).map((before) => ({
      at: 'layer',
      layer: before,
      needs: layer === null ? [{ what: 'attention', rows: 1, of: 'before' }] : [],
    })),
  decide(seen, { layer, least, positions }) {
    if (seen.at !== 'layer') return null
    const leaving = new Set(patchesIn(seen))
    if (leaving.size === 0 || (layer === null && lookedAt(seen, leaving) >= least)) return null
    const kept = seen.sources.filter((_, place) => !leaving.has(place))
    return { action: 'drop', layer: seen.layer, kept, positions }
  },
})

function candidates({ layers }: Shape, from: number, fixed: number | null): number[] {
  if (fixed !== null) return [fixed]
  const first = Math.max(1, Math.floor(from * layers + 1e-9))
  return Array.from({ length: Math.max(0, layers - first) }, (_, i) => first + i)
}

/** Places of patches; of all rows that may go where none is one. */
function patchesIn({ droppable, patch, sources }: LayerSeen): number[] {
  const all = [...droppable]
  const pictures = all.filter((place) => patch?.(sources[place] as number) !== undefined)
  return pictures.length > 0 ? pictures : all
}

function lookedAt(seen: LayerSeen, places: ReadonlySet<number>): number {
  const attention = seen.attention()
  let sum = 0
  for (const place of places) sum += attention[place] as number
  return sum
}
