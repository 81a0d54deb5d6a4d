// The newest rows.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { keptRows, randomCache, shape, span } from './seen.js'

test('recent: the newest rows, and the sinks', async (t) => {
  const seen = randomCache(50, 1)
  t.same(keptRows(methods.recent({ keep: { tokens: 10 } }), seen)[1], [...span(0, 4), ...span(44, 50)])
  t.same(keptRows(methods.recent({ keep: { tokens: 10 }, sinks: 0 }), seen)[0], [...span(40, 50)])
  t.same(keptRows(methods.recent({ keep: { tokens: 2 } }), seen)[0], [0, 49], 'the newest first, then a sink')
  t.same(
    methods
      .recent()
      .looks(shape)
      .map(({ at }) => at),
    ['prompt'],
    'once, after a prompt',
  )
  t.ok(methods.recent({ positions: 'repack' }).repack)
  t.notOk(methods.recent().repack)
})
