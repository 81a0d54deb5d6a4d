// ZipVL: how many rows a layer needs shows in its attention; the others go, or keep 2 bits. arXiv 2410.08584, both versions
import { rangeError } from '../../errors.js'
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import type { CacheSeen, LayerSeen } from '../method.js'
import { real, whole, word } from '../options.js'
import { sumOverHeads } from '../over-heads.js'
import { topK } from '../select.js'

interface Options {
  readonly tau: number
  readonly rows: number
  readonly others: number
  readonly sinks: number
  readonly every: number
  readonly lowPrecision: 'evict' | 'kivi2'
}

/**
 * The smallest number of rows that hold `tau` of the attention of the newest `rows` rows and of `others` by chance, all heads together, take part in a layer's attention: those with the
 * most attention by each row that could see them, the first `sinks` and the newest. Of the others neither queries nor keys nor values are computed, and they have no cache row; they go
 * through the MLP, and the next layer decides anew. So layers and texts decide by themselves, and there is no `keep`. The first layer runs on all rows and is thinned afterwards by
 * what its newest rows looked at, as all layers are with `prefill: 'dense'`. While text is generated the last `every` rows are thinned in the same way, by what the newest row gives
 * them. With `lowPrecision: 'kivi2'`, as in the first version of the paper, the others stay too, in 2 bits, where those that matter keep the session's type (`kv: 'kivi4'` is the
 * paper's): prompts are read densely then, as all rows have keys and values, and layers whose attention has a window keep one type.
 */
export const zipVl = defineMethod({
  name: 'zipVl',
  title: 'keeps as many rows of each layer as hold a share of its attention; the others go, or are stored in 2 bits',
  paper: '2410.08584',
  acts: 'cache',
  options: {
    tau: real(0.975, 'share of the attention that stays', 0, 1),
    rows: whole(64, 'newest rows, whose queries look', 1),
    others: whole(64, 'rows by chance whose queries look too, while a prompt is read'),
    sinks: whole(4, 'first rows, which stay'),
    every: whole(100, 'decode steps between looks, and rows that are looked at; 0: after prompts alone'),
    prefill: word('sparse', ['sparse', 'dense'], 'attention while a prompt is read'),
    lowPrecision: word('evict', ['evict', 'kivi2'], 'what becomes of the others: they go, or are stored in 2 bits'),
  },
  looks(shape, { every, lowPrecision, others, prefill, rows, tau }) {
    if (tau >= 1) return []
    const mixes = lowPrecision === 'kivi2'
    if (mixes && shape.headSize % 32 !== 0)
      throw rangeError('a model whose head size is a multiple of 32', 'lowPrecision', shape.headSize)
    const layers = allLayers(shape).filter((layer) => !mixes || !shape.windows[layer])
    const sparse = prefill === 'sparse' && !mixes ? layers.slice(1) : []
    const needs = [{ what: 'attention', rows }] as const
    return [
      ...sparse.map((layer) => ({ at: 'layer', layer, needs: [{ what: 'sampled', newest: rows, others }] }) as const),
      { at: 'prompt', layers: layers.slice(0, layers.length - sparse.length), needs },
      ...(every > 0 ? [{ at: 'decode', every, layers, needs: [{ what: 'attention', rows: 1 }] } as const] : []),
    ]
  },
  decide(seen, options) {
    if (seen.at === 'layer') {
      const kept = takingPart(seen, options)
      if (kept.length === seen.sources.length) return null
      return { action: 'pass', layer: seen.layer, what: 'attention', kept }
    }
    if (seen.at !== 'prompt' && seen.at !== 'decode') return null
    const heads = Array.from({ length: seen.shape.kvHeads }, (_, head) => head)
    const keptPerHead = heads.map((head) => chosen(seen, head, options))
    if (keptPerHead.every((kept, head) => kept.length === seen.sources(head).length)) return null
    if (options.lowPrecision === 'evict') return { action: 'evict', layer: seen.layer, keptPerHead }
    const coarsePerHead = keptPerHead.map((kept, head) => {
      const stays = new Set(kept)
      return seen.sources(head).filter((source) => !stays.has(source))
    })
    return { action: 'coarsen', layer: seen.layer, coarsePerHead }
  },
})

/** Sources of rows whose attention is worth computing. */
function takingPart({ sampled, sources }: LayerSeen, { sinks, tau }: Options): Int32Array {
  const { asking, attention } = sampled()
  const rows = sources.length
  const mass = new Float64Array(rows)
  for (let at = 0; at < asking.length * rows; at++)
    mass[at % rows] = (mass[at % rows] as number) + (attention[at] as number)
  let seers = asking.length
  const each = mass.map((sum, place) => {
    while ((asking[asking.length - seers] ?? rows) < place) seers--
    return sum / seers
  })
  const best = new Set(topK(each, countOf(mass, tau)))
  return sources.filter((source, place) => source < sinks || place === rows - 1 || best.has(place))
}

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
  const stays = (source: number, i: number) =>
    i < Math.max(from, sinks) || i === sources.length - 1 || best.has(i) || seen.safe?.has(source) === true
  return sources.filter(stays)
}

/** The fewest values that add up to the share. */
function countOf(values: Float64Array, share: number): number {
  const sorted = values.slice().sort().reverse()
  const wanted = share * sorted.reduce((sum, value) => sum + value, 0)
  let sum = 0
  let count = 0
  while (count < sorted.length && sum < wanted * (1 - 1e-6)) sum += sorted[count++] as number
  return count
}
