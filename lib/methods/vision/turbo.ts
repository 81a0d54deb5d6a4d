// Turbo: what merges is alike and says little. arXiv 2407.11717
import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { type Folder, foldBest, inTurn, linearSteps, matchIn, mergeTo } from '../fold-patches.js'
import { keep, real } from '../options.js'
import { topK } from '../select.js'
import { cosinesOf } from '../similar.js'
import { attended } from '../vision-method.js'

/**
 * In every block, between attention and MLP: patches split in turn into A and B, each of A finds the nearest of B by its key, and those of A merge first that are most like their
 * partner and are least looked at by the class token (by the other patches, where there is none). About as many merge in each block; rows count in attention as all the patches
 * that they stand for.
 */
export const turbo = defineMethod({
  name: 'turbo',
  title: 'merges patches with similar keys that the class token does not look at, in the blocks of the vision tower',
  paper: '2407.11717',
  acts: 'vision',
  options: {
    keep,
    alpha: real(1, 'weight of what the class token gives, against likeness; 0: ToMe', 0, 1e6),
    beta: real(1, 'that weight changes by this factor from block to block', 0, 1),
    gamma: real(0, 'the block where it is whole', 0, 1e6),
    scale: real(30, 'factor of the weight; the paper has pictures of about 200 patches', 0, 1e6),
  },
  looks(shape, _, grant) {
    const { vision } = shape
    const blocks = Array.from({ length: vision?.layers ?? 0 }, (_, layer) => layer)
    return blocks.flatMap((layer) => {
      if (vision === undefined || keepsAll(grant.keep(shape, layer))) return []
      return [
        { at: 'vision', layer, part: 'mlp', needs: [{ what: 'keyCosines', layer }, attended(vision, layer)] } as const,
      ]
    })
  },
  decide(seen, { alpha, beta, gamma, scale }, grant) {
    if (seen.at !== 'vision') return null
    const steps = linearSteps(seen.vision.layers, seen.given, grant.rows(seen))
    const weight = alpha * scale * beta ** Math.abs(gamma - seen.layer)
    const looked = seen.seen(attended(seen.vision, seen.layer).what, seen.layer)
    const fold: Folder = (rows, remove, into) => {
      const halves = matchIn(cosinesOf(seen, rows, 'keyCosines'), rows, ...inTurn(seen, rows))
      const rank = Float64Array.from(
        halves.similarity,
        (similarity, i) => similarity - weight * (looked[halves.a[i] as number] as number),
      )
      foldBest(halves, topK(rank, remove), into, seen.sources)
    }
    return mergeTo(seen, steps[seen.layer] as number, fold, { proportional: true })
  },
})
