// VMTC of VMTC-CMAI: patches that matter stay as they are, the others become a few clusters. arXiv 2411.15453; only the abstract is public, clustering and numbers are our reading
import { keepsAll } from '../../budget.js'
import { defineMethod } from '../define.js'
import { type Folder, mergeTo } from '../fold-patches.js'
import { keep, real, whole } from '../options.js'
import { topK } from '../select.js'
import { cosinesOf } from '../similar.js'
import { attended } from '../vision-method.js'

/**
 * Of what stays a part is primary, rounded down: the patches that the class token of the last block gives most (the other patches, where there is none). The others are clustered
 * by their directions (k-means, the first centre the one looked at most, each next one the patch least like those before it), and each cluster becomes the mean of its patches, weighted by how
 * much they are looked at, in place of the one that is looked at most. The other half of the paper, masks between words and patches in the decoder, is not here: it saves nothing.
 */
export const vmtcCmai = defineMethod({
  name: 'vmtcCmai',
  title: 'keeps the patches that the class token looks at and clusters the others',
  paper: '2411.15453',
  acts: 'vision',
  options: {
    keep,
    primary: real(0.8, 'share of what stays that stays as it is', 0, 1),
    rounds: whole(10, 'rounds of k-means, at most', 1),
  },
  looks(shape, _, grant) {
    const { vision } = shape
    if (vision === undefined || keepsAll(grant.keep(shape, vision.layers))) return []
    return {
      at: 'vision',
      part: 'projector',
      needs: [attended(vision, vision.layers - 1), { what: 'cosines', layer: vision.layers }],
    }
  },
  decide(seen, { primary, rounds }, grant) {
    if (seen.at !== 'vision') return null
    const block = seen.vision.layers - 1
    const scores = seen.seen(attended(seen.vision, block).what, block)
    const weights = Float64Array.from(scores, (score) => Math.max(score, 1e-9))
    const fold: Folder = (rows, remove, into) => {
      const { from, to } = rows
      const stay = to - from - remove
      const whole = new Set(topK(scores, Math.min(stay - 1, Math.floor(primary * stay + 1e-9)), from, to))
      const rest = Array.from({ length: to - from }, (_, i) => i).filter((i) => !whole.has(from + i))
      const own = rest.map((i) => weights[from + i] as number)
      const groups = clusters(cosinesOf(seen, rows), to - from, { rest, own, count: stay - whole.size, rounds })
      for (const group of groups) {
        const head = group.reduce((best, i) => ((own[i] as number) > (own[best] as number) ? i : best))
        for (const i of group) into[from + (rest[i] as number)] = seen.sources[from + (rest[head] as number)] as number
      }
    }
    return mergeTo(seen, grant.rows(seen), fold, { weights, scores })
  },
})

interface Clustering {
  /** Rows of [n × n] likeness that are clustered, and what each weighs. */
  readonly rest: readonly number[]
  readonly own: readonly number[]
  readonly count: number
  readonly rounds: number
}

/** Groups of numbers in `rest`, none of them empty. A row's likeness to a group is the sum of its cosines with the members over the length of their sum. */
function clusters(alike: Float32Array, n: number, { count, own, rest, rounds }: Clustering): number[][] {
  const between = (a: number, b: number) => alike[(rest[a] as number) * n + (rest[b] as number)] as number
  const heads = firstHeads(between, own, count)
  let groupOf = new Int32Array(rest.length).fill(-1)
  for (const [group, head] of heads.entries()) groupOf[head] = group
  for (let round = 0; round < rounds; round++) {
    const next = nearestGroups(alike, n, rest, groupOf, count)
    // A group that nobody is nearest to gets its head back, which may leave another one without.
    const empty = () => heads.findIndex((_, group) => !next.includes(group))
    for (let group = empty(); group >= 0; group = empty()) next[heads[group] as number] = group
    if (next.every((group, i) => group === groupOf[i])) break
    groupOf = next
  }
  return heads
    .map((_, group) => [...groupOf.keys()].filter((i) => groupOf[i] === group))
    .filter((group) => group.length > 0)
}

function nearestGroups(
  alike: Float32Array,
  n: number,
  rest: readonly number[],
  groupOf: Int32Array,
  count: number,
): Int32Array<ArrayBuffer> {
  const sums = new Float64Array(rest.length * count)
  for (let i = 0; i < rest.length; i++) {
    const line = (rest[i] as number) * n
    for (let j = 0; j < rest.length; j++)
      if ((groupOf[j] as number) >= 0)
        sums[i * count + (groupOf[j] as number)]! += alike[line + (rest[j] as number)] as number
  }
  const lengths = new Float64Array(count)
  for (const [i, group] of groupOf.entries()) if (group >= 0) lengths[group]! += sums[i * count + group] as number
  return Int32Array.from(rest, (_, i) => {
    let best = 0
    let most = Number.NEGATIVE_INFINITY
    for (let group = 0; group < count; group++) {
      const likeness = (sums[i * count + group] as number) / (Math.sqrt(Math.max(0, lengths[group] as number)) || 1)
      if (likeness <= most) continue
      best = group
      most = likeness
    }
    return best
  })
}

function firstHeads(between: (a: number, b: number) => number, own: readonly number[], count: number): number[] {
  const heads = [own.indexOf(Math.max(...own))]
  const most = own.map((_, i) => between(i, heads[0] as number))
  while (heads.length < count) {
    let next = -1
    for (let i = 0; i < most.length; i++)
      if (!heads.includes(i) && (next < 0 || (most[i] as number) < (most[next] as number))) next = i
    heads.push(next)
    for (let i = 0; i < most.length; i++) most[i] = Math.max(most[i] as number, between(i, next))
  }
  return heads
}
