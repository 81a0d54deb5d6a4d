// The command line on a tiny model: what goes to which stream, exit codes, and the forms of --json.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import t from 'tap'
import { Interrupts } from '../lib/cli/io.js'
import { cacheBytes, readSizes } from '../lib/cli/model-sizes.js'
import { Bar } from '../lib/cli/open-model.js'
import { native } from '../lib/native.js'
import { cli } from './cli-run.js'
import { byteIds, chainModel, idOf, scratch, tinyModel, writeGguf } from './model-fixture.js'

const program = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const folder = scratch(t)
process.env.TOKENSIEVE_MODELS = folder
const tiny = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
const START = idOf('hello')
/** After "hello" it says " world!" and ends. */
const saying = writeGguf(join(folder, 'saying.gguf'), chainModel([START, idOf('Ġworld'), ...byteIds('!')]))

t.test('generate prints the text as it comes', async (t) => {
  const ran = await cli(['generate', '-m', saying, '-p', 'hello'])
  t.same(ran, { code: 0, out: ' world!\n', err: '' })
  const piped = await cli(['generate', '-m', saying, '-p', '-', '--stats'], { input: 'hello\n' })
  t.equal(piped.out, ' world!\n', 'a prompt from stdin, without its last line break')
  t.match(piped.err, /^prompt +1 tokens.*\ngenerated +3 tokens.*\ncache.*\ntime.*\n$/)
  t.equal((await cli(['generate', '-m', saying, '-p', 'hello', '-n', '1'])).out, ' world\n')
  t.equal((await cli(['generate', '-m', saying, '-p', 'hello', '--stop', 'd!'])).out, ' worl\n')
})

t.test('generate --json is one object', async (t) => {
  const words = ['-m', tiny, '-p', 'the quick brown fox', '-n', '6', '--temperature', '1', '--json']
  const { code, err, out } = await cli(['generate', ...words, '--method', 'snapkv:keep.tokens=4,window=2'])
  t.same([code, err, out.trim().split('\n').length], [0, '', 1])
  const made = JSON.parse(out)
  const keys = [
    'kind',
    'version',
    'text',
    'ids',
    'finishReason',
    'stats',
    'plan',
    'model',
    'name',
    'tokens',
    'prompt',
    'crops',
  ]
  t.same(Object.keys(made), keys)
  t.equal(made.stats.generated.tokens, made.ids.length)
  t.match(made.plan[0], { method: 'snapkv', action: 'evict', phase: 'prefill' })
  const again = await cli(['generate', ...words, '--method', 'snapkv:keep.tokens=4,window=2'])
  t.same(JSON.parse(again.out).ids, made.ids, 'the default seed is 1')
  const other = await cli(['generate', ...words, '--seed', '2'])
  t.notSame(JSON.parse(other.out).ids, made.ids)
})

t.test('a document may be thinned, the question may not', async (t) => {
  const document = join(
    t.testdir({ 'text.txt': 'one two three four five six seven eight nine ten '.repeat(3) }),
    'text.txt',
  )
  const words = ['generate', '-m', tiny, '-p', 'and then?', '--document', document, '-n', '1', '--json']
  for (const chat of [[], ['--chat', '--system', 'Be brief.']]) {
    const { out } = await cli([...words, ...chat, '--method', 'fastv:layer=1,keep=0.5'])
    const { plan, stats } = JSON.parse(out)
    t.match(plan, [{ action: 'drop', layer: 1, method: 'fastv' }])
    t.ok(stats.prompt.seen < stats.prompt.tokens)
  }
  const nothing = await cli([...words.slice(0, 5), '-n', '1', '--method', 'fastv:layer=1'])
  t.match(nothing, { code: 0, err: /^note: fastv dropped nothing/ })
  const missing = await cli([...words.slice(0, 5), '--document', '/no/such/text'])
  t.match(missing, { code: 1, err: /ERR_FILE_NOT_FOUND/ })
})

t.test('a chat goes on until its input ends', async (t) => {
  const input = 'hello\n\n/stats\n/what\n/reset\n/stats\nagain\n/exit\nnever\n'
  const { code, err, out } = await cli(['chat', '-m', tiny, '-n', '3', '--system', 'Be brief.'], { input })
  t.equal(code, 0)
  t.equal(out.split('\n').length, 3, 'two answers')
  const [first, second] = [...err.matchAll(/^prompt +(\d+) tokens/gm)].map(([, count]) => Number(count))
  t.ok((first ?? 0) > 5)
  t.equal(second, 0, 'forgotten')
  t.match(err, /\/reset forgets/)
})

t.test('Ctrl-C stops an answer, not the conversation', async (t) => {
  const loop = writeGguf(join(folder, 'loop.gguf'), chainModel([START, ...byteIds('ab'), START], { context: 4096 }))
  const interrupts = new Interrupts()
  const input = new PassThrough()
  let pieces = 0
  const chat = cli(['chat', '-m', loop, '-n', '100000', '--temperature', '50', '--context', '200000'], {
    input,
    interrupts,
    seen: () => {
      if (++pieces === 3) interrupts.interrupt()
    },
  })
  input.write('go\n')
  await new Promise((stopped) => {
    const watch = setInterval(() => {
      if (pieces < 4) return
      clearInterval(watch)
      input.end('/stats\n')
      stopped(undefined)
    }, 5)
  })
  const { code, err } = await chat
  t.equal(code, 0)
  t.match(err, /\(stopped\)\nprompt/)
})

t.test('Ctrl-C ends a command', async (t) => {
  const interrupts = new Interrupts()
  const words = ['generate', '-m', tiny, '-p', 'the', '-n', '4000', '--temperature', '50']
  const ran = await cli(words, { interrupts, seen: () => interrupts.signal.aborted || interrupts.interrupt() })
  t.equal(ran.code, 130)
  t.ok(ran.out.endsWith('\n'))
  t.equal(ran.err, '')
  const chat = new Interrupts()
  const waiting = cli(['chat', '-m', tiny], { interrupts: chat, input: new PassThrough() })
  setTimeout(() => chat.interrupt(), 300)
  t.equal((await waiting).code, 130)
})

t.test('inspect tells what is in the file', async (t) => {
  const { code, out } = await cli(['inspect', tiny])
  t.equal(code, 0)
  t.match(out, /architecture +llama, .*\nattention .*\nvocabulary +272 tokens/)
  t.match(out, /\nf32 +\d+ +[\d,]+/)
  const found = JSON.parse((await cli(['inspect', tiny, '--context', '100,200', '--json'])).out)
  t.match(found, { path: tiny, architecture: 'llama', kv: [{ context: 100 }, { context: 200 }] })
  t.equal(found.kv[1].bytes.f16, 2 * found.kv[0].bytes.f16)
})

t.test('sizes read from a file are those of the loaded model', async (t) => {
  const models = [
    tinyModel({ headSize: 32 }),
    tinyModel({ architecture: 'gemma3', headSize: 32, layers: 7, period: 3, window: 40 }),
  ]
  for (const [i, made] of models.entries()) {
    const path = writeGguf(join(folder, `sizes${i}.gguf`), made)
    const file = await native().open(path)
    const sizes = readSizes(file)
    const { model: loading } = native().load(file, { threads: 1, isa: 'auto' }, null)
    const loaded = await loading
    file.close()
    t.match(loaded.config, { ...sizes })
    for (const type of ['f32', 'f16', 'bf16', 'q8_0', 'q4_0'] as const) {
      const perRow = loaded.rowBytes(type, type)
      const rows = sizes.windows.reduce((sum, window) => sum + (window > 0 ? Math.min(window, 100) : 100), 0)
      // Of 100 rows q4_0 keeps 4 and the newest 32 in float, of the window's 40 as well.
      const packed = type === 'q4_0' ? sizes.windows.filter((window) => window === 0).length * 60 : rows
      const float = (rows - packed) * sizes.kvHeads * loaded.rowBytes('f16', 'f16')
      t.equal(cacheBytes(sizes, type, 100), packed * sizes.kvHeads * perRow + float, type)
    }
    loaded.close()
  }
})

t.test('the demo compares', async (t) => {
  const document = join(t.testdir({ 'text.txt': 'the sea is wide and the sea is deep. '.repeat(10) }), 'text.txt')
  const words = ['demo', '-m', tiny, '--document', document, '--question', 'How wide is the sea?']
  const { code, out } = await cli([
    ...words,
    '--method',
    'snapkv:keep=0.5,window=4',
    '--method',
    'fastv:layer=1,keep=1',
  ])
  t.equal(code, 0)
  t.match(out, /question +How wide is the sea\?\n\nfull\n/)
  const last = (name: string) => out.split('\n').find((line) => line.startsWith(`${name} `) && / \d/.test(line))
  t.match(last('full'), / 0$/)
  t.match(last('fastv:layer=1,keep=1'), / 0\.000$/, 'what drops nothing stays the same')
  t.match(last('snapkv:keep=0.5,window=4'), / 0\.\d*[1-9]\d*$/)
})

t.test('doctor', async (t) => {
  const { code, out } = await cli(['doctor', '--json'])
  const found = JSON.parse(out)
  t.equal(code, 0)
  t.match(found, { node: process.versions.node, addon: { path: /\.node$/ }, models: { folder }, problems: [] })
  t.equal(found.kernels.filter((level: { chosen: boolean }) => level.chosen).length, 1)
  t.match(found.kernels.at(-1), { isa: 'reference', runs: true })
  t.match((await cli(['doctor'])).out, /\nreference|nothing is missing/)
  const before = { ...process.env }
  t.teardown(() => Object.assign(process.env, before))
  process.env.TOKENSIEVE_ISA = 'mmx'
  process.env.TOKENSIEVE_THREADS = 'many'
  process.env.TOKENSIEVE_DEVICE = 'tpu'
  const bad = await cli(['doctor'])
  for (const name of ['ISA', 'THREADS', 'DEVICE'] as const) delete process.env[`TOKENSIEVE_${name}`]
  t.equal(bad.code, 1)
  t.match(
    bad.out,
    /asks for mmx.*reference\nproblem +TOKENSIEVE_DEVICE asks for tpu.*\nproblem +TOKENSIEVE_THREADS is many/,
  )
})

t.test('methods: the table fits the terminal, each has a page', async (t) => {
  const { out } = await cli(['methods'], { columns: 80 })
  for (const line of out.split('\n')) t.ok(stripVTControlCharacters(line).length <= 80, line)
  const list = JSON.parse((await cli(['methods', '--json'])).out)
  for (const { name, options } of list) {
    const page = await cli(['methods', name])
    for (const option of Object.keys(options)) t.match(page.out, new RegExp(`^${option} `, 'm'), `${name}: ${option}`)
    t.equal(JSON.parse((await cli(['methods', name, '--json'])).out).name, name)
  }
})

t.test('what cannot be meant is a sentence and exit code 2', async (t) => {
  const cases: [string[], RegExp][] = [
    [[], /^Runs language models/],
    [['nope'], /Expected a command \(generate, .*\) but received "nope"/],
    [['generate'], /Expected a prompt/],
    [['generate', '-p', 'x', '--nope'], /Unknown option '--nope'/],
    [['generate', '-p', 'x', '-n', 'few'], /Expected a whole number from 0 for --max-tokens but received "few"/],
    [['generate', '-p', 'x', '--top-p', '2'], /from 0 to 1 for --top-p/],
    [['generate', '-p', 'x', '--kv', 'q3'], /Expected one of f32, .*but received "q3"/],
    [['generate', '-p', 'x', '--kv', 'f16/f16/f16'], /received "f16\/f16\/f16"/],
    [['generate', '-p', 'x', '--system', 'y'], /--chat/],
    [
      ['generate', '-p', 'x', '--method', 'magic'],
      /Expected a method \(.*snapkv.*\) for --method but received "magic"/,
    ],
    [['generate', '-p', 'x', '--method', 'snapkv:keep=2'], /share above 0/],
    [['generate', '-m', tiny, '-p', 'x', '--method', 'fastv:layer=99'], /a layer from 1 to/],
    [['inspect'], /Expected MODEL, which is missing/],
    [['inspect', 'a', 'b'], /no more than MODEL but received "b"/],
    [['pull', 'everything'], /Expected smollm2, .* but received "everything"/],
    [['methods', 'magic'], /Expected one of/],
    [['doctor', 'me'], /options alone/],
  ]
  for (const [args, message] of cases) {
    const ran = await cli(args)
    t.match(ran, { code: 2, out: '', err: message }, args.join(' '))
  }
})

t.test('what fails is a sentence and exit code 1', async (t) => {
  const empty = join(folder, 'empty.gguf')
  writeFileSync(empty, 'not a model')
  const cases: [string[], RegExp][] = [
    [['generate', '-p', 'x', '-m', '/no/such/model.gguf'], /there is no \/no\/such\/model.gguf \(ERR_FILE_NOT_FOUND\)/],
    [['generate', '-p', 'x', '-m', empty], /ERR_FILE_/],
    [['inspect', empty], /ERR_FILE_/],
    [
      ['generate', '-p', 'x', '-m', tiny, '--method', 'snapkv', '--method', 'h2o'],
      /snapkv and h2o \(ERR_METHOD_CONFLICT\)/,
    ],
    [['generate', '-p', 'many words', '-m', tiny, '--context', '2'], /ERR_CONTEXT_FULL/],
  ]
  for (const [args, message] of cases) {
    const { code, err } = await cli(args)
    t.equal(code, 1, args.join(' '))
    t.match(err, message)
    t.equal(err.trim().split('\n').length, 1)
  }
})

t.test('a model by its name', async (t) => {
  const path = join(folder, 'hf', 'maker', 'tiny', 'model.gguf')
  mkdirSync(dirname(path), { recursive: true })
  copyFileSync(saying, path)
  const { mtimeMs, size } = statSync(path)
  const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex')
  writeFileSync(`${path}.checked.json`, JSON.stringify({ bytes: size, sha256, modified: Math.trunc(mtimeMs) }))
  t.same(await cli(['pull', 'hf:maker/tiny/model.gguf']), { code: 0, out: `${path}\n`, err: '' })
  t.equal((await cli(['generate', '-m', 'hf:maker/tiny/model.gguf', '-p', 'hello'])).out, ' world!\n')
  const { HF_ENDPOINT } = process.env
  process.env.HF_ENDPOINT = 'http://127.0.0.1:9' // nobody answers
  t.teardown(() => {
    if (HF_ENDPOINT === undefined) delete process.env.HF_ENDPOINT
    else process.env.HF_ENDPOINT = HF_ENDPOINT
  })
  const ran = await cli(['generate', '-m', 'hf:maker/tiny/other.gguf', '-p', 'hello'])
  t.match(ran, { code: 1, out: '', err: /ERR_DOWNLOAD/ }, 'pulled on first use')
})

t.test('the program itself: signals, and readers who leave', async (t) => {
  const start = (words: string[]) => spawn(process.execPath, [program, ...words], { stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = (child: ChildProcess) => new Promise((done) => child.on('close', done))
  const long = start(['generate', '-m', tiny, '-p', 'the', '-n', '4000', '--temperature', '50'])
  const code = ended(long)
  long.stdout.once('data', () => long.kill('SIGINT'))
  t.equal(await code, 130)
  const left = start(['generate', '-m', tiny, '-p', 'the', '-n', '3000', '--temperature', '50'])
  let complaint = ''
  left.stderr.on('data', (text: Buffer) => {
    complaint += text
  })
  const quiet = ended(left)
  left.stdout.once('data', () => left.stdout.destroy())
  t.equal(await quiet, 0)
  t.equal(complaint, '')
})

t.test('help and version', async (t) => {
  const start = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' })
  t.match(start('--version'), { status: 0, stdout: /^\d+\.\d+\.\d+\n$/, stderr: '' })
  t.match(start('generate'), { status: 2, stdout: '', stderr: /--help/ })
  const { out } = await cli(['--help'])
  const names = [...out.matchAll(/^ {2}(\w+) /gm)].map(([, name]) => name as string)
  t.ok(names.length >= 8)
  for (const name of names) {
    const help = await cli([name, '--help'])
    t.match(help, { code: 0, err: '', out: new RegExp(`Usage: tokensieve ${name}`) })
    for (const line of help.out.split('\n')) t.ok(line.length <= 100, `${name}: ${line}`)
  }
})

t.test('a progress bar on a terminal, gone when it is done', async (t) => {
  const { err } = await cli(['generate', '-m', tiny, '-p', 'x', '-n', '1'], { columns: 80 })
  t.equal(err, '', 'a small model loads before there is anything to show')
  const written = (isTTY: boolean) => {
    let text = ''
    const write = (more: string) => {
      text += more
    }
    const bar = new Bar({ err: { write, isTTY, columns: 80 } }, 'pulling x', 0)
    bar.show(0, 2 ** 20)
    bar.show(2 ** 19, 2 ** 20)
    bar.stop()
    const end = text
    bar.show(2 ** 20, 2 ** 20)
    t.equal(text, end, 'nothing after the end')
    return text
  }
  const shown = written(true)
  t.match(shown, /pulling x .*0% of 1\.0 MiB/)
  t.ok(shown.includes('\x1b[?25h') && shown.endsWith('\x1b[2K'), 'the cursor is back, the line is empty')
  t.equal(written(false), '')
})
