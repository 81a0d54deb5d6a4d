// The table against the peer, from lines that were not measured.
import t from 'tap'

// bench/ is JavaScript over the built package: its types are said here.
interface Side {
  rate: number
  best: number
  share?: number
  bytes?: number
}
interface Row {
  model: string
  what: string
  kv: string
  tokens: number
  limit?: number
  ours: Side
  peer: Side
  ratio: number
  paired?: number
}
interface Bench {
  Rows: new () => {
    note(model: string, who: string, lines: object[], round?: number): void
    finished(works: Map<string, object>, rates: object): Row[]
  }
  table(rows: Row[], peer: string): string
  limitOf(what: string, tokens: number, kv: string, work: object, rates: object): number
}
const { Rows, limitOf, table } = (await import(new URL('../bench/rows.mjs', import.meta.url).href)) as Bench

const weights = { int8: 1000, bf16: 0, f32: 0, bytes: 100 }
const work = { config: { heads: 1, kvHeads: 1, headSize: 32, windows: [0] }, layers: [weights], head: weights }
const rates = { int8: 1e5, bf16: 1e5, f32: 1e5, read: 1e4, attention: 1e5 }
const line = (what: string, rate: number, best: number, peak = 1) => ({ what, tokens: 4, kv: 'f16', rate, best, peak })

t.test('limits of both kinds', async (t) => {
  // 4 tokens: 4 · 1000 operations and 4 · 32 · 10 pairs of them, at 100,000 a second.
  t.equal(limitOf('prefill', 4, 'f16', work, rates), 4 / ((4000 + 1280) / 1e5))
  // 200 bytes of weights and 4 rows of 32 · 4 or 32 · (34 + 18) / 32 bytes, at 10,000 a second.
  t.ok(Math.abs(limitOf('decode', 4, 'f16', work, rates) - 1e4 / (200 + 4 * 128)) < 1e-9)
  t.ok(Math.abs(limitOf('decode', 4, 'q8_0/q4_0', work, rates) - 1e4 / (200 + 4 * 52)) < 1e-9)
})

t.test('the median of ours against the best median of the peer', async (t) => {
  const rows = new Rows()
  for (const [rate, best] of [
    [40, 44],
    [60, 66],
    [50, 77],
  ] as const)
    rows.note('a', 'ours', [line('prefill', rate, best, 100 + rate)])
  for (const [rate, best] of [
    [10, 12],
    [25, 26],
    [20, 30],
  ] as const)
    rows.note('a', 'peer', [line('prefill', rate, best, 200 + rate)])
  for (const rate of [4, 5]) rows.note('a', 'ours', [line('start', rate, rate, 999)])
  for (const rate of [1, 2, 1.25]) rows.note('a', 'peer', [line('start', rate, rate, 1)])
  const [prefill, start, memory] = rows.finished(new Map([['a', work]]), rates)
  const limit = limitOf('prefill', 4, 'f16', work, rates)
  t.match(prefill, { what: 'prefill', limit, ratio: 2, ours: { rate: 50, best: 77 }, peer: { rate: 25, best: 30 } })
  t.equal(prefill?.ours.share, 50 / limit)
  t.match(
    start,
    { what: 'start', ours: { rate: 4.5, best: 5 }, peer: { rate: 1.25, best: 2 }, ratio: 3.6 },
    'medians on both sides',
  )
  t.equal(start?.limit, undefined)
  t.match(memory, { what: 'memory', ours: { bytes: 150 }, peer: { bytes: 210 }, ratio: 1.4 }, 'its smallest peak')
})

t.test('each round by itself, against the better process of the peer in it', async (t) => {
  const rows = new Rows()
  // The machine is half as fast in the second round: 4, 3 and 5 times, where the medians have 80 against 30.
  for (const [round, ours, peers] of [
    [1, 120, [30, 20]],
    [2, 60, [15, 20]],
    [3, 80, [16, 16]],
  ] as const) {
    rows.note('a', 'ours', [line('decode', ours, ours)], round)
    for (const peer of peers) rows.note('a', 'peer', [line('decode', peer, peer)], round)
  }
  const [decode, memory] = rows.finished(new Map([['a', work]]), rates)
  t.match(decode, { ratio: 80 / 30, paired: 4 })
  t.equal(memory?.paired, undefined)
})

t.test('one table for several models', async (t) => {
  const rows = new Rows()
  for (const model of ['a', 'b'])
    for (const [who, rate] of [
      ['ours', 80],
      ['peer', 40],
    ] as const)
      rows.note(model, who, [line('decode', rate, 2 * rate, 2 ** 20)])
  const works = new Map([
    ['a', work],
    ['b', work],
  ])
  t.equal(
    table(rows.finished(works, { ...rates, int8: 1e9, read: 712 * 100 }), 'peer'),
    `| model |             | cache | tokens | tokensieve |  best | of limit |    peer | best | of limit |  ratio | by round |
| ----- | ----------- | ----- | -----: | ---------: | ----: | -------: | ------: | ---: | -------: | -----: | -------: |
| a     | decode      | f16   |      4 |       80/s | 160/s |     80 % |    40/s | 80/s |     40 % | 2.00 × |   2.00 × |
| a     | peak memory | f16   |        |    1.0 MiB |       |          | 1.0 MiB |      |          | 1.00 × |          |
| b     | decode      | f16   |      4 |       80/s | 160/s |     80 % |    40/s | 80/s |     40 % | 2.00 × |   2.00 × |
| b     | peak memory | f16   |        |    1.0 MiB |       |          | 1.0 MiB |      |          | 1.00 × |          |`,
  )
})

t.test('the longest context is measured first and shown last; prompts come before', async (t) => {
  const rows = new Rows()
  for (const who of ['ours', 'peer']) {
    rows.note('a', who, [{ ...line('decode', 1, 1), tokens: 9 }, line('decode', 1, 1), line('prefill', 1, 1)])
    rows.note('a', who, [{ ...line('prefill', 1, 1), kv: 'q8_0' }])
  }
  const shown = rows.finished(new Map([['a', work]]), rates).filter(({ what }) => what !== 'memory')
  t.same(
    shown.map(({ kv, tokens, what }) => [what, kv, tokens]),
    [
      ['prefill', 'f16', 4],
      ['prefill', 'q8_0', 4],
      ['decode', 'f16', 4],
      ['decode', 'f16', 9],
    ],
  )
})
