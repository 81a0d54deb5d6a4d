// KeyDiff: rows whose keys are unlike the others stay. arXiv 2504.15364
import { cacheMethod } from '../cache-method.js'
import { whole } from '../options.js'

/**
 * The anchor of a head is the mean of its keys, each of length one; the rows least alike to it (cosine) stay. A prompt that is given in several calls and a budget in tokens
 * make the paper's blocks: after each call the cache is back at its budget.
 */
export const keyDiff = cacheMethod({
  name: 'keyDiff',
  title: 'keeps the cache rows whose keys are least like the mean key',
  paper: '2504.15364',
  options: {
    sinks: whole(4, 'first rows, which stay'),
    recent: whole(0, 'newest rows, which stay'),
  },
  score: (seen, head) => unlikeness(seen.keys(head), seen.shape.headSize),
  protect: ({ sinks, recent }) => ({ sinks, recent }),
})

/** [rows]: minus the cosine of each key and the anchor. A key of zeros is like nothing. */
export function unlikeness(keys: Float32Array, size: number): Float64Array {
  const rows = keys.length / size
  const lengths = new Float64Array(rows)
  const anchor = new Float64Array(size)
  for (let j = 0; j < rows; j++) {
    let squares = 0
    for (let d = 0; d < size; d++) squares += (keys[j * size + d] as number) ** 2
    lengths[j] = squares > 0 ? Math.sqrt(squares) : 1
    for (let d = 0; d < size; d++)
      anchor[d] = (anchor[d] as number) + (keys[j * size + d] as number) / (lengths[j] as number)
  }
  const norm = Math.hypot(...anchor) || 1
  const scores = new Float64Array(rows)
  for (let j = 0; j < rows; j++) {
    let dot = 0
    for (let d = 0; d < size; d++) dot += (keys[j * size + d] as number) * (anchor[d] as number)
    scores[j] = 0 - dot / ((lengths[j] as number) * norm)
  }
  return scores
}
