// PiToMe: what has many like it merges, what stands alone is spared. arXiv 2405.16148
import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { type Folder, foldBest, geometricSteps, inTurn, matchIn, mergeTo } from '../fold-patches.js'
import { keep, real, word } from '../options.js'
import { topK } from '../select.js'
import { cosinesOf } from '../similar.js'

/**
 * In every block, between attention and MLP, which leaves the same share each time. A patch's energy is the mean over the patches of its crop of how alike they are, as far as that
 * is above a margin, which falls from block to block (below, it tends to -alpha). Twice as many patches as go, those with the most energy, are split in turn into A and B; each of A
 * merges into the most similar of B, weighted by the patches that they stand for. In the first blocks, if `plain` says so, merging is ToMe's.
 */
export const pitome = defineMethod({
  name: 'pitome',
  title:
    'merges patches that have many like them, in the blocks of the vision tower, and spares those that stand alone',
  paper: '2405.16148',
  acts: 'vision',
  options: {
    keep,
    margin: real(0.9, 'likeness that counts, in the first block; it falls to 0 behind the last', 0, 1),
    alpha: real(1, 'how much what is less alike takes away', 0, 1e6),
    plain: real(0, 'share of the blocks, the first ones, that merge as ToMe does', 0, 1),
    metric: word('keys', ['keys', 'hidden'], 'what is compared'),
  },
  looks(shape, { metric }, grant) {
    const blocks = Array.from({ length: shape.vision?.layers ?? 0 }, (_, layer) => layer)
    return blocks
      .filter((layer) => !keepsAll(grant.keep(shape, layer)))
      .map((layer) => ({
        at: 'vision',
        layer,
        part: 'mlp',
        needs: [{ what: WHAT[metric], layer }],
      }))
  },
  decide(seen, { alpha, margin, metric, plain }, grant) {
    if (seen.at !== 'vision') return null
    const { layer, sources, vision } = seen
    const target = geometricSteps(vision.layers, seen.given, grant.rows(seen))[layer] as number
    const least = margin * (1 - layer / vision.layers)
    const fold: Folder = (rows, remove, into) => {
      const alike = cosinesOf(seen, rows, WHAT[metric])
      if (layer < Math.ceil(plain * vision.layers)) {
        const halves = matchIn(alike, rows, ...inTurn(seen, rows))
        return foldBest(halves, topK(halves.similarity, remove), into, sources)
      }
      const pairs = Math.min(remove, (rows.to - rows.from) >> 1)
      const order = byEnergy(alike, rows.to - rows.from, least, alpha).slice(0, 2 * pairs)
      const places = order.map((row) => rows.from + row)
      const [a, b] = [places.filter((_, i) => i % 2 === 0), places.filter((_, i) => i % 2 === 1)]
      foldBest(matchIn(alike, rows, a, b), a.keys(), into, sources)
    }
    return mergeTo(seen, target, fold)
  },
})

const WHAT = { keys: 'keyCosines', hidden: 'cosines' } as const

/** Rows of [n × n] likeness by their energy, the largest first, of equals the first. */
function byEnergy(alike: Float32Array, n: number, margin: number, alpha: number): number[] {
  const energy = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    let sum = 0
    for (let j = 0; j < n; j++) {
      const over = (alike[i * n + j] as number) - margin
      sum += over > 0 ? over : alpha * Math.expm1(over)
    }
    energy[i] = sum / n
  }
  return [...energy.keys()].sort((a, b) => (energy[b] as number) - (energy[a] as number) || a - b)
}
