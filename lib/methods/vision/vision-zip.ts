// VisionZip: the patches that the class token looks at, and a few that hold what the others say. arXiv 2412.04467
import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { type Folder, foldBest, matchRows, mergeTo } from '../fold-patches.js'
import { keep, real } from '../options.js'
import { topK } from '../select.js'
import { lines } from '../similar.js'
import { attended } from '../vision-method.js'

/**
 * Of what stays, a part is contextual, rounded down; the rest is dominant: the patches that the class token of the last block gives most (the other patches, where there is none).
 * Of those that are left every n-th is a target, as many as are contextual; each other one folds into the target with the most similar key and counts there as one. The class token
 * itself is not handed on. Means, not the sum of target and mean that the authors' code has: the projector has seen no vectors of twice the length.
 */
export const visionZip = defineMethod({
  name: 'visionZip',
  title: 'keeps the patches that the class token looks at and merges the others into a few',
  paper: '2412.04467',
  acts: 'vision',
  options: { keep, contextual: real(0.157, 'share of what stays that holds what the others say', 0, 1) },
  looks(shape, _, grant) {
    const { vision } = shape
    if (vision === undefined || keepsAll(grant.keep(shape, vision.layers))) return []
    const block = vision.layers - 1
    return { at: 'vision', part: 'projector', needs: [attended(vision, block), { what: 'keys', layer: block }] }
  },
  decide(seen, { contextual }, grant) {
    if (seen.at !== 'vision') return null
    const block = seen.vision.layers - 1
    const scores = seen.seen(attended(seen.vision, block).what, block)
    const { size, values } = lines(seen, 'keys', block)
    const gone = new Set<number>()
    const fold: Folder = ({ from, to }, remove, into) => {
      const stay = to - from - remove
      const few = Math.floor(contextual * stay)
      const dominant = new Set(topK(scores, stay - few, from, to))
      const rest = Array.from({ length: to - from }, (_, i) => from + i).filter((place) => !dominant.has(place))
      const step = Math.max(1, Math.floor(rest.length / Math.max(1, few)))
      const isTarget = (i: number) => i % step === 0 && i / step < few
      const others = rest.filter((_, i) => !isTarget(i))
      if (few === 0) for (const place of others) gone.add(place)
      else
        foldBest(
          matchRows(
            values,
            size,
            others,
            rest.filter((_, i) => isTarget(i)),
          ),
          others.keys(),
          into,
          seen.sources,
        )
    }
    const merged = mergeTo(seen, grant.rows(seen), fold, { scores })
    if (merged?.action !== 'mergePatches' || gone.size === 0) return merged
    const { into } = merged
    const kept = seen.sources.filter((source, place) => into[place] === source && !gone.has(place))
    return [merged, { action: 'dropPatches', layer: seen.layer, kept }]
  },
})
