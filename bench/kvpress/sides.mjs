// The methods that both sides have, set alike, and this side of the comparison.
import { methods } from '../../dist/index.mjs'

const snapkv = { window: 32, kernel: 7, pool: 'avg' }
const of = methods.snapkv(snapkv)

/** name: [alike, this side's method]. What is not alike is said in docs/kvpress.md. */
export const METHODS = {
  snapkv: [true, (keep) => methods.snapkv({ ...snapkv, keep })],
  tova: [true, (keep) => methods.tova({ every: 0, keep })],
  knorm: [true, (keep) => methods.knorm({ keep })],
  keyDiff: [true, (keep) => methods.keyDiff({ sinks: 0, recent: 0, keep })],
  streamingLlm: [true, (keep) => methods.streamingLlm({ sinks: 4, every: 0, positions: 'keep', keep })],
  expectedAttention: [true, (keep) => methods.expectedAttention({ keep })],
  lagKv: [false, (keep) => methods.lagKv({ lag: 64, keep })],
  pyramidKv: [false, (keep) => methods.pyramidKv({ of, keep })],
  chunkKv: [false, (keep) => methods.chunkKv({ of, keep })],
  adaKv: [false, (keep) => methods.adaKv({ of, keep })],
  random: [false, (keep) => methods.random({ sinks: 0, recent: 0, keep })],
}

/** { rows: [layers][heads] of tokens, answer } of one case. */
export async function ours(model, { answer, first, second }, kv, made) {
  const contextLength = first.length + second.length + answer.length + 1
  const session = model.session({ contextLength, kv, methods: made })
  await session.forward(Int32Array.from(first), { logits: 'none' })
  const { kvHeads, layers } = model.config
  const all = Array.from({ length: kvHeads }, () => first.map((_, row) => row))
  const rows = Array.from({ length: layers }, () => all)
  for (const { keptPerHead, layer } of session.plan) if (keptPerHead) rows[layer] = keptPerHead
  const told = answer.length > 0 ? await read(session, model, [...second, ...answer], second.length) : undefined
  await session.close()
  return { rows, answer: told }
}

async function read(session, { config }, given, from) {
  const logits = await session.forward(Int32Array.from(given), { logits: 'all' })
  let sum = 0
  let exact = true
  for (let at = from; at < given.length; at++) {
    const row = logits.subarray((at - 1) * config.vocabularySize, at * config.vocabularySize)
    let best = 0
    for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i
    const total = row.reduce((all, logit) => all + Math.exp(logit - row[best]), 0)
    sum += row[given[at]] - row[best] - Math.log(total)
    exact = exact && best === given[at]
  }
  return { logp: sum / (given.length - from), exact }
}

/** Share of the rows of one side that the other keeps too. */
export function shared(a, b) {
  let both = 0
  let count = 0
  for (const [layer, heads] of a.entries()) {
    for (const [head, rows] of heads.entries()) {
      const other = new Set(b[layer][head])
      count += Math.max(rows.length, other.size)
      for (const row of rows) both += other.has(row)
    }
  }
  return both / count
}
