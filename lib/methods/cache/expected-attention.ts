// Expected attention: rows stay by what the queries to come will give them, as far as those of the prompt foretell it. arXiv 2510.00636
import { cacheMethod } from '../cache-method.js'
import { real, whole } from '../options.js'

/**
 * Queries to come are taken to be normal, with the mean and covariance of the call's queries, turned by the mean rotation of the next `future` positions. A row's score is the
 * probability that such a query gives it (mean over the query heads of a KV head), plus epsilon, times the length of its value.
 */
export const expectedAttention = cacheMethod({
  name: 'expectedAttention',
  title: 'keeps the cache rows that queries to come are expected to look at',
  paper: '2510.00636',
  options: {
    future: whole(512, 'positions ahead', 1, 1 << 20),
    sinks: whole(4, 'first rows, which stay and whose queries do not count'),
    epsilon: real(0, 'added to the probabilities before values weigh them', 0, 1),
  },
  needs: ({ future, sinks }) => [{ what: 'expected', ahead: future, skip: sinks }],
  score(seen, head, { epsilon }) {
    const { headSize } = seen.shape
    const values = seen.values(head)
    return Float64Array.from(seen.expected(head), (probability, j) => {
      let squares = 0
      for (let i = j * headSize; i < (j + 1) * headSize; i++) squares += (values[i] as number) ** 2
      return (probability + epsilon) * Math.sqrt(squares)
    })
  },
  protect: ({ sinks }) => ({ sinks, recent: 0 }),
})
