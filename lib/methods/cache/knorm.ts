// KNorm: rows whose keys are short stay: they draw the most attention. arXiv 2406.11430
import { cacheMethod } from '../cache-method.js'
import type { Shape } from '../method.js'
import { whole } from '../options.js'

/**
 * A row's score is minus the norm of its key, which rotation does not change. Nothing is protected, the newest rows neither. Layers where lengths say little (the first two, in the
 * paper's examples) are left out by `onLayers`. Norms differ by little and one row may decide what is said next, so prompts are read in fine arithmetic.
 */
export const knorm = cacheMethod({
  name: 'knorm',
  title: 'keeps the cache rows with the shortest keys',
  paper: '2406.11430',
  options: { pruneAfter: whole(0, 'tokens below which all rows stay; the paper has 1000 to 2048') },
  needs: () => [{ what: 'keyNorms' }],
  suits: warnOfNormed,
  least: ({ pruneAfter }) => pruneAfter,
  score: (seen, head) => seen.keyNorms(head).map((norm) => 0 - norm),
})

let warned = false

function warnOfNormed({ normedKeys = false }: Shape): void {
  if (!normedKeys || warned) return
  warned = true
  const said = 'knorm goes by how long keys are, but this model norms its keys: which rows stay is near to chance'
  process.emitWarning(said, { code: 'TOKENSIEVE_NORMED_KEYS' })
}
