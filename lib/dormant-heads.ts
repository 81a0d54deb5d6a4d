// Which heads park their attention on a sink and so add next to nothing on this text, and which tokens are sinks. arXiv 2410.13835
import { rangeError, typeError } from './errors.js'
import { defineMethod } from './methods/index.js'
import { parseOptions, real, whole } from './methods/options.js'
import type { Model } from './model.js'
import { checkPrompt, isMessages, type PromptPart, readPrompt } from './prompt.js'
import type { Session } from './session.js'

const declared = {
  rows: real(0.2, 'entropy of its rows below which a head may be dormant', 0, 1),
  columns: real(0.8, 'entropy of its most even column above which it may be', 0, 1),
  peak: real(10, 'times the median norm at which the hidden row of a token makes it a sink', 1, 1e6),
  layer: whole(4, 'the layer before which hidden rows are looked at; the last one where a model has fewer'),
}

export interface DormantOptions {
  readonly rows?: number
  readonly columns?: number
  readonly peak?: number
  readonly layer?: number
}

/** A query head on the text that was read. */
export interface HeadActivity {
  readonly layer: number
  readonly head: number
  readonly kvHead: number
  /** Mean attention that rows from a token on give it: of the first token, and of the other one with the most. */
  readonly sink: number
  readonly next: number
  /** Mean entropy of its rows, largest entropy of its columns, by that of even ones. */
  readonly rowEntropy: number
  readonly columnEntropy: number
  readonly dormant: boolean
  /** Norm of the first token's value by the median of the others', before the output projection. */
  readonly drain: number
}

export interface DormantHeads {
  readonly heads: readonly HeadActivity[]
  /** KV heads whose query heads are all dormant, as [layer, KV head]. */
  readonly dormant: readonly (readonly [number, number])[]
  /** The first token, and those whose hidden rows are far larger than the median: what `methods.protect` takes. */
  readonly sinks: readonly number[]
}

const MOST = 256

/**
 * Looks at a short text of 2 to 256 tokens, in a session of its own that reads it twice for each layer. A head is dormant on it where each of its rows looks at few tokens (row
 * entropy) and one token is looked at by all rows alike (column entropy). Another text may wake it: what is found holds for texts like this one.
 */
export async function activeDormantHeads(
  model: Model,
  prompt: string | Int32Array | readonly PromptPart[],
  options: DormantOptions = {},
): Promise<DormantHeads> {
  const { columns, layer: at, peak, rows } = parseOptions('activeDormantHeads', declared, options)
  const { heads, kvHeads, layers, vocabularySize } = model.config
  if (isMessages(prompt)) throw typeError('text, ids or parts', 'prompt', 'messages')
  checkPrompt(prompt, { vocabulary: vocabularySize, pictures: false })
  const { ids } = readPrompt(prompt, model.tokenizer, true)
  const n = ids.length
  if (n < 2 || n > MOST) throw rangeError(`2 to ${MOST} tokens`, 'prompt', n)
  const norms: Float32Array[][] = []
  const session = model.session({ kv: 'f32', methods: [valueNorms(norms)] })
  const found: HeadActivity[] = []
  try {
    const norm = await rowNorms(session, ids, Math.min(at, layers))
    const places = Array.from(ids.keys())
    const lines: Float32Array[] = []
    for (let layer = 0; layer < layers; layer++) lines.push(await session.attention(ids, { layer, rows: places }))
    await session.forward(ids, { logits: 'none' })
    for (const [layer, all] of lines.entries()) {
      for (let head = 0; head < heads; head++) {
        const line = (i: number) => all.subarray((i * heads + head) * n, (i * heads + head + 1) * n)
        const matrix = places.map(line)
        const kvHead = Math.floor((head * kvHeads) / heads)
        const entropies = entropiesOf(matrix)
        const dormant = entropies.row < rows && entropies.column > columns
        const drain = drainOf(norms[layer]?.[kvHead] ?? new Float32Array(n))
        const { row: rowEntropy, column: columnEntropy } = entropies
        found.push({ layer, head, kvHead, ...sinkOf(matrix), rowEntropy, columnEntropy, dormant, drain })
      }
    }
    return { heads: found, dormant: dormantOf(found), sinks: sinksOf(norm, peak) }
  } finally {
    await session.close()
  }
}

/** Entropies of a causal matrix [n × n] of probabilities, each by its largest: a row's mean (the first counts as 0), the largest of a column (the last counts as 0). */
export function entropiesOf(matrix: readonly ArrayLike<number>[]): { row: number; column: number } {
  const n = matrix.length
  let row = 0
  let column = 0
  for (let i = 0; i < n; i++) {
    row += relative(Array.from({ length: i + 1 }, (_, j) => matrix[i]?.[j] as number)) / n
    column = Math.max(column, relative(Array.from({ length: n - i }, (_, j) => matrix[i + j]?.[i] as number)))
  }
  return { row, column }
}

/** Entropy of weights, whatever they add up to, by that of so many equal ones; 0 of one alone, and of none. */
function relative(weights: readonly number[]): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  if (weights.length < 2 || !(total > 0)) return 0
  const parts = weights.map((weight) => weight / total)
  return parts.reduce((sum, part) => sum - (part > 0 ? part * Math.log(part) : 0), 0) / Math.log(weights.length)
}

function sinkOf(matrix: readonly Float32Array[]): { sink: number; next: number } {
  const n = matrix.length
  const mean = matrix.map((_, j) => matrix.slice(j).reduce((sum, line) => sum + (line[j] as number), 0) / (n - j))
  return { sink: mean[0] as number, next: Math.max(...mean.slice(1)) }
}

function drainOf([first = 0, ...others]: Float32Array | number[]): number {
  return first / (median(others) || 1)
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

function dormantOf(found: readonly HeadActivity[]): [number, number][] {
  const named = (one: HeadActivity) => `${one.layer} ${one.kvHead}`
  const awake = new Set(found.filter(({ dormant }) => !dormant).map(named))
  const all = new Map(found.map((one) => [named(one), [one.layer, one.kvHead] as [number, number]]))
  return [...all].filter(([name]) => !awake.has(name)).map(([, head]) => head)
}

function sinksOf(norms: Float64Array, peak: number): number[] {
  const large = peak * median([...norms])
  return Array.from(norms.keys()).filter((place) => place === 0 || (norms[place] as number) > large)
}

/** Norms of the hidden rows that enter a layer: [tokens]. */
async function rowNorms(session: Session, ids: Int32Array, layer: number): Promise<Float64Array> {
  return lengths(await session.hidden(ids, { layer }), ids.length)
}

function lengths(values: Float32Array, count: number): Float64Array {
  const size = values.length / count
  return Float64Array.from({ length: count }, (_, i) => Math.hypot(...values.subarray(i * size, (i + 1) * size)))
}

/** A probe: writes down norms of the cached values, [layer][KV head][tokens], and decides nothing. */
function valueNorms(norms: Float32Array[][]) {
  return defineMethod({
    name: 'activeDormantHeads',
    acts: 'probe',
    looks: { at: 'prompt' },
    decide(seen) {
      if (seen.at !== 'prompt') return null
      const { kvHeads } = seen.shape
      norms[seen.layer] = Array.from({ length: kvHeads }, (_, head) =>
        Float32Array.from(lengths(seen.values(head), seen.sources(head).length)),
      )
      return null
    },
  })()
}
