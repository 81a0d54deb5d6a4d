// DivPrune: patches as far from each other as can be. arXiv 2503.02175
import { cosinesOf, cropRows } from '../similar.js'
import { visionMethod } from '../vision-method.js'

/**
 * Rows as the decoder would read them, by 1 - cosine. The first is the one farthest from its nearest neighbour; each next one is the farthest from those that were chosen. Crop by
 * crop: whether the picture shows the same twice is seen within one.
 */
export const divPrune = visionMethod({
  name: 'divPrune',
  title: 'keeps patches that differ most from each other where the decoder takes them over',
  paper: '2503.02175',
  options: {},
  place: (_, { layers }) => ({ layer: layers, part: 'decoder' }),
  needs: (_, { layers }) => [{ what: 'cosines', layer: layers }],
  score(seen, _, counts) {
    const scores = new Float64Array(seen.sources.length)
    for (const rows of cropRows(seen))
      scores.set(farthestFirst(cosinesOf(seen, rows), rows.to - rows.from, counts[rows.crop] ?? 0), rows.from)
    return scores
  },
})

/** [n]: the first chosen has n, the next n - 1, …; those that are not have their distance to the chosen. */
function farthestFirst(alike: Float32Array, n: number, count: number): Float64Array {
  const distance = new Float64Array(n).fill(Number.POSITIVE_INFINITY)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++)
      if (j !== i) distance[i] = Math.min(distance[i] as number, Math.max(0, 1 - (alike[i * n + j] as number)))
  const scores = new Float64Array(n)
  for (let turn = 0; turn < Math.min(count, n); turn++) {
    let best = -1
    for (let i = 0; i < n; i++)
      if (scores[i] === 0 && (best < 0 || (distance[i] as number) > (distance[best] as number))) best = i
    scores[best] = n + 2 - turn
    // The first was chosen by its nearest neighbour; from here on only those that are chosen count.
    if (turn === 0) distance.fill(Number.POSITIVE_INFINITY)
    for (let i = 0; i < n; i++)
      distance[i] = Math.min(distance[i] as number, Math.max(0, 1 - (alike[best * n + i] as number)))
  }
  return scores.map((score, i) => score || (distance[i] as number))
}
