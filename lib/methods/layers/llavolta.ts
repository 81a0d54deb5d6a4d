// LLaVolta's visual context compressor: plain average pooling before one layer. arXiv 2406.20092
import { defineMethod } from '../define.js'
import type { Crop, LayerSeen } from '../method.js'
import { whole, word } from '../options.js'

/**
 * Rows of each picture (or of the text that may go) that are left are taken by `stride`, in order; each group becomes its mean, at the position of its middle, which is the mean of
 * theirs rounded down. What is over forms a smaller group. What the paper is about, training in stages, is not here: this is what its models can be run with.
 */
export const llavolta = defineMethod({
  name: 'llavolta',
  title: 'averages neighbouring patches before one layer: the cheapest way to fewer rows',
  paper: '2406.20092',
  acts: 'layers',
  options: {
    layer: whole(2, 'averages before this layer', 1),
    stride: whole(8, 'rows that become one', 1),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  looks: (_, { layer, stride }) => (stride > 1 ? { at: 'layer', layer } : []),
  decide(seen, { positions, stride }) {
    if (seen.at !== 'layer') return null
    const into = seen.sources.slice()
    for (const span of spans(seen)) {
      for (let first = 0; first < span.length; first += stride) {
        const group = span.slice(first, first + stride)
        const middle = seen.sources[group[(group.length - 1) >> 1] as number] as number
        for (const place of group) into[place] = middle
      }
    }
    return { action: 'merge', layer: seen.layer, into, positions }
  },
})

/** Places of droppable rows, picture by picture; what stands between the rows of a picture and is no patch stays as it is. Of text what stands together. */
function spans({ droppable, patch, sources }: LayerSeen): number[][] {
  const names = Array.from(droppable, (place) => nameOf(patch?.(sources[place] as number)?.crop))
  const pictures = names.some((name) => name !== '')
  const all: number[][] = []
  let before: { name: string; place: number } | undefined
  for (const [i, place] of droppable.entries()) {
    const name = names[i] as string
    if (pictures && name === '') continue
    const goesOn = before && (pictures ? before.name === name : before.place === place - 1)
    if (goesOn) all[all.length - 1]?.push(place)
    else all.push([place])
    before = { name, place }
  }
  return all
}

/** Tiles of a picture are one, its thumbnail and each frame of a film are others. */
function nameOf(crop: Crop | undefined): string {
  if (crop === undefined) return ''
  return `${crop.image} ${crop.kind} ${crop.kind === 'frame' ? crop.row : ''}`
}
