// Expected attention: what is expected comes from the engine (test/expected-attention.test.ts, test/native/expected.test.cc); here how values weigh it. Numbers of the card.
import { test } from 'tap'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, shape, single } from './seen.js'

test('expectedAttention: three rows in the plane', async (t) => {
  const expected = [[0.436, 0.361, 0.203]] // the softmax of -.1854, -.3741, -.9501
  const seen = cacheSeen({ shape: { ...single, headSize: 2 }, tokens: 3, expected, values: [[1, 0, 0, 2, 1, 1]] })
  const of = (tokens: number, more: object = {}) =>
    keptRows(methods.expectedAttention({ keep: { tokens }, sinks: 0, ...more }), seen)[0]
  t.same(of(1), [1], '.722')
  t.same(of(2), [0, 1], '.436 before .287')
  t.same(of(1, { sinks: 1 }), [0], 'sinks stay')
  t.same(of(2, { epsilon: 1 }), [1, 2], 'with a large epsilon the lengths of the values alone: 2, 1.41, 1')
})

test('expectedAttention asks for what it needs, and two that ask for unlike things conflict', async (t) => {
  const [look] = methods.expectedAttention({ future: 64 }).looks(shape)
  t.match(look, { at: 'prompt', needs: [{ what: 'expected', ahead: 64, skip: 4 }] })
  t.equal(methods.expectedAttention().looks(shape).length, 1)
  t.throws(() => methods.expectedAttention({ future: 0 }), { name: 'RangeError' })
})
