// The parts of the command line that compute: method texts, tables, wrapped text, divergence.
import t from 'tap'
import { bytes, markdownTable, median, number, plainTable, Wrapper, wrap } from '../lib/cli/format.js'
import { Interrupts, painter, widthOf } from '../lib/cli/io.js'
import { fill } from '../lib/cli/markdown.js'
import { parseMethod } from '../lib/cli/method-option.js'
import { sessionOptions } from '../lib/cli/session-options.js'
import { divergence, logSoftmax } from '../lib/lab/divergence.js'

t.test('--method texts', async (t) => {
  const options = (text: string) => parseMethod(text).options
  t.match(options('snapkv'), { keep: 0.5, window: 32 })
  t.match(options('snapkv:keep=0.25,window=16,pool=avg'), { keep: 0.25, window: 16, pool: 'avg' })
  t.match(options('h2o:keep.tokens=512'), { keep: { tokens: 512 } })
  t.match(options('h2o:keep.bytes=64MiB'), { keep: { bytes: '64MiB' } })
  t.match(options('pyramidDrop:layers=1/2,ratios=0.5/0.25'), { layers: [1, 2], ratios: [0.5, 0.25] })
  t.match(options('pyramidDrop:layers=4,ratios=0.5'), { layers: [4], ratios: [0.5] }, 'a list of one')
  t.match(options('tome:keep=0.5/0.25,layers=2/4'), { keep: [0.5, 0.25], layers: [2, 4] })
  t.match(options('adaKv:of=h2o,keep=0.25'), { of: { name: 'h2o' }, keep: 0.25 })
  for (const text of ['', 'magic', 'snapkv:keep', 'snapkv:=3', 'snapkv:keep=0.5,keep=0.6'])
    t.throws(() => parseMethod(text), { name: 'UsageError' }, text)
  t.throws(() => parseMethod('snapkv:pool=true'), { name: 'TypeError', message: /`pool` but received true/ })
  t.throws(() => parseMethod('snapkv:keep.rows=4'), { name: 'TypeError', message: /`keep`/ })
  t.throws(() => parseMethod('snapkv:keep='), { name: 'TypeError', message: /`keep`/ })
})

t.test('numbers as people read them', async (t) => {
  t.same([0, 512, 1023, 1024, 98_362_432, 110 * 2 ** 30].map(bytes), [
    '0 bytes',
    '512 bytes',
    '1023 bytes',
    '1.0 KiB',
    '93.8 MiB',
    '110 GiB',
  ])
  t.same([0, 7, 9.871, 98.71, 987.1, 1234.5, 0.01234].map(number), ['0', '7', '9.87', '98.7', '987', '1,235', '0.0123'])
  t.equal(number(Number.NaN), '–')
  t.same([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5])
})

t.test('tables', async (t) => {
  const columns = [{ title: 'a' }, { title: 'count', right: true }]
  const rows = [
    ['x', '1'],
    ['\x1b[31mlong\x1b[0m', '22'],
  ]
  t.same(
    plainTable(columns, rows),
    ['a     count', 'x         1', '\x1b[31mlong\x1b[0m     22'],
    'colours take no room',
  )
  t.equal(markdownTable(columns, [['x', '1']]), '| a   | count |\n| --- | ----: |\n| x   |     1 |')
})

t.test('text in lines', async (t) => {
  t.equal(wrap('one two three', 7), 'one two\nthree')
  t.equal(wrap('one two three', 9, '  '), '  one two\n  three')
  t.equal(wrap('a\n\nb', 5, '> '), '> a\n\n> b')
  t.equal(wrap('incomprehensible', 4), 'incomprehensible', 'a word is never cut')
  const text = 'It is a truth, universally acknowledged.\nThat  is it.'
  const wrapper = new Wrapper(16, ' ')
  const pieces = [...text].map((letter) => wrapper.push(letter)).join('') + wrapper.end()
  t.equal(pieces, wrap(text, 16, ' '), 'however it comes')
  for (const line of pieces.split('\n')) t.ok(line.length <= 16, line)
})

t.test('colours and widths follow the output', async (t) => {
  const write = () => {}
  const before = { NO_COLOR: process.env.NO_COLOR, TERM: process.env.TERM }
  const set = (values: Record<string, string | undefined>) => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  t.teardown(() => set(before))
  set({ NO_COLOR: undefined, TERM: 'xterm' })
  t.equal(painter({ write, isTTY: true })('red', 'x'), '\x1b[31mx\x1b[0m')
  t.equal(painter({ write })('red', 'x'), 'x')
  set({ TERM: 'dumb' })
  t.equal(painter({ write, isTTY: true })('red', 'x'), 'x')
  set({ TERM: 'xterm', NO_COLOR: '1' })
  t.equal(painter({ write, isTTY: true })('red', 'x'), 'x')
  t.same(
    [{}, { isTTY: true, columns: 20 }, { isTTY: true, columns: 90 }, { isTTY: true, columns: 300 }].map((o) =>
      widthOf({ write, ...o }),
    ),
    [80, 40, 90, 100],
  )
})

t.test('Ctrl-C goes to whoever took it last', async (t) => {
  const interrupts = new Interrupts()
  const heard: string[] = []
  const releaseOuter = interrupts.take(() => heard.push('outer'))
  const releaseInner = interrupts.take(() => heard.push('inner'))
  interrupts.interrupt()
  releaseInner()
  interrupts.interrupt()
  releaseOuter()
  t.same(heard, ['inner', 'outer'])
  t.notOk(interrupts.signal.aborted)
  interrupts.interrupt()
  t.ok(interrupts.signal.aborted)
})

t.test('divergence of two distributions', async (t) => {
  const p = logSoftmax(Float32Array.of(Math.log(0.5), Math.log(0.25), Math.log(0.25)))
  const q = logSoftmax(Float32Array.of(Math.log(0.25), Math.log(0.5), Math.log(0.25)))
  t.equal(divergence(p, p), 0)
  t.ok(Math.abs(divergence(p, q) - 0.25 * Math.LN2) < 1e-7, '0.5 ln 2 - 0.25 ln 2')
  t.equal(
    divergence(logSoftmax(Float32Array.of(0, Number.NEGATIVE_INFINITY)), logSoftmax(Float32Array.of(0, 0))).toFixed(6),
    Math.LN2.toFixed(6),
  )
  t.ok(Math.abs((logSoftmax(Float32Array.of(1000, 1000))[0] as number) + Math.LN2) < 1e-12, 'large logits')
})

t.test('a part of a text is replaced between its marks', async (t) => {
  t.equal(fill('a <!-- x --> old <!-- /x --> b', 'x', 'new'), 'a <!-- x -->\n\nnew\n\n<!-- /x --> b')
  t.throws(() => fill('a', 'x', 'new'), /<!-- x -->/)
})

t.test('a preset is a cache and its methods, --kv instead of its cache', async (t) => {
  const of = (values: { [name: string]: string | string[] }) => sessionOptions({ values, positionals: [] })
  t.match(of({ preset: 'balanced' }), { kv: { keys: 'kivi4', recent: 16 }, methods: [{ name: 'evenShare' }] })
  t.match(of({ preset: 'small', kv: 'q4_0@0=q8_0' }).kv, { keys: 'q4_0', except: [{ layers: [0, 1], keys: 'q8_0' }] })
  t.match(of({ preset: 'balanced', heads: '[[3,1]]' }).kv, { except: [{ layers: [3, 4], heads: [1], keys: 'q8_0' }] })
  t.throws(() => of({ preset: 'small', heads: '[[3' }), /\[\[layer, KV head\], …\] for --heads but received/)
  t.throws(() => of({ preset: 'tiny' }), { name: 'TypeError', message: /`preset`/ })
  t.throws(() => of({ preset: 'small', method: ['h2o'] }), /not both/)
  t.throws(() => of({ preset: 'small', quality: 'quality.json' }), /not both/)
})
