// TempMe: frames become clips, and clips longer ones, while what they share merges. arXiv 2409.01156, without its trained frame embeddings and adapters
import { rangeError } from '../../errors.js'
import { defineMethod } from '../define.js'
import { foldBest, inTurn, matchIn } from '../fold-patches.js'
import type { Decision, Shape, VisionSeen } from '../method.js'
import { layerList, list, real, whole } from '../options.js'
import { topK } from '../select.js'
import { type CropRows, cosinesOf, joinedRows } from '../similar.js'

/**
 * In the first blocks each frame loses `r` patches by ToMe's merging (most similar keys, between attention and MLP). Before each listed block as many neighbouring clips as its
 * factor says read each other as one from then on, and a share of the new clip merges by its hidden rows, across frames; from there on each block merges a share of every clip by
 * its keys. Rows count in attention as all the patches that they stand for; shares are of all rows of a clip, class tokens among them. Pictures that are no film merge within
 * themselves. What is left follows from the shares: there is no budget.
 */
export const tempMe = defineMethod({
  name: 'tempMe',
  title: 'joins the frames of a film step by step in the vision tower and merges what they share',
  paper: '2409.01156',
  acts: 'vision',
  options: {
    r: whole(2, 'patches that each frame loses in each of the first blocks'),
    layers: layerList(null, 'clips are joined before these blocks; null: from two thirds of the depth on', 1),
    factors: list(whole(2, 'clips that become one', 1), [2, 2, 3], 'clips that become one, by block'),
    across: real(0.3, 'share of a clip that merges where it is joined', 0, 0.5),
    within: real(0.1, 'share of a clip that merges in each block from the first joined one on', 0, 0.5),
  },
  check({ factors, layers }) {
    if (layers && layers.length !== factors.length)
      throw rangeError(`${layers.length} factors, one a block,`, 'factors', factors.length)
  },
  looks(shape, options) {
    const joins = joinsOf(shape, options)
    const depth = shape.vision?.layers ?? 0
    const blocks = Array.from({ length: depth }, (_, layer) => layer)
    return [
      ...blocks.map((layer) => ({ at: 'vision', layer, part: 'mlp', needs: [{ what: 'keyCosines', layer }] }) as const),
      ...[...joins.keys()].map(
        (layer) => ({ at: 'vision', layer, part: 'attention', needs: [{ what: 'cosines', layer }] }) as const,
      ),
    ]
  },
  decide(seen, options) {
    if (seen.at !== 'vision') return null
    const joins = joinsOf(seen.shape, options)
    if (seen.part === 'attention') return acrossFrames(seen, joins.get(seen.layer) ?? 1, options.across)
    const plain = seen.layer < Math.min(...joins.keys())
    const merged = mergeAlike(seen, 'keyCosines', joinedRows(seen), (patches, tokens) =>
      Math.min(patches >> 1, plain ? options.r : Math.floor(tokens * options.within + 1e-9)),
    )
    const decisions: Decision[] = merged ? [merged] : []
    // One half block early, so that the whole of a clip can be compared before its block: an MLP does not look at other rows.
    const crops = joins.get(seen.layer + 1) ?? 1
    if (crops > 1 && isFilm(seen)) decisions.push({ action: 'joinCrops', layer: seen.layer, crops })
    return decisions
  },
})

interface Options {
  readonly layers: readonly number[] | null
  readonly factors: readonly number[]
}

/** Block -> clips that become one before it. */
function joinsOf({ vision }: Shape, { factors, layers }: Options): Map<number, number> {
  const joins = new Map<number, number>()
  const depth = vision?.layers ?? 0
  for (const [i, factor] of factors.entries()) {
    const layer = layers?.[i] ?? Math.min(depth - 1, Math.max(1, Math.floor((depth * (8 + i)) / 12)))
    if (layer < depth) joins.set(layer, (joins.get(layer) ?? 1) * factor)
  }
  return joins
}

function isFilm({ crops }: VisionSeen): boolean {
  return crops.every(({ kind }) => kind === 'frame')
}

/** The clips that have just become one. */
function acrossFrames(seen: VisionSeen, factor: number, share: number): Decision | null {
  const clips = joinedRows(seen).filter((clip) => isFilm(seen) && framesOf(seen, clip) > seen.joined / factor)
  return mergeAlike(seen, 'cosines', clips, (patches, tokens) =>
    Math.min(patches >> 1, Math.floor(tokens * share + 1e-9)),
  )
}

function framesOf({ crops, joined }: VisionSeen, { crop }: CropRows): number {
  return Math.min(joined, crops.length - crop * joined)
}

/** ToMe's merging of some clips, as many rows of each as `count` says. */
function mergeAlike(
  seen: VisionSeen,
  what: 'keyCosines' | 'cosines',
  clips: readonly CropRows[],
  count: (patches: number, tokens: number) => number,
): Decision | null {
  const into = seen.sources.slice()
  let merges = false
  for (const clip of clips) {
    const classes = seen.vision.classToken ? framesOf(seen, clip) : 0
    const patches = clip.to - clip.from
    const remove = count(patches, patches + classes)
    if (remove <= 0) continue
    const halves = matchIn(cosinesOf(seen, clip, what), clip, ...inTurn(seen, clip, classes))
    foldBest(halves, topK(halves.similarity, remove), into, seen.sources)
    merges = true
  }
  return merges ? { action: 'mergePatches', layer: seen.layer, into, proportional: true } : null
}
