// CLCA: what was dropped comes back as a mean of the blocks before. arXiv 2501.00243 around EViT's dropping, without what it trains: its own token and the head over several class tokens
import { keepsAll } from '../../budget.js'
import { defineMethod, type Grant } from '../define.js'
import { geometricSteps } from '../fold-patches.js'
import { patchesOf } from '../gather.js'
import type { Decision, VisionSeen, VisionShape } from '../method.js'
import { keep, layerList, word } from '../options.js'
import { topK } from '../select.js'
import { cropRows } from '../similar.js'
import { attended, evenly } from '../vision-method.js'

interface Options {
  readonly layers: readonly number[] | null
  readonly cache: 'on' | 'off'
}

/**
 * In the listed blocks, between attention and MLP, the patches stay that the class token looks at most (the other patches, where there is none); the others fold into one, the mean
 * by how much they are looked at. Behind every block the mean of the patches is set aside, and behind the listed ones and the last but one all that were come back as rows, in places
 * that are free, and compete for the next budget like patches. Each listed block leaves the same share; the last leaves what the budget has room for beside the rows that come back.
 */
export const clca = defineMethod({
  name: 'clca',
  title:
    'keeps the patches that the class token looks at in some blocks, and brings back the means of the blocks before',
  paper: '2501.00243',
  acts: 'vision',
  options: {
    keep,
    layers: layerList(null, 'blocks that drop; null: at a quarter, a half and three quarters of the depth'),
    cache: word('on', ['on', 'off'], 'whether means come back; off: EViT alone'),
  },
  looks(shape, options, grant) {
    const { vision } = shape
    if (vision === undefined || keepsAll(grant.keep(shape, vision.layers))) return []
    const drops = dropsOf(vision, options)
    const { last } = recoveries(vision, options)
    const behind = options.cache === 'on' ? Array.from({ length: last + 1 }, (_, block) => block) : []
    return [
      ...drops.map((layer) => ({ at: 'vision', layer, part: 'mlp', needs: [attended(vision, layer)] }) as const),
      ...behind.map((block) =>
        block + 1 < vision.layers
          ? ({ at: 'vision', layer: block + 1, part: 'attention' } as const)
          : ({ at: 'vision', part: 'projector' } as const),
      ),
    ]
  },
  decide(seen, options, grant) {
    if (seen.at !== 'vision') return null
    if (seen.part === 'mlp') return dropOthers(seen, options, grant)
    const block = seen.layer - 1
    const { all, last } = recoveries(seen.vision, options)
    const decisions: Decision[] = []
    if (all.includes(block))
      decisions.push({ action: 'recallPatches', layer: seen.layer, as: freed(seen, options, grant) })
    if (block < last) decisions.push({ action: 'carryPatches', layer: seen.layer })
    return decisions
  },
})

function dropsOf({ layers: depth }: VisionShape, { layers }: Options): readonly number[] {
  return layers ?? [...new Set([1, 2, 3].map((quarter) => Math.floor((quarter * depth) / 4)))]
}

/** Blocks behind which rows come back. */
function recoveries(vision: VisionShape, options: Options): { readonly all: readonly number[]; readonly last: number } {
  const all = [...new Set([...dropsOf(vision, options), Math.max(0, vision.layers - 2)])].sort((a, b) => a - b)
  return { all, last: all.at(-1) ?? 0 }
}

/** Of a crop that may keep `target` in the end, behind a block: rows of its own, and rows that come back. */
function counts(seen: VisionSeen, options: Options, block: number, target: number): { own: number; back: number } {
  const drops = dropsOf(seen.vision, options)
  const { all } = recoveries(seen.vision, options)
  const carried = (at: number) => (options.cache === 'off' ? 0 : at - (all[all.indexOf(at) - 1] ?? 0))
  const later = all.filter((at) => at > (drops.at(-1) ?? 0)).reduce((sum, at) => sum + carried(at), 0)
  const end = Math.max(1, target - later)
  if (!drops.includes(block)) return { own: end, back: Math.min(carried(block), target - end) }
  const rows = geometricSteps(drops.length, patchesOf(seen.crops), end)[drops.indexOf(block)] as number
  const back = Math.max(0, Math.min(carried(block), rows - 1))
  return { own: rows - back, back }
}

/** What each crop may keep in the end. */
function targets(seen: VisionSeen, grant: Grant): number[] {
  const all = Int32Array.from({ length: seen.crops.length * patchesOf(seen.crops) }, (_, source) => source)
  return evenly({ crops: seen.crops, sources: all }, Math.min(all.length, grant.rows(seen)))
}

function dropOthers(seen: VisionSeen, options: Options, grant: Grant): Decision[] {
  const scores = seen.seen(attended(seen.vision, seen.layer).what, seen.layer)
  const into = seen.sources.slice()
  const gone = new Set<number>()
  const most = targets(seen, grant)
  for (const { crop, from, to } of cropRows(seen)) {
    const own = (most[crop] ?? 0) === 0 ? 0 : counts(seen, options, seen.layer, most[crop] as number).own
    if (own >= to - from) continue
    // A row for what goes, where it would not be the only one.
    const stays = new Set(topK(scores, own > 1 ? own - 1 : own, from, to))
    const others = Array.from({ length: to - from }, (_, i) => from + i).filter((place) => !stays.has(place))
    const head = others.reduce((best, place) => ((scores[place] as number) > (scores[best] as number) ? place : best))
    for (const place of others)
      if (own > 1) into[place] = seen.sources[head] as number
      else gone.add(place)
  }
  const weights = Float64Array.from(scores, (score) => Math.max(score, 1e-9))
  const merged = { action: 'mergePatches', layer: seen.layer, into, weights, scores } as const
  if (gone.size === 0) return [merged]
  const kept = seen.sources.filter((source, place) => into[place] === source && !gone.has(place))
  return kept.length === 0 ? [] : [merged, { action: 'dropPatches', layer: seen.layer, kept }]
}

/** Places that rows come back in: the last of those that are free in each crop. */
function freed(seen: VisionSeen, options: Options, grant: Grant): number[] {
  const most = targets(seen, grant)
  const patches = patchesOf(seen.crops)
  const there = new Set(seen.sources)
  return cropRows(seen).flatMap(({ crop }) => {
    const { back } = counts(seen, options, seen.layer - 1, most[crop] ?? 0)
    const all = Array.from({ length: patches }, (_, i) => crop * patches + i)
    // What the decoder never gets, patches of padding, has no place of its own.
    const free = all.filter((source) => !there.has(source) && (seen.place?.(source) ?? 0) >= 0)
    return back > 0 ? free.slice(-back) : []
  })
}
