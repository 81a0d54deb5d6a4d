// SnapKV: keep the prompt rows that the last queries look at. arXiv 2404.14469
import { rangeError } from '../../errors.js'
import { cacheMethod } from '../cache-method.js'
import { whole, word } from '../options.js'
import { pool } from '../select.js'

/**
 * Rows of a head before the window are scored by the attention that the window's queries give them (mean over the query heads of a KV head, summed over the window), smoothed
 * by 1-D pooling so that the neighbours of a hit stay too; the window itself stays whole.
 */
export const snapkv = cacheMethod({
  name: 'snapkv',
  title: 'keeps the cache rows that the last rows of the prompt look at',
  paper: '2404.14469',
  options: {
    window: whole(32, 'newest rows, whose queries look and which always stay', 1),
    kernel: whole(7, 'rows that the pooling spans, an odd number', 1),
    pool: word('max', ['max', 'avg'], 'how scores are smoothed'),
  },
  check({ kernel }) {
    if (kernel % 2 === 0) throw rangeError('an odd number', 'kernel', kernel)
  },
  needs: ({ window }) => [{ what: 'attention', rows: window }],
  score(seen, head, options) {
    const attention = seen.attention(head)
    return pool(attention, Math.max(0, attention.length - options.window), options.kernel, options.pool)
  },
  protect: ({ window }) => ({ sinks: 0, recent: window }),
})
