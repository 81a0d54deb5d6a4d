// MustDrop: plain windows merge early in the tower, patches that no word looks at go between layers. arXiv 2411.10803; its third stage, evicting what the last layers have dropped, is not here
import { defineMethod } from '../define.js'
import type { Crop, Decision, LayerSeen, VisionSeen } from '../method.js'
import { layerList, real, whole, word } from '../options.js'
import { topK } from '../select.js'
import { cosines, cropRows, lines } from '../similar.js'
import { depths } from '../stages.js'

/**
 * In the tower, before block 1: windows of the grid whose patches are alike (mean cosine of the pairs of hidden rows) become one row, at the place of their first. In the decoder,
 * before the listed layers: a row goes where the words behind it would give it less than `gamma` of what they give all of them, and none of them more than `alpha`; the best share of
 * the patches by what the class token gives them in the tower's last block, `spared`, never goes. Without a class token nothing is spared.
 */
export const mustDrop = defineMethod({
  name: 'mustDrop',
  title: 'merges plain windows early in the vision tower, and drops patches that no word looks at between layers',
  paper: '2411.10803',
  acts: 'vision',
  options: {
    window: whole(3, 'side of a window, in patches', 2),
    similar: real(0.8, 'likeness from which a window becomes one row; above 1: none does', -1, 2),
    layers: layerList(null, 'drops before these layers; null: at 2, 6, 10 and 14 32nds of the depth', 1),
    gamma: real(0.001, 'share of what words give all patches; 0: drops none', 0, 1),
    alpha: real(0.001, 'attention of one word', 0, 1),
    spared: real(0.08, 'share of the patches, those that the class token looks at, that stay between layers', 0, 1),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  looks: (shape, { gamma, layers, similar, spared }) => [
    ...(similar <= 1 && (shape.vision?.layers ?? 0) > 1
      ? [{ at: 'vision', layer: 1, part: 'attention' } as const]
      : []),
    ...(gamma > 0 ? (layers ?? [...new Set(depths(shape, [2, 6, 10, 14]))]) : []).map(
      (layer) =>
        ({
          at: 'layer',
          layer,
          needs: [{ what: 'question' }, ...(spared > 0 ? [{ what: 'class' } as const] : [])],
        }) as const,
    ),
  ],
  decide(seen, { alpha, gamma, positions, similar, spared, window }) {
    if (seen.at === 'vision') return mergeWindows(seen, window, similar)
    if (seen.at !== 'layer') return null
    const ignored = new Set(ignoredBy(seen, gamma, alpha))
    if (spared > 0) for (const place of keySet(seen, spared)) ignored.delete(place)
    if (ignored.size === 0) return null
    const kept = seen.sources.filter((_, place) => !ignored.has(place))
    return { action: 'drop', layer: seen.layer, kept, positions }
  },
})

/** Places of the best share of the patches that came, which are all still there. */
function keySet(seen: LayerSeen, share: number): number[] {
  const given = seen.class()
  const looked = [...seen.droppable].filter((place) => (given[place] as number) > 0)
  const scores = looked.map((place) => given[place] as number)
  return Array.from(topK(scores, Math.ceil(share * seen.came - 1e-9)), (i) => looked[i] as number)
}

function ignoredBy(seen: LayerSeen, gamma: number, alpha: number): number[] {
  const { asking, attention } = seen.question()
  const rows = seen.sources.length
  const lines = [...asking.keys()]
  const given = Array.from(seen.droppable, (place) => lines.map((line) => attention[line * rows + place] as number))
  const sums = given.map((one) => one.reduce((sum, value) => sum + value, 0))
  const whole = sums.reduce((sum, value) => sum + value, 0)
  return [...seen.droppable].filter(
    (_, i) => (sums[i] as number) < gamma * whole && Math.max(...(given[i] as number[])) < alpha,
  )
}

function mergeWindows(seen: VisionSeen, window: number, similar: number): Decision {
  const into = seen.sources.slice()
  const { size, values } = lines(seen, 'hidden', 0)
  for (const { crop, from, to } of cropRows(seen)) {
    const { columns, rows } = seen.crops[crop] as Crop
    const placeOf = new Map(
      Array.from(seen.sources.subarray(from, to), (source, i) => [source % (rows * columns), from + i]),
    )
    for (let top = 0; top + window <= rows; top += window) {
      for (let left = 0; left + window <= columns; left += window) {
        const cells = Array.from(
          { length: window ** 2 },
          (_, i) => (top + Math.floor(i / window)) * columns + left + (i % window),
        )
        const places = cells.flatMap((cell) => placeOf.get(cell) ?? [])
        if (places.length < cells.length || likeness(values, size, places) < similar) continue
        for (const place of places) into[place] = seen.sources[places[0] as number] as number
      }
    }
  }
  return { action: 'mergePatches', layer: seen.layer, into }
}

/** Mean cosine of the pairs of these rows. */
function likeness(values: Float32Array, size: number, places: readonly number[]): number {
  const n = places.length
  const own = new Float32Array(n * size)
  for (const [i, place] of places.entries()) own.set(values.subarray(place * size, (place + 1) * size), i * size)
  const alike = cosines(own, size, { crop: 0, from: 0, to: n })
  let sum = 0
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) if (j !== i) sum += alike[i * n + j] as number
  return sum / (n * (n - 1))
}
