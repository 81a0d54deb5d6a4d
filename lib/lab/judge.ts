// What one run is worth beside the full cache: over the tokens of an answer that both were made to read.
import { divergence, logSoftmax } from './divergence.js'

export interface Measures {
  /** Natural logarithm of the probability of an answer token, a mean over them. */
  readonly logprob: number
  /** Kullback-Leibler divergence from the full cache's next-token distribution, nats, a mean over answer tokens. */
  readonly kl: number
  /** Share of answer tokens where the likeliest token is the full cache's. */
  readonly top1: number
  /** 1 where every answer token is the likeliest one, so that greedy decoding gives the answer; else 0. */
  readonly exact: number
}

/** Distributions before each answer token (natural logarithms), and the likeliest token of each. */
export interface Reading {
  readonly rows: readonly Float64Array[]
  readonly best: readonly number[]
}

/** logits: [tokens × vocabulary] of a call that ended with the answer; its last row, which speaks after the answer, is not used. */
export function readingOf(logits: Float32Array, answer: number, vocabulary: number): Reading {
  const tokens = logits.length / vocabulary
  const rows = Array.from({ length: answer }, (_, i) => {
    const row = tokens - 1 - answer + i
    return logSoftmax(logits.subarray(row * vocabulary, (row + 1) * vocabulary))
  })
  return { rows, best: rows.map(likeliest) }
}

function likeliest(row: Float64Array): number {
  let best = 0
  for (let i = 1; i < row.length; i++) if ((row[i] as number) > (row[best] as number)) best = i
  return best
}

export function judge(full: Reading, own: Reading, answer: ArrayLike<number>): Measures {
  const count = own.rows.length
  let logprob = 0
  let kl = 0
  let same = 0
  let hits = 0
  for (const [i, row] of own.rows.entries()) {
    logprob += row[answer[i] as number] as number
    kl += full === own ? 0 : divergence(full.rows[i] as Float64Array, row)
    same += own.best[i] === full.best[i] ? 1 : 0
    hits += own.best[i] === answer[i] ? 1 : 0
  }
  return { logprob: logprob / count, kl: kl / count, top1: same / count, exact: hits === count ? 1 : 0 }
}
