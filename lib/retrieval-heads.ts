// Which KV heads fetch from afar, found with random tokens that repeat: what razorAttention keeps whole. arXiv 2407.15891

import { Draw } from './lab/draw.js'
import { parseOptions, real, whole } from './methods/options.js'
import type { Model } from './model.js'

const declared = {
  period: whole(128, 'random tokens before they repeat', 2),
  repeats: whole(2, 'times that they are read', 2),
  induction: real(0.14, 'share of the heads, by attention to what followed the same token', 0, 1),
  echo: real(0.01, 'share of the heads, by attention to the same token', 0, 1),
  seed: whole(1, 'another seed, other tokens'),
}

export interface RetrievalOptions {
  readonly period?: number
  readonly repeats?: number
  readonly induction?: number
  readonly echo?: number
  readonly seed?: number
}

/** A KV head: what its query heads give, the largest of them. */
interface Score {
  readonly head: readonly [number, number]
  readonly induction: number
  readonly echo: number
}

/**
 * The KV heads that look at earlier copies of a token (echo) or at what followed them (induction), as [layer, KV head]: the best of all layers together, ascending. Only the ranking
 * counts, so that random tokens are enough; no text is read. Takes a session of its own, and one short prompt for each layer.
 */
export async function retrievalHeads(model: Model, options: RetrievalOptions = {}): Promise<[number, number][]> {
  const { echo, induction, period, repeats, seed } = parseOptions('retrievalHeads', declared, options)
  const { heads, kvHeads, layers, vocabularySize } = model.config
  const draw = new Draw(seed)
  const plain = Array.from({ length: period }, () => vocabularySize - 1 - draw.below(Math.ceil(vocabularySize / 2)))
  const begin = model.tokenizer.encode('')
  const ids = Int32Array.from([...begin, ...Array.from({ length: repeats }, () => plain).flat()])
  const rows = Array.from({ length: period * (repeats - 1) }, (_, i) => begin.length + period + i)
  const session = model.session({ kv: 'f16' })
  const scores: Score[] = []
  try {
    for (let layer = 0; layer < layers; layer++) {
      const looked = await session.attention(ids, { layer, rows })
      const own = Array.from({ length: heads }, (_, head) => {
        const line = (i: number) =>
          looked.subarray((i * heads + head) * ids.length, (i * heads + head + 1) * ids.length)
        return copied(
          rows.map((row, i) => [row, line(i)] as const),
          begin.length,
          period,
        )
      })
      for (let head = 0; head < kvHeads; head++) {
        const group = own.slice((head * heads) / kvHeads, ((head + 1) * heads) / kvHeads)
        const most = (kind: 'induction' | 'echo') => Math.max(...group.map((one) => one[kind]))
        scores.push({ head: [layer, head], induction: most('induction'), echo: most('echo') })
      }
    }
  } finally {
    await session.close()
  }
  const found = new Set([...best(scores, 'induction', induction), ...best(scores, 'echo', echo)])
  return scores.filter((score) => found.has(score)).map(({ head: [layer, head] }) => [layer, head])
}

/** What the rows give earlier copies of their tokens, and the tokens after those. */
function copied(rows: readonly (readonly [number, Float32Array])[], first: number, period: number) {
  let echo = 0
  let induction = 0
  for (const [row, line] of rows) {
    for (let copy = row - period; copy >= first; copy -= period) {
      echo += line[copy] as number
      induction += line[copy + 1] as number
    }
  }
  return { echo, induction }
}

/** The share with the largest scores, rounded; of equals the first. */
function best(scores: readonly Score[], kind: 'induction' | 'echo', share: number): Score[] {
  return [...scores].sort((a, b) => b[kind] - a[kind]).slice(0, Math.round(share * scores.length))
}
