// VTC-CLS: the class token knows which patches matter, if the blocks are asked together. arXiv 2412.05819
import type { VisionSeen, VisionShape } from '../method.js'
import { real, word } from '../options.js'
import { attended, visionMethod } from '../vision-method.js'

/**
 * A patch's score is what the class token gives it (mean over heads), added up over the last blocks that run. Without a class token it is what the patches give each other.
 */
export const vtcCls = visionMethod({
  name: 'vtcCls',
  title: 'keeps the patches that the class token looks at in the last blocks of the vision tower',
  paper: '2412.05819',
  options: {
    from: real(2 / 3, 'depth of the first block that is asked, as a share; 1: the last block alone', 0, 1),
    combine: word('sum', ['sum', 'max', 'min'], 'how blocks come together'),
  },
  needs: ({ from }, vision) => asked(from, vision).map((layer) => attended(vision, layer)),
  score(seen, { combine, from }) {
    const all = asked(from, seen.vision).map((layer) => looked(seen, layer))
    return (all[0] ?? []).map((_, row) => {
      const values = all.map((one) => one[row] as number)
      return combine === 'sum' ? values.reduce((sum, value) => sum + value, 0) : Math[combine](...values)
    })
  },
})

function looked({ seen, vision }: VisionSeen, layer: number): number[] {
  return Array.from(seen(attended(vision, layer).what, layer))
}

/** A tower of CLIP has one block more than it runs. */
function asked(from: number, { layers }: VisionShape): number[] {
  const first = Math.min(layers - 1, Math.floor(from * (layers + 1) + 1e-9))
  return Array.from({ length: layers - first }, (_, i) => first + i)
}
