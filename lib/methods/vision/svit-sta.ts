// Super tokens: patches belong to several cells of a coarse grid at once, by likeness. Of SViT, arXiv 2211.11167, the sampling; attention among super tokens and the way back are not here
import { keepsAll } from '../../budget.js'
import { cellsWithin } from '../cells.js'
import { defineMethod } from '../define.js'
import type { Crop } from '../method.js'
import { keep, whole, word } from '../options.js'
import { cropRows } from '../similar.js'
import { normed, type Share, superTokens } from '../super-tokens.js'
import { evenly } from '../vision-method.js'

/**
 * Before the projector. Cells as large as the budget wants them begin with the mean of their patches; each patch has a share in the nine cells around it, by softmax of its products
 * with them, and a cell becomes the mean of what has shares in it. Where the grid ends, missing cells count as zeros and take their part of the softmax, as in the paper, or do not.
 * Rows are compared with mean 0 and deviation 1, as a norm would hand them on. A budget that no grid meets keeps fewer.
 */
export const svitSta = defineMethod({
  name: 'svitSta',
  title: 'turns the picture into fewer rows, each a soft cluster of the patches around a cell of a coarse grid',
  paper: '2211.11167',
  acts: 'vision',
  options: {
    keep,
    rounds: whole(1, 'times that shares are worked out', 1),
    edge: word('zeros', ['zeros', 'open'], 'what lies beyond the last cells: rows of zeros, or nothing'),
  },
  looks(shape, _, grant) {
    const { vision } = shape
    if (vision === undefined || keepsAll(grant.keep(shape, vision.layers))) return []
    return { at: 'vision', part: 'projector' }
  },
  decide(seen, { edge, rounds }, grant) {
    if (seen.at !== 'vision') return null
    const target = grant.rows(seen)
    if (target >= seen.sources.length) return null
    const counts = evenly(seen, target)
    const hidden = seen.hidden()
    const size = hidden.length / seen.sources.length
    const sampling = { values: normed(hidden, size), size, rounds, edge }
    const sizes = seen.sizes()
    const into: number[] = []
    const weights: number[] = []
    // A crop that is too small for a row of its own goes.
    const crops = cropRows(seen).filter(({ crop }) => (counts[crop] ?? 0) > 0)
    for (const rows of crops) {
      const cells = cellsWithin(seen.crops[rows.crop] as Crop, counts[rows.crop] as number)
      const { heads, shares } = superTokens(seen, rows, cells, sampling)
      for (let place = rows.from; place < rows.to; place++) {
        const own = shares.get(place) as Share[]
        for (let i = 0; i < 9; i++) {
          const { cell, share } = own[i] ?? { ...(own[0] as Share), share: 0 }
          into.push(seen.sources[heads[cell] as number] as number)
          weights.push(i === 0 ? Math.max(1e-30, share * (sizes[place] as number)) : share * (sizes[place] as number))
        }
      }
    }
    const kept = crops.flatMap(({ from, to }) => [...seen.sources.subarray(from, to)])
    const blend = { action: 'blendPatches', layer: seen.layer, into, weights } as const
    return kept.length === seen.sources.length ? blend : [{ action: 'dropPatches', layer: seen.layer, kept }, blend]
  },
})
