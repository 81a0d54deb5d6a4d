// H2O: keep the heavy hitters, rows that have gathered the most attention so far, and the newest. arXiv 2306.14048
import { shareOf } from '../../budget.js'
import { cacheMethod } from '../cache-method.js'
import { real, whole } from '../options.js'

export const h2o = cacheMethod({
  name: 'h2o',
  title: 'keeps the cache rows that have gathered the most attention, and the newest',
  paper: '2306.14048',
  options: {
    recent: real(0.5, 'share of the budget for the newest rows, rounded up', 0, 1),
    every: whole(1, 'decode steps between evictions; 0: once, after the prompt'),
  },
  needs: () => [{ what: 'columnSums' }],
  score: (seen, head) => seen.columnSums(head),
  protect: ({ recent }, budget) => ({ sinks: 0, recent: recent === 0 ? 0 : shareOf(recent, budget) }),
  rule: ({ recent }) => ({ kind: 'mass', recent }),
})
