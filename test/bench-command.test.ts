// tokensieve bench on a tiny model: what is measured and said, never how fast.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Growth } from '../lib/cli/bench/growth.js'
import type { PictureRun } from '../lib/cli/bench/pictures.js'
import type { Run } from '../lib/cli/bench/runs.js'
import { cli } from './cli-run.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const folder = scratch(t)
const tiny = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32, layers: 3 }))
const other = writeGguf(join(folder, 'other.gguf'), tinyModel({ headSize: 32, layers: 2 }))
const bench = (...words: string[]) => cli(['bench', '-m', tiny, '--runs', '1', ...words])
const json = async (...words: string[]) => {
  const { code, err, out } = await bench('--json', ...words)
  t.equal(code, 0, err)
  return JSON.parse(out)
}

t.test('speed: every length with every cache and method, beside the limits', async (t) => {
  const method = 'snapkv:keep=0.5,window=4'
  const words = ['--prompt', '16,40', '--decode', '40', '--kv', 'f16/f32,q8_0', '--method', method]
  const { context, limits, machine, model, runs } = await json(...words)
  t.equal(context, 'text')
  t.match(machine, { cpu: String, cores: Number, threads: Number, isa: String, node: process.versions.node })
  t.match(model, { file: 'tiny.gguf', architecture: 'llama' })
  t.match(limits, { isa: machine.isa, threads: machine.threads, read: { median: Number, best: Number } })
  const lines = ['f16/f32', 'q8_0'].flatMap((kv) => [
    [kv, 'none'],
    [kv, method],
  ])
  t.same(
    runs.map(({ kv, method: of, tokens, what }: Run) => [what, tokens, kv, of]),
    [
      ['prefill', 16],
      ['prefill', 40],
      ['decode', 40],
    ].flatMap((what) => lines.map((line) => [...what, ...line])),
  )
  for (const run of runs as Run[]) {
    t.match(run, { unit: 'tokens/s', kvBytes: Number, rss: Number, model: 'tiny.gguf' })
    t.ok(run.median > 0 && run.best >= run.median && run.limit > 0)
    t.ok(Math.abs(run.share - run.median / run.limit) < 1e-3 * run.share)
    t.equal(run.speedup === undefined, run.method === 'none')
    if (run.method !== 'none') t.ok(run.what === 'prefill' ? run.ideal === 1 : (run.ideal ?? 0) > 1)
  }
})

t.test('what a layer method leaves out is the ideal that it is held against', async (t) => {
  const [, thinned] = (await json('--prompt', '64', '--decode', '', '--method', 'fastv:layer=1,keep=0.25'))
    .runs as Run[]
  // 63 of 64 tokens may go, 17 stay, in two of three layers; less where reading the weights is the limit.
  t.ok((thinned?.ideal ?? 0) >= 1 && (thinned?.ideal ?? 0) < 3 / (1 + (2 * 17) / 64) + 0.3, String(thinned?.ideal))
  t.ok((thinned?.decide ?? -1) >= 0)
})

t.test('growth, sessions and dropping, of several models', async (t) => {
  const words = ['-m', other, '--section', 'growth,sessions,dropping', '--prompt', '8,16', '--decode', '8']
  const { dropping, growth, models, runs, sessions } = await json(
    ...words,
    '--sessions',
    '1,3',
    '--method',
    'h2o:keep=0.5',
  )
  t.same(runs, [])
  t.same(
    models.map(({ file }: { file: string }) => file),
    ['tiny.gguf', 'other.gguf'],
  )
  const sizes = (rows: Growth[]) => rows.map(({ model, size }) => [model, size])
  const both = (list: number[]) => ['tiny.gguf', 'other.gguf'].flatMap((model) => list.map((size) => [model, size]))
  t.same(sizes(growth), both([8, 16]))
  t.same(sizes(sessions), both([1, 3]))
  t.same(
    [growth[0].exponent, growth[0].expected, growth[2].exponent],
    [null, null, null],
    'the first of each model has nothing before it',
  )
  t.ok(growth[1].expected >= 0 && growth[1].expected < 2)
  t.equal(dropping.length, 2 * 2 * 3)
})

t.test('a prompt with a picture, from its pixels', async (t) => {
  const path = writeGguf(join(folder, 'sees.gguf'), tinyModel({ hidden: 32, headSize: 16, layers: 4 }))
  const tower = 'test/fixtures/vision/embedded.gguf'
  const words = ['bench', '-m', path, '--vision', tower, '--section', 'pictures', '--runs', '2']
  const [fastv, grid] = ['fastv:layer=2,keep=0.25', 'grid:keep=0.25']
  const { code, err, out } = await cli([...words, '--json', '--method', fastv, '--method', grid])
  t.equal(code, 0, err)
  const { pictures } = JSON.parse(out) as { pictures: PictureRun[] }
  // 16 patches; a quarter of them in two of four layers, or in all.
  t.match(pictures, [
    { method: 'none', patches: 16, entered: 16, visual: 16 },
    { method: fastv, patches: 16, entered: 16, visual: 10 },
    { method: grid, patches: 16, entered: 4, visual: 4 },
  ])
  for (const { ideal, median, ms, prefill, share, speedup, vision } of pictures) {
    t.ok(vision > 0 && prefill > 0 && vision + prefill <= ms && ms <= median && share > 0)
    t.equal(speedup === undefined, ideal === undefined)
  }
  t.ok((pictures[2]?.ideal ?? 0) >= (pictures[1]?.ideal ?? 0) && (pictures[1]?.ideal ?? 0) >= 1)
  const table = await cli([...words, '--method', grid])
  t.match(table.out, /\n\| method +\| patches \|[\s\S]*\n\| grid:keep=0\.25 \| 4 of 16 \|/)
  t.match(table.out, /\npatches: that leave the tower/)
  t.match(await bench('--section', 'pictures'), { code: 2, err: /a model with a vision tower/ })
})

t.test('tables', async (t) => {
  const table = await cli(
    ['bench', '-m', tiny, '--runs', '2', '--prompt', '16', '--decode', '16', '--threads', '1', '--context', 'random'],
    {
      columns: 90,
    },
  )
  t.match(
    table.out,
    /tiny\.gguf.*\n1 threads, .*; prompts are random tokens\nlimits, measured beside: read .*\n\n\| what +\| tokens \|/,
  )
  t.match(table.out, /\n\| prefill \| +16 \| none +\| f16 +\|/)
  t.match(table.err, /tiny\.gguf: run 2 of 2/)
})

t.test('a profile: tables, and a file that chrome://tracing reads', async (t) => {
  const path = join(folder, 'trace.json')
  const { code, out } = await bench('--profile', path, '--prompt', '24', '--decode', '12', '--kv', 'q8_0')
  t.equal(code, 0)
  t.match(out, /^tiny\.gguf: prefill, 24 tokens, q8_0 cache\n/)
  t.match(out, /\n\ntiny\.gguf: decode, 32 tokens at 12, q8_0 cache\n/)
  for (const line of [
    /^kernel +calls +ms/m,
    /^matmul \d+×\d+ +\d+ /m,
    /^between calls /m,
    /^layer +ms +/m,
    /^caller +/m,
  ])
    t.match(out, line)
  const { traceEvents } = JSON.parse(readFileSync(path, 'utf8'))
  t.same([...new Set(traceEvents.map(({ pid }: { pid: number }) => pid))], [1, 2])
  const stages = traceEvents.filter(({ name, pid }: { name: string; pid: number }) => name === 'stage' && pid === 2)
  t.equal(stages.length, 32, 'a stage call for each token')
})

t.test('misuse', async (t) => {
  t.match(await bench('--prompt', '', '--decode', ''), { code: 2, err: /lengths/ })
  t.match(await bench('--section', 'speed,magic'), { code: 2, err: /pictures for --section but received "magic"/ })
  t.match(await bench('--section', 'sessions', '--sessions', ''), { code: 2, err: /section sessions/ })
  t.match(await bench('--context', 'noise'), { code: 2, err: /text or random for --context but received "noise"/ })
  t.match(await bench('--kv', 'f17'), { code: 2, err: /`kv/ })
})
