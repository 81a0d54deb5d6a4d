// The benchmark's tables, from figures that were not measured.
import t from 'tap'
import { percent, type Report, reportText } from '../lib/cli/bench/report.js'
import type { Run } from '../lib/cli/bench/runs.js'
import { joined } from '../lib/cli/bench/subject.js'

const run: Run = {
  ...{ model: 'a.gguf', what: 'prefill', tokens: 2048, method: 'none', kv: 'f16', unit: 'tokens/s' },
  ...{ median: 1300, best: 1400, ms: 1575, limit: 2600, share: 0.5, kvBytes: 47185920, rss: 2 ** 28 },
}
const rate = (median: number, best = median) => ({ median, best })
const report: Report = {
  context: 'random',
  machine: {
    cpu: 'X',
    cores: 2,
    logical: 2,
    memory: 2 ** 34,
    platform: 'linux-x64',
    node: '20.0.0',
    isa: 'avx2',
    threads: 2,
  },
  cards: {},
  limits: { isa: 'avx2', threads: 2, read: rate(31e9, 34.5e9), int8: rate(7e11), bf16: null, f32: rate(2.3e11) },
  models: [{ name: 'A', file: 'a.gguf' }],
  runs: [],
  growth: [],
  sessions: [],
  dropping: [],
  pictures: [],
}

t.test('speeds beside their limits', async (t) => {
  t.equal(
    reportText({ ...report, runs: [run] }),
    `A (a.gguf)
2 threads, avx2, X, Node 20.0.0; prompts are random tokens
limits, measured beside: read 31 GB/s (best 34.5), int8 700 Gop/s (best 700), bf16 none, f32 230 Gop/s (best 230)

| what    | tokens | method | kv  | tokens/s, median |  best | limit | of limit |    ms |    cache | process |
| ------- | -----: | ------ | --- | ---------------: | ----: | ----: | -------: | ----: | -------: | ------: |
| prefill |  2,048 | none   | f16 |            1,300 | 1,400 | 2,600 |     50 % | 1,575 | 45.0 MiB | 256 MiB |

ms: of the whole prompt, or of one generated token.
limit: what the rows that ran or are read would allow at the limits above.
`,
  )
})

t.test('what methods save, against the ideal', async (t) => {
  const thinned: Run = { ...run, method: 'fastv', median: 2600, speedup: 2, ideal: 2.18, decide: 0.004 }
  const text = reportText({ ...report, models: [...report.models, { name: 'B', file: 'B' }], dropping: [run, thinned] })
  t.match(text, /^A \(a\.gguf\), B\n/)
  t.match(text, /\| model +\| what .*\| faster \| +ideal \| of ideal \| in methods \| +cache \|/)
  t.match(text, /\| 2\.00 × \| 2\.18 × \| +91\.7 % \| +0\.4 % \|/)
  t.match(text, /\n\| a\.gguf \| prefill \| +2,048 \| none .*\| +\| +\| +\| +\| 45\.0 MiB \|/, 'the full run has none')
})

t.test('growth', async (t) => {
  const line = { model: 'a.gguf', kv: 'f16', best: 90, limit: 40, share: 0.25 }
  const growth = [
    { ...line, size: 1024, ms: 100, rate: 10, exponent: null, expected: null },
    { ...line, size: 2048, ms: 250, rate: 8, exponent: 1.322, expected: 1.4 },
  ]
  const text = reportText({
    ...report,
    growth,
    sessions: [{ ...line, size: 8, ms: 20, rate: 400, exponent: 0.1, expected: 0.05 }],
  })
  t.match(text, /\| prompt \| kv .*\| grows by \| arithmetic \|/)
  t.match(text, /\| +1,024 \| f16 \| 100 \| +90 \| +10 \| +40 \| +25 % \| +\| +\|/)
  t.match(text, /\| +2,048 \| .*\| +1\.32 \| +1\.40 \|/)
  t.match(text, /\| +8 \| f16 \| +20 \| +90 \| +400 \| +50 \| +40 \| +25 % \| +0\.10 \| +0\.05 \|/)
})

t.test('limits of several passes', async (t) => {
  const pass = (median: number, best: number, int8 = true) => ({
    isa: 'i',
    threads: 2,
    read: rate(median, best),
    f32: rate(median, best),
    int8: int8 ? rate(median, best) : null,
    bf16: null,
  })
  const all = joined([pass(3, 9), pass(1, 4), pass(2, 5)])
  t.same(all, { isa: 'i', threads: 2, read: rate(2, 9), f32: rate(2, 9), int8: rate(2, 9), bf16: null })
  t.throws(() => joined([]), /measured/)
})

t.test('shares', async (t) => {
  t.same([0.5, 0.0123, 1.25, null, undefined, Number.NaN].map(percent), ['50 %', '1.23 %', '125 %', '', '', ''])
})
