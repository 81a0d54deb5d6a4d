import { test } from 'tap'
import { apportion, keepsAll, parseBudget, parseBytes, rowsOf, shareOf } from '../lib/budget.js'

const sizes = { layers: 30, kvHeads: 3, rowBytes: 256 }

test('a share is rounded up and never below one', async (t) => {
  for (const [share, count, rows] of [
    [0.5, 7, 4],
    [0.25, 587, 147],
    [0.25, 8, 2],
    [0.07, 100, 7], // 0.07 · 100 is 7.000000000000001
    [0.29, 100, 29],
    [1, 13, 13],
    [0.001, 10, 1],
    [0.5, 0, 1],
  ] as const) {
    t.equal(shareOf(share, count), rows, `${share} of ${count}`)
    t.equal(rowsOf(share, count, sizes), rows)
  }
})

test('tokens are rows, bytes are shared over layers and heads', async (t) => {
  t.equal(rowsOf({ tokens: 512 }, 100, sizes), 512)
  t.equal(rowsOf({ bytes: 30 * 3 * 256 * 100 }, 7, sizes), 100)
  t.equal(rowsOf({ bytes: 30 * 3 * 256 * 100 + 1 }, 7, sizes), 101)
  t.equal(rowsOf({ bytes: '64MiB' }, 7, sizes), Math.ceil((64 * 2 ** 20) / (90 * 256)))
  t.equal(rowsOf({ bytes: 1 }, 7, sizes), 1)
})

test('sizes', async (t) => {
  const cases = {
    '64MiB': 64 * 2 ** 20,
    '1.5GB': 1.5e9,
    '1.5 gb': 1.5e9,
    '2KiB': 2048,
    '300': 300,
    '10kb': 1e4,
    '7 B': 7,
  }
  for (const [text, bytes] of Object.entries(cases)) t.equal(parseBytes(text, 'bytes'), bytes, text)
})

test('budgets as they may be written', async (t) => {
  for (const budget of [1, 0.25, { tokens: 512 }, { bytes: 12 }, { bytes: '64MiB' }])
    t.same(parseBudget(budget), budget)
  t.ok(Object.isFrozen(parseBudget({ tokens: 3 })))
  t.ok(keepsAll(1))
  t.notOk(keepsAll({ tokens: 1 }))
})

test('misuse is a sentence with the value', async (t) => {
  const range = [
    1.5,
    0,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    { tokens: 0 },
    { tokens: 2.5 },
    { tokens: -1 },
    { bytes: 0 },
    { bytes: -4 },
    { bytes: '0MiB' },
    { bytes: Number.NaN },
  ]
  for (const value of range)
    t.throws(
      () => parseBudget(value),
      { name: 'RangeError', message: /^Expected .* for `keep.*` but received / },
      JSON.stringify(value),
    )
  const type = [
    'half',
    null,
    true,
    [],
    {},
    { tokens: '5' },
    { token: 5 },
    { tokens: 5, bytes: 6 },
    { bytes: '12 parsecs' },
    { bytes: 'MiB' },
    { bytes: '-3MB' },
    { bytes: null },
  ]
  for (const value of type)
    t.throws(
      () => parseBudget(value),
      { name: 'TypeError', message: /^Expected .* for `keep.*` but received / },
      JSON.stringify(value),
    )
})

test('apportion gives whole numbers with the exact sum', async (t) => {
  t.same(apportion([0.8, 4], 6, [9, 9]), [1, 5], 'the larger fraction first, then round again')
  t.same(apportion([1.5, 3.5], 6, [9, 9]), [2, 4], 'equal fractions: the lower index first')
  t.same(apportion([1.5, 3.5], 5, [9, 9]), [2, 3])
  t.same(apportion([5, 5], 10, [3, 9]), [3, 7], 'what a cap refuses goes elsewhere')
  t.same(apportion([5, 5], 10, [3, 4]), [3, 4], 'never above the caps')
  t.same(apportion([], 0, []), [])
})
