// ZipVL: how many rows a layer needs shows in its attention; the others go. arXiv 2410.08584, as of its second version
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import type { CacheSeen } from '../method.js'
import { real, whole } from '../options.js'
import { sumOverHeads } from '../over-heads.js'
import { topK } from '../select.js'

interface Options {
  readonly tau: number
  readonly rows: number
  readonly sinks: number
  readonly every: number
}

/**
 * The smallest number of rows that hold `tau` of the attention of the newest `rows` rows, all heads together, is what a layer keeps: those with the most attention by each row that
 * could see them, the first `sinks` and the newest. So layers and texts decide by themselves, and there is no `keep`. While text is generated the last `every` rows are thinned in
 * the same way, by what the newest row gives them. The first version of the paper stores the others in 2 bits instead; a cache here has one type for rows in the middle, which
 * `kv` names.
 */
export const zipVl = defineMethod({
  name: 'zipVl',
  title: 'keeps as many cache rows of each layer as hold a share of its attention',
  paper: '2410.08584',
  acts: 'cache',
  options: {
    tau: real(0.975, 'share of the attention that stays', 0, 1),
    rows: whole(64, 'newest rows, whose queries look', 1),
    sinks: whole(4, 'first rows, which stay'),
    every: whole(100, 'decode steps between looks, and rows that are looked at; 0: after prompts alone'),
  },
  looks(shape, { every, rows, tau }) {
    const layers = tau < 1 ? allLayers(shape) : []
    if (layers.length === 0) return []
    const prompt = { at: 'prompt', layers, needs: [{ what: 'attention', rows }] } as const
    return every > 0 ? [prompt, { at: 'decode', every, layers, needs: [{ what: 'attention', rows: 1 }] }] : prompt
  },
  decide(seen, options) {
    if (seen.at !== 'prompt' && seen.at !== 'decode') return null
    const heads = Array.from({ length: seen.shape.kvHeads }, (_, head) => head)
    const keptPerHead = heads.map((head) => chosen(seen, head, options))
    if (keptPerHead.every((kept, head) => kept.length === seen.sources(head).length)) return null
    return { action: 'evict', layer: seen.layer, keptPerHead }
  },
})

/** Sources that stay. */
function chosen(seen: CacheSeen, head: number, { every, sinks, tau }: Options): Int32Array {
  const sources = seen.sources(head)
  const { kvHeads } = seen.shape
  const mass = sumOverHeads(seen, head, (other) => seen.attention(other))
  const looked = Math.max(1, Math.round(mass.reduce((sum, value) => sum + value, 0) / kvHeads)) // probabilities of a row add up to one
  const from = seen.at === 'decode' ? sources.findIndex((source) => source >= seen.tokens - every) : 0
  const block = mass.subarray(from)
  const each = block.map((sum, i) => sum / Math.min(looked, seen.tokens - (sources[from + i] as number)))
  const best = new Set(Array.from(topK(each, countOf(block, tau)), (i) => i + from))
  return sources.filter((_, i) => i < Math.max(from, sinks) || i === sources.length - 1 || best.has(i))
}

/** The fewest values that add up to the share. */
function countOf(values: Float64Array, share: number): number {
  const sorted = values.slice().sort().reverse()
  const wanted = share * sorted.reduce((sum, value) => sum + value, 0)
  let sum = 0
  let count = 0
  while (count < sorted.length && sum < wanted - 1e-9) sum += sorted[count++] as number
  return count
}
