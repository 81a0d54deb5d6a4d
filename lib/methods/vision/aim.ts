// AIM, its merging: patches fold by halves, round after round, before the decoder reads them. arXiv 2412.03248

import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { type Folder, matchRows, mergeTo } from '../fold-patches.js'
import { keep } from '../options.js'
import { topK } from '../select.js'
import { lines } from '../similar.js'
import { anyPlace } from '../vision-method.js'

/**
 * In each round the rows are split in turn into A and B; those of A most like a row of B fold into it, at most half of all, and it becomes the plain mean of what it is made of,
 * whatever that stands for. Rounds go on until the budget is met: a quarter is two of them. The paper's pruning in the decoder, by a PageRank over all heads, is not here.
 */
export const aim = defineMethod({
  name: 'aim',
  title: 'merges patches by halves, those most alike first, until the budget is met',
  paper: '2412.03248',
  acts: 'vision',
  options: { keep },
  looks(shape, _, grant) {
    const { vision } = shape
    return vision === undefined || keepsAll(grant.keep(shape, vision.layers)) ? [] : anyPlace(vision)
  },
  decide(seen, _, grant) {
    if (seen.at !== 'vision') return null
    const { size, values } = lines(seen, 'hidden', 0)
    const weights = new Float64Array(seen.sources.length).fill(1)
    const fold: Folder = ({ from, to }, remove, into) => {
      let rows = Array.from({ length: to - from }, (_, i) => [from + i])
      let at: Float32Array = values.slice(from * size, to * size)
      for (let left = remove; left > 0; ) {
        const count = Math.min(left, rows.length >> 1)
        ;({ rows, at } = round(rows, at, size, count, weights))
        left -= count
      }
      for (const [holder, ...others] of rows)
        for (const place of others) into[place] = seen.sources[holder as number] as number
    }
    return mergeTo(seen, grant.rows(seen), fold, { weights })
  },
})

/** One round. rows: the patches of each row, the one that holds them first; at [rows × size]; weights: of patches, in the means so far. */
function round(
  rows: readonly number[][],
  at: Float32Array,
  size: number,
  count: number,
  weights: Float64Array,
): { rows: number[][]; at: Float32Array } {
  const places = [...rows.keys()]
  const halves = matchRows(
    at,
    size,
    places.filter((i) => i % 2 === 0),
    places.filter((i) => i % 2 === 1),
  )
  const groups = new Map(places.map((place) => [place, [place]]))
  for (const i of topK(halves.similarity, count)) {
    const from = halves.a[i] as number
    groups.delete(from)
    groups.get(halves.b[halves.partner[i] as number] as number)?.push(from)
  }
  const out = new Float32Array(groups.size * size)
  const next = [...groups.values()].map((members, row) => {
    for (const member of members)
      for (let c = 0; c < size; c++)
        out[row * size + c] = (out[row * size + c] as number) + (at[member * size + c] as number) / members.length
    const patches = members.flatMap((member) => rows[member] as number[])
    for (const patch of patches) weights[patch] = (weights[patch] as number) / members.length
    return patches
  })
  return { rows: next, at: out }
}
