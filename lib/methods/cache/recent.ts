// The newest rows: with random the floor that every method must beat.
import { cacheMethod } from '../cache-method.js'
import { whole, word } from '../options.js'
import { range } from '../select.js'

export const recent = cacheMethod({
  name: 'recent',
  title: 'keeps the newest cache rows: the other floor that every method must beat',
  paper: '',
  options: {
    sinks: whole(4, 'first rows, which stay'),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  score: (seen, head) => range(0, seen.sources(head).length),
  protect: ({ sinks }, budget) => ({ sinks, recent: Math.max(1, budget - sinks) }),
})
