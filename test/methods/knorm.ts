// A method of a user's own, for tests: rows whose keys have small norms stay (arXiv 2406.11430). It is not built in:
// which rows it keeps hangs on differences that 8-bit activations do not preserve.
import { cacheMethod } from '../../lib/methods/cache-method.js'

export const knorm = cacheMethod({
  name: 'knorm',
  title: 'keeps the cache rows with the smallest key norms',
  paper: '2406.11430',
  options: {},
  score: (seen, head) => seen.keyNorms(head).map((norm) => 0 - norm),
})
