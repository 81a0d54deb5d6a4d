// TOVA: the rows that the newest query looks at stay, the same in every head, judged anew at every step. arXiv 2401.06104
import { cacheMethod } from '../cache-method.js'
import { whole } from '../options.js'
import { sumOverHeads } from '../over-heads.js'

/** A row's score is the attention that the last row gives it, over all query heads of the layer. Nothing is protected and nothing remembered: a row that stays is judged again. */
export const tova = cacheMethod({
  name: 'tova',
  title: 'keeps the cache rows that the newest row looks at, step after step',
  paper: '2401.06104',
  options: { every: whole(1, 'decode steps between evictions; 0: once, after the prompt') },
  needs: () => [{ what: 'attention', rows: 1 }],
  score: (seen, head) => sumOverHeads(seen, head, (other) => seen.attention(other)),
})
