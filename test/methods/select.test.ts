import { test } from 'tap'
import { pool, range, selectRows, topK } from '../../lib/methods/select.js'
import { floats, generator } from './seen.js'

// The plain way: sort all, ties by place.
function sorted(values: ArrayLike<number>, k: number, from = 0, to = values.length): number[] {
  const places = Array.from({ length: to - from }, (_, i) => from + i)
  places.sort((a, b) => (values[b] as number) - (values[a] as number) || a - b)
  return places.slice(0, k).sort((a, b) => a - b)
}

test('topK is what sorting gives, ties to the lower place', async (t) => {
  const next = generator(11)
  for (let round = 0; round < 300; round++) {
    const n = 1 + Math.floor(next() * 200)
    const steps = [2, 5, 1e9][round % 3] as number
    const values = floats(n, () => Math.floor(next() * steps) - steps / 2)
    const from = Math.floor(next() * n)
    const to = from + Math.floor(next() * (n - from + 1))
    const k = Math.floor(next() * (to - from + 2))
    const expected = sorted(values, k, from, to)
    if (JSON.stringify(Array.from(topK(values, k, from, to))) !== JSON.stringify(expected))
      t.same(topK(values, k, from, to), expected)
  }
})

test('topK at its edges', async (t) => {
  t.same([...topK(Float32Array.of(1, 1, 1, 1), 2)], [0, 1])
  t.same([...topK(Float32Array.of(3, 1, 2), 0)], [])
  t.same([...topK(Float32Array.of(3, 1, 2), 7)], [0, 1, 2])
  t.same([...topK([], 3)], [])
  t.same(
    [...topK(Float64Array.of(Number.NaN, -1, Number.NaN, Number.NEGATIVE_INFINITY), 2)],
    [0, 1],
    'NaN is the least',
  )
  t.same([...topK(Float64Array.of(Number.NaN, -1, 5), 2)], [1, 2])
  t.same([...topK(Float64Array.of(-0, 0, 0), 1)], [0])
})

test('pooling', async (t) => {
  const near = (x: ArrayLike<number>, y: number[]) =>
    y.every((value, i) => Math.abs((x[i] as number) - value) < 5e-4) && x.length === y.length
  const s = [0.15, 0.1, 0.55, 0.1, 0.15, 0.35]
  t.ok(near(pool(s, 6, 3, 'avg'), [0.083, 0.267, 0.25, 0.267, 0.2, 0.167]), 'the average counts the padding')
  t.ok(near(pool(s, 6, 3, 'max'), [0.15, 0.55, 0.55, 0.55, 0.35, 0.35]))
  t.ok(near(pool([-3, -1, -2], 3, 3, 'max'), [-1, -1, -1]), 'the maximum ignores it')
  t.ok(near(pool(s, 2, 3, 'max'), [0.15, 0.15]), 'nothing behind n is seen')
  t.ok(near(pool(s, 6, 1, 'avg'), s))
  t.ok(near(pool([1, 2], 2, 7, 'max'), [2, 2]), 'a kernel wider than the rows')
})

test('protected rows first, then the best', async (t) => {
  const scores = () => Float64Array.of(9, 1, 5, 7, 3, 8, 2, 0, 4, 6)
  const pick = (budget: number, sinks: number, recent: number) => [...selectRows(10, budget, { sinks, recent }, scores)]
  t.same(pick(5, 1, 2), [0, 3, 5, 8, 9])
  t.same(pick(3, 0, 0), [0, 3, 5])
  t.same(pick(10, 3, 3), [...range(0, 10)])
  t.same(pick(99, 0, 0), [...range(0, 10)])
})

test('a budget below what is protected: the newest, the sinks, the newer ones', async (t) => {
  const never = () => {
    throw new Error('scores are not asked')
  }
  const pick = (budget: number, sinks: number, recent: number) => [...selectRows(10, budget, { sinks, recent }, never)]
  t.same(pick(1, 3, 4), [9])
  t.same(pick(2, 3, 4), [0, 9])
  t.same(pick(4, 3, 4), [0, 1, 2, 9])
  t.same(pick(5, 3, 4), [0, 1, 2, 8, 9])
  t.same(pick(7, 3, 4), [0, 1, 2, 6, 7, 8, 9])
  t.same(pick(2, 0, 4), [8, 9])
  t.same(pick(2, 3, 0), [0, 1], 'no recent ones are protected')
  t.same(pick(4, 20, 20), [0, 1, 2, 9], 'more sinks than rows')
})

test('floats that are not negative take a path of their own, which agrees', async (t) => {
  const next = generator(77)
  for (const n of [1, 2, 6, 7, 50, 400]) {
    for (const steps of [3, 1e6]) {
      const values = Float32Array.from({ length: n }, () => Math.floor(next() * steps) / steps / 8)
      if (n > 2) values[2] = Number.POSITIVE_INFINITY
      for (const kernel of [1, 3, 5, 7, 9, 31])
        t.same([...pool(values, n, kernel, 'max')], [...pool(Array.from(values), n, kernel, 'max')])
      for (const k of [1, 2, n >> 1, n - 1])
        t.same([...topK(values, k, 1)], [...topK(Array.from(values), k, 1)], `${k} of ${n}`)
    }
  }
  t.same([...topK(Float32Array.of(-1, Number.NaN, -2, 0.5), 2)], [0, 3])
  t.same([...pool(Float32Array.of(-3, -1, -2), 3, 3, 'max')], [-1, -1, -1])
})
