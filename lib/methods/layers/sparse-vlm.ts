// SparseVLM: the words of the question that the picture has to do with say which patches stay; the others are recycled. arXiv 2410.04417
import { defineMethod } from '../define.js'
import { distances, peaks } from '../density.js'
import type { Decision, LayerSeen } from '../method.js'
import { layerList, list, real, word } from '../options.js'
import { topK } from '../select.js'
import { pick } from '../similar.js'
import { checkStages, depths, partOf, ratiosOf } from '../stages.js'

const USUAL = [2, 6, 15]

/**
 * Raters are the words behind the picture to which the picture's rows, as they entered the first layer, are more alike than to the average word (softmax of the products over the
 * words, mean over the rows that are left). Before each listed layer rows stay by what raters would give them there, mean over heads and raters. Of those that go, the best share
 * forms clusters, one for about ten, by density peaks of the hidden rows: each becomes the mean of its rows in place of its peak.
 */
export const sparseVlm = defineMethod({
  name: 'sparseVlm',
  title: 'drops patches by what the words of the question that matter look at, and recycles some of what goes',
  paper: '2410.04417',
  acts: 'layers',
  options: {
    layers: layerList(null, 'drops before these layers, ascending; null: at 2, 6 and 15 32nds of the depth', 1),
    ratios: list(
      real(1, '', 0, 1),
      [0.521, 0.348, 0.191],
      'share of the original count that goes on from each as it is, rounded down',
    ),
    recycle: real(0.3, 'share of what goes, the best, that forms clusters; 0: none', 0, 1),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  check: ({ layers, ratios }) => checkStages(layers, ratios, USUAL.length),
  looks: (shape, { layers, ratios }) =>
    [...ratiosOf(layers ?? depths(shape, USUAL), ratios).keys()].map((layer) => ({
      at: 'layer',
      layer,
      needs: [{ what: 'question' }, { what: 'embedded' }],
    })),
  decide(seen, { layers, positions, ratios, recycle }) {
    if (seen.at !== 'layer') return null
    const { droppable, given, layer, sources } = seen
    const ratio = ratiosOf(layers ?? depths(seen.shape, USUAL), ratios).get(layer) ?? 1
    const left = droppable.length
    const stay = Math.min(Math.max(1, partOf(ratio, given)), left)
    if (stay >= left) return null
    const scores = ratings(seen)
    const best = new Set(topK(scores, stay))
    const gone = [...droppable.keys()].filter((i) => !best.has(i))
    const { heads, into } = clustered(seen, recycle > 0 ? recycled(gone, scores, recycle) : [])
    const dropped = new Set(gone.map((i) => droppable[i] as number))
    // A cluster's peak holds the others, so it stays; whoever nobody holds goes.
    const kept = sources.filter((source, place) => into[place] === source && (!dropped.has(place) || heads.has(place)))
    const decisions: Decision[] = heads.size > 0 ? [{ action: 'merge', layer, into, positions }] : []
    return [...decisions, { action: 'drop', layer, kept, positions }]
  },
})

/** [droppable]: what the raters would give each, in the mean. */
function ratings(seen: LayerSeen): Float64Array {
  const { asking, attention } = seen.question()
  const rows = seen.sources.length
  const raters = ratersOf(seen, asking)
  return Float64Array.from(seen.droppable, (place) => {
    const given = raters.map((line) => attention[line * rows + place] as number)
    return given.reduce((sum, one) => sum + one, 0) / given.length
  })
}

/** Lines of the question above the mean of what the picture's rows give the words; all of them where they are alike. */
function ratersOf(seen: LayerSeen, asking: Int32Array): number[] {
  const embedded = seen.embedded()
  const size = embedded.length / seen.sources.length
  const row = (place: number) => embedded.subarray(place * size, (place + 1) * size)
  const words = Array.from(asking, row)
  const mean = new Float64Array(words.length)
  for (const place of seen.droppable) {
    const patch = row(place)
    const products = words.map((one) => dot(patch, one))
    const most = Math.max(...products)
    const raised = products.map((product) => Math.exp(product - most))
    const whole = raised.reduce((sum, one) => sum + one, 0)
    for (let i = 0; i < mean.length; i++)
      mean[i] = (mean[i] as number) + (raised[i] as number) / whole / seen.droppable.length
  }
  const above = [...mean.keys()].filter((i) => (mean[i] as number) > 1 / mean.length + 1e-9)
  return above.length > 0 ? above : [...mean.keys()]
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let c = 0; c < a.length; c++) sum += (a[c] as number) * (b[c] as number)
  return sum
}

/** Of what goes the best share, and one more. */
function recycled(gone: readonly number[], scores: Float64Array, share: number): number[] {
  const count = Math.min(gone.length, Math.floor(share * gone.length + 1e-9) + 1)
  return Array.from(
    topK(
      gone.map((i) => scores[i] as number),
      count,
    ),
    (i) => gone[i] as number,
  )
}

/** Of these droppable rows clusters: into, [rows], the source that holds each row; heads: places of those that hold a cluster. */
function clustered(
  { droppable, hidden, sources }: LayerSeen,
  members: readonly number[],
): { into: Int32Array; heads: ReadonlySet<number> } {
  const into = sources.slice()
  if (members.length === 0) return { into, heads: new Set() }
  const count = Math.floor(members.length / 10) + 1
  const places = members.map((i) => droppable[i] as number)
  const values = hidden()
  const size = values.length / sources.length
  const all = distances(pick(values, size, places), size)
  const heads = [...topK(peaks(all, count), Math.min(count, places.length))]
  for (const [i, place] of places.entries()) {
    const own = heads.includes(i) ? i : heads.reduce((a, b) => (at(all, i, b) < at(all, i, a) ? b : a))
    into[place] = sources[places[own] as number] as number
  }
  return { into, heads: new Set(heads.map((i) => places[i] as number)) }
}

function at(all: Float64Array, i: number, j: number): number {
  return all[i * Math.round(Math.sqrt(all.length)) + j] as number
}
