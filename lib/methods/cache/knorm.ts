// L2 norm of keys: rows whose keys have small norms gather attention, so they stay. arXiv 2406.11430
import { cacheMethod } from '../cache-method.js'

export const knorm = cacheMethod({
  name: 'knorm',
  title: 'keeps the cache rows with the smallest key norms',
  paper: '2406.11430',
  options: {},
  score: (seen, head) => seen.keyNorms(head).map((norm) => 0 - norm),
})
