// ToMe: tokens that say the same are merged, not dropped. arXiv 2210.09461, here between two layers of a decoder
import { type Budget, keepsAll, parseBudget } from '../../budget.js'
import { rangeError } from '../../errors.js'
import { defineMethod } from '../define.js'
import type { LayerSeen, Shape } from '../method.js'
import { layerList, type Option, word } from '../options.js'
import { topK } from '../select.js'

const keep: Option<Budget | readonly Budget[]> = {
  default: 0.5,
  about: 'budget: a share, { tokens } or { bytes }, or a list of them, one a listed layer',
  parse: (value, name) =>
    Array.isArray(value)
      ? Object.freeze(value.map((one, i) => parseBudget(one, `${name}[${i}]`)))
      : parseBudget(value, name),
}

/**
 * Before each listed layer the droppable rows that are left are split in turn into A and B. Every row of A finds the row of B with the most similar key (cosine, keys averaged
 * over KV heads, un-rotated); the most similar pairs fold into their row of B, weighted by how many tokens each stands for, as many as the budget asks and at most half of the
 * rows in one step. The row of B keeps its place and position.
 */
export const tome = defineMethod({
  name: 'tome',
  title: 'merges prompt tokens with similar keys before chosen layers',
  paper: '2210.09461',
  acts: 'layers',
  options: {
    keep,
    layers: layerList(null, 'merges before these layers; null: ¼ and ½ of the model, rounded down', 1),
    metric: word('keys', ['keys'], 'what is compared'),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  check({ keep, layers }) {
    const count = layers?.length ?? 2
    if (Array.isArray(keep) && keep.length !== count)
      throw rangeError(`${count} budgets, one a layer,`, 'keep', keep.length)
  },
  keepAt: ({ keep, layers }, shape, layer) =>
    (Array.isArray(keep) ? (keep[listed(layers, shape).indexOf(layer)] ?? 1) : keep) as Budget,
  looks(shape, { layers }, grant) {
    const before = [...new Set(listed(layers, shape))].filter((layer) => !keepsAll(grant.keep(shape, layer)))
    return before.map((layer) => ({ at: 'layer', layer, needs: [{ what: 'keys' }] }))
  },
  decide(seen, { positions }, grant) {
    if (seen.at !== 'layer') return null
    const left = seen.droppable.length
    const pairs = Math.min(left - grant.rows(seen), left >> 1)
    return pairs > 0 ? { action: 'merge', layer: seen.layer, into: fold(seen, pairs), positions } : null
  },
})

function listed(layers: readonly number[] | null, { layers: depth }: Shape): readonly number[] {
  return layers ?? [Math.max(1, depth >> 2), Math.max(1, depth >> 1)]
}

/** [rows]: the source that holds each row after the `pairs` most similar pairs are merged. */
function fold(seen: LayerSeen, pairs: number): Int32Array {
  const { droppable, sources } = seen
  const size = seen.shape.headSize
  const units = normalized(seen.keys(), droppable, size)
  const halves = droppable.length >> 1
  const odd = droppable.length - halves
  const partner = new Int32Array(odd)
  const similarity = new Float64Array(odd).fill(Number.NEGATIVE_INFINITY)
  for (let a = 0; a < odd; a++) {
    const from = units.subarray(2 * a * size, (2 * a + 1) * size)
    for (let b = 0; b < halves; b++) {
      const dot = product(from, units, (2 * b + 1) * size)
      if (dot <= (similarity[a] as number)) continue
      similarity[a] = dot
      partner[a] = b
    }
  }
  const into = sources.slice()
  for (const a of topK(similarity, pairs)) {
    into[droppable[2 * a] as number] = sources[droppable[2 * (partner[a] as number) + 1] as number] as number
  }
  return into
}

/** [places × size] of unit length; a row of zeros stays one. In double, which spares the loop over pairs a conversion. */
function normalized(rows: Float32Array, places: Int32Array, size: number): Float64Array {
  const units = new Float64Array(places.length * size)
  for (const [i, place] of places.entries()) {
    const row = units.subarray(i * size, (i + 1) * size)
    row.set(rows.subarray(place * size, (place + 1) * size))
    const scale = 1 / (Math.sqrt(product(row, row, 0)) || 1)
    for (let c = 0; c < size; c++) row[c] = (row[c] as number) * scale
  }
  return units
}

// Four sums side by side: a single chain of additions would wait for each one.
function product(a: Float64Array, b: Float64Array, at: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0]
  const end = a.length & ~3
  for (let c = 0; c < end; c += 4) {
    s0 += (a[c] as number) * (b[at + c] as number)
    s1 += (a[c + 1] as number) * (b[at + c + 1] as number)
    s2 += (a[c + 2] as number) * (b[at + c + 2] as number)
    s3 += (a[c + 3] as number) * (b[at + c + 3] as number)
  }
  for (let c = end; c < a.length; c++) s0 += (a[c] as number) * (b[at + c] as number)
  return s0 + s1 + (s2 + s3)
}
