// How far one distribution of the next token is from another.

/** Natural logarithms of the probabilities: [vocabulary]. */
export function logSoftmax(logits: Float32Array): Float64Array {
  let most = Number.NEGATIVE_INFINITY
  for (const logit of logits) if (logit > most) most = logit
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - most)
  const shift = most + Math.log(sum)
  return Float64Array.from(logits, (logit) => logit - shift)
}

/** Kullback-Leibler divergence of `q` from `p`, in nats; both in natural logarithms. */
export function divergence(p: Float64Array, q: Float64Array): number {
  let sum = 0
  for (let i = 0; i < p.length; i++) {
    const logP = p[i] as number
    if (logP > Number.NEGATIVE_INFINITY) sum += Math.exp(logP) * (logP - (q[i] as number))
  }
  return Math.max(0, sum)
}
