// LagKV. Numbers of the card, worked by hand.
import { test } from 'tap'
import { unevenness } from '../../lib/methods/cache/lag-kv.js'
import { methods } from '../../lib/methods/index.js'
import { cacheSeen, keptRows, randomCache, single, span } from './seen.js'

const keys = [0, 0, 1, 1, 2, 0, 0, 4, 0, 0, 2, 1, 1, 2, 1, 1]
const values = [1, 1, 1, 0, 0, 1, 2, 2, 0, 0, 1, 1, 2, 2, 1, 1]

test('lagKv: a partition of four and the one that follows', async (t) => {
  const rounded = (side: number[]) =>
    Array.from(unevenness(Float32Array.from(side.slice(0, 8)), Float32Array.from(side.slice(8)), 2), (one) =>
      Number((one ** 2).toFixed(4)),
    )
  t.same(rounded(keys), [0, 0, 0.5, 2], 'squares of .7071 and 1.4142')
  t.same(rounded(values), [0, 0.125, 0.125, 0])
  const seen = cacheSeen({ shape: { ...single, headSize: 2 }, tokens: 8, keys: [keys], values: [values] })
  const method = methods.lagKv({ sinks: 0, lag: 4, keep: { tokens: 6 } })
  t.same(keptRows(method, seen), [[2, 3, 4, 5, 6, 7]], 'the better half of the first, and the window')
})

test('lagKv: each partition keeps its share', async (t) => {
  const method = methods.lagKv({ sinks: 16, lag: 128, keep: { tokens: 302 } })
  for (const rows of keptRows(method, randomCache(686, 3))) {
    t.equal(rows.length, 302, '16 sinks, four times a quarter of 128, the last partition and 30 more')
    t.same(rows.slice(0, 16), [...span(0, 16)])
    t.same(rows.slice(-158), [...span(528, 686)])
    for (let part = 0; part < 4; part++)
      t.equal(rows.filter((row) => row >= 16 + 128 * part && row < 144 + 128 * part).length, 32)
  }
})

test('lagKv: a window that leaves no room is made smaller', async (t) => {
  for (const rows of keptRows(methods.lagKv({ keep: 0.25 }), randomCache(300, 3))) {
    t.equal(rows.length, 75)
    t.same(rows.slice(-40), [...span(260, 300)], 'partitions of 32: one, and the 8 that are left over')
    t.equal(rows.filter((row) => row >= 4 && row < 260).length, 31)
  }
})

test('lagKv: a channel that does not vary counts nothing', async (t) => {
  t.same(unevenness(Float32Array.from([9, 1, 5, 0]), Float32Array.from([2, 0, 2, 1]), 2), [Math.SQRT1_2, 0])
})
