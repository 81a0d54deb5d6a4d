// StreamingLLM: attention sinks and a sliding window, renumbered so that no position outgrows the budget. arXiv 2309.17453
import { cacheMethod } from '../cache-method.js'
import { whole, word } from '../options.js'
import { range } from '../select.js'

export const streamingLlm = cacheMethod({
  name: 'streamingLlm',
  title: 'keeps the first rows (attention sinks) and the newest',
  paper: '2309.17453',
  options: {
    sinks: whole(4, 'first rows, which stay'),
    positions: word('repack', ['keep', 'repack'], 'rotary positions of what stays'),
    every: whole(1, 'decode steps between evictions; 0: once, after the prompt'),
  },
  score: (seen, head) => range(0, seen.sources(head).length),
  protect: ({ sinks }, budget) => ({ sinks, recent: Math.max(1, budget - sinks) }),
  rule: ({ sinks }) => ({ kind: 'window', sinks }),
})
