// StreamingLLM. Numbers of the card, worked by hand.
import { test } from 'tap'
import { methods, type Shape } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, shape, single } from './seen.js'

test('streamingLlm: two sinks and three recent rows', async (t) => {
  const seen = cacheSeen({ shape: single, tokens: 7 })
  const method = methods.streamingLlm({ sinks: 2, keep: { tokens: 5 } })
  t.same(keptRows(method, seen), [[0, 1, 4, 5, 6]])
  t.ok(method.repack)
  t.notOk(methods.streamingLlm({ positions: 'keep' }).repack)
  t.same(keptRows(methods.streamingLlm({ sinks: 0, keep: { tokens: 5 } }), seen), [[2, 3, 4, 5, 6]])
  t.same(keptRows(methods.streamingLlm({ sinks: 4, keep: { tokens: 2 } }), seen), [[0, 6]])
  t.same(keptRows(methods.streamingLlm({ sinks: 2, keep: { tokens: 7 } }), seen), [[0, 1, 2, 3, 4, 5, 6]])
  const bytes = { bytes: 8 * 2 * 16 * 40 }
  t.same(methods.streamingLlm({ keep: bytes }).decide({ at: 'session', shape })[0], {
    action: 'rule',
    layer: 0,
    rule: { kind: 'window', sinks: 4, tokens: 40, share: 0 },
  })
})

test('a sliding layer: the share is of the rows that it may hold', async (t) => {
  const sliding: Shape = { ...single, windows: [0, 20, 0, 0, 0, 0, 0, 0] }
  const rows = Array.from({ length: 20 }, (_, i) => 80 + i)
  const seen = cacheSeen({ shape: sliding, layer: 1, tokens: 100, sources: [rows] })
  t.equal(keptRows(methods.streamingLlm({ keep: 0.25 }), seen)[0]?.length, 5)
})
