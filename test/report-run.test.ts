// Runs as data and as pages: what became of each token, worked by hand; files that are none; what the commands write.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inflateSync } from 'node:zlib'
import t from 'tap'
import type { PlanEntry } from '../lib/index.js'
import type { VisionPart } from '../lib/methods/method.js'
import { cropsOf } from '../lib/report/crops.js'
import { fatesOf, heldAt, LETTERS, runningAt, stopOf, stopsOf } from '../lib/report/fates.js'
import { png, shrunk } from '../lib/report/png.js'
import { textPieces } from '../lib/report/record.js'
import { parseRun, type Run, type RunCrop } from '../lib/report/run.js'
import { runPage } from '../lib/report/run-page.js'
import type { Tokenizer } from '../lib/tokenizer/index.js'
import { cli } from './cli-run.js'
import { filmRun } from './film-run.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const folder = scratch(t)
const tiny = writeGguf(join(folder, 'tiny.gguf'), tinyModel({ headSize: 32 }))
const entry = (more: Partial<PlanEntry>): PlanEntry => {
  return { phase: 'prefill', step: 0, layer: 1, method: 'mine', action: 'drop', before: 6, after: 3, ...more }
}
const textRun = (plan: PlanEntry[], tokens = 6): Run => {
  const { crops: _, ...run } = filmRun('mine', plan)
  return { ...run, crops: [], tokens: Array.from({ length: tokens }, (_, i) => `w${i}`), prompt: 6 }
}

t.test('what became of words', async (t) => {
  const drop = entry({ kept: [0, 2, 5], scores: [1, 0, 3, 0, 0.5, 9] })
  const merge = entry({ layer: 3, action: 'merge', into: [0, 0, 5] })
  const run = textRun([drop, merge], 8)
  const fates = fatesOf(run)
  t.equal(stopsOf(run), 4, 'no pictures, no stops of the tower')
  t.same(fates.gone, [4, 1, 3, 1, 1, 4, 4, 4])
  t.same(fates.into, { 2: 0 })
  t.same(
    [0, 1, 2, 3].map((stop) => runningAt(fates, stop, 6)),
    [6, 3, 3, 2],
  )
  // Ranks of 0, 0, .5, 1, 3, 9: equal scores share one, the best has the last letter.
  t.same(
    [...(fates.scores[1] ?? '')].map((letter) => LETTERS.indexOf(letter)),
    [31, 0, 46, 0, 15, 61, -1, -1],
  )
})

t.test('scores of a span of text', async (t) => {
  // Of rows 1 to 4: the span that begins at 0 or 2 would not have lost just 1 and 3 for their scores.
  const { scores } = fatesOf(textRun([entry({ kept: [0, 2, 4, 5], scores: [1, 3, 2, 4] })]))
  t.same(
    [...(scores[1] ?? '')].map((letter) => LETTERS.indexOf(letter)),
    [-1, 0, 41, 20, 61, -1],
  )
  t.equal(fatesOf(textRun([entry({ kept: [0, 2, 4, 5], scores: [9, 9, 3, 3] })])).scores[1], '------')
})

t.test('what caches hold', async (t) => {
  const first = entry({
    action: 'evict',
    keptPerHead: [
      [0, 4, 5],
      [4, 5],
    ],
    scores: [0, 0, 0, 0, 4, 5, 0, 0, 0, 2, 4, 5],
  })
  const last = entry({
    action: 'evict',
    phase: 'decode',
    step: 3,
    keptPerHead: [
      [0, 5, 6],
      [5, 6],
    ],
  })
  const rule = entry({ action: 'evict', layer: 2, rule: { kind: 'window', sinks: 4, tokens: 8, share: 0 } })
  const early = fatesOf(textRun([first], 8))
  t.same(early.held, [null, '100022', null, null])
  t.equal(heldAt(early, 1, 1, 6), 5 / 12)
  t.equal(heldAt(early, 2, 2, 6), 1)
  t.same(
    [...(early.scores[1] ?? '')].map((letter) => LETTERS.indexOf(letter)),
    [0, 0, 0, 20, 41, 61, -1, -1],
  )
  const late = fatesOf(textRun([first, last, rule], 8))
  t.same(late.held, [null, '1000022', null, null], 'the last decision on a layer')
  t.match(late.notes, { 2: 'rows are evicted at every decode step too' })
})

t.test('what else happens in a layer', async (t) => {
  const kv = { keys: 'q8_0', values: 'q4_0', sinks: 4, recent: 32, residual: 0, fresh: 'f16', rotate: true } as const
  const plan = [
    entry({ action: 'skip', layer: 0, what: 'block' }),
    entry({ action: 'quantize', layer: 0, kv, heads: [1] }),
    entry({ action: 'evict', layer: 1, keptPerHead: [[0, 5], [5]], storedPerHead: [[1], []], folds: [] }),
    entry({
      action: 'restore',
      layer: 1,
      phase: 'decode',
      step: 2,
      keptPerHead: [[0, 1, 5], [5]],
      storedPerHead: [[], []],
    }),
  ]
  const { held, notes } = fatesOf(textRun(plan))
  t.equal(notes[0], 'its whole block is skipped; KV heads 1 store keys in q8_0, values in q4_0')
  t.equal(notes[1], 'rows that go fold into rows that stay; rows that go are set aside, and may come back')
  t.equal(held[1], '110002', 'what was called back is held again')
  const pass = entry({ action: 'pass', layer: 2, what: 'attention', kept: [0, 4, 5] })
  const passed = fatesOf(textRun([pass]))
  t.equal(passed.notes[2], '3 rows pass its attention by')
  t.same([passed.held[2], passed.held[3], passed.gone], ['200022', null, Array(6).fill(4)], 'they come back')
})

t.test('what became of patches', async (t) => {
  const run = filmRun()
  const fates = fatesOf(run)
  t.equal(stopsOf(run), 8, 'three blocks, the projector, four layers')
  t.equal(fates.into[3 + 9], 3, 'the second patch of the second row, into the first of all')
  t.equal(fates.gone[3 + 9], 1)
  t.equal(fates.gone[3 + 32], 7 - 2 + 3, 'an odd number stays')
  t.equal(fates.gone[3 + 33], 5)
  t.equal(fates.held[2]?.[0], '1')
  t.match(fates.notes, { 3: 'its attention is skipped' })
  const at = (layer: number, part?: VisionPart) =>
    stopOf({ ...entry({ phase: 'vision', layer }), ...(part && { part }) }, 4)
  t.same([at(0), at(1, 'attention'), at(1, 'mlp'), at(3, 'projector'), at(3, 'decoder')], [0, 1, 2, 3, 4])
})

t.test('a PNG that can be read again', async (t) => {
  const pixels = { width: 2, height: 2, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 1, 2, 4, 200, 5, 0) }
  const file = Buffer.from(png(pixels))
  t.equal(file.readUInt32BE(16), 2)
  const from = file.indexOf('IDAT')
  const lines = inflateSync(file.subarray(from + 4, from + 4 + file.readUInt32BE(from - 4)))
  t.same([...lines], [2, 1, 2, 3, 4, 5, 6, 2, 0, 0, 1, 196, 0, 250])
  t.same(shrunk({ width: 3, height: 1, data: Uint8Array.of(0, 0, 0, 10, 20, 30, 7, 8, 9) }, 2), {
    width: 2,
    height: 1,
    data: Uint8Array.of(5, 10, 15, 7, 8, 9),
  })
  t.equal(shrunk(pixels), pixels)
})

t.test('crops of pictures: places in session.ids, and pixels', async (t) => {
  const crop = { kind: 'tile', row: 0, rows: 2, columns: 2 } as const
  const layout = {
    crops: [
      { ...crop, column: 0 },
      { ...crop, column: 1 },
    ],
  }
  // Two tiles side by side in lines, without the last patch, a newline behind each line.
  const rows = Int32Array.of(0, 1, 4, 5, -1, 2, 3, 6, -1)
  const places = rows.map((_, row) => 10 + row)
  const crops = Uint8Array.from({ length: 2 * 3 * 3 * 3 }, (_, i) => i)
  const made = cropsOf([{ picture: { layout, crops, rows }, places }], { rows: 2, size: 3 })
  t.same(
    made.map(({ sources }) => sources),
    [
      [10, 11, 15, 16],
      [12, 13, 17, -8],
    ],
  )
  t.match(made[1], { kind: 'tile', image: 0, row: 0, column: 1, rows: 2, columns: 2 })
  t.match(made[1]?.picture, /^data:image\/png;base64,/)
  t.not(made[0]?.picture, made[1]?.picture)
})

t.test('patches that have no place in session.ids', async (t) => {
  const film = filmRun()
  const [crop] = film.crops
  const sources = (crop?.sources ?? []).map((source, i) => (i < 2 ? -1 - i : source))
  const all = (from: number) => sources.map((source, i) => (i < from ? (sources[from] as number) : source))
  const vision = { phase: 'vision', action: 'merge', before: 64, after: 60 } as const
  const drop = entry({ ...vision, layer: 0, action: 'drop', kept: sources.slice(1) })
  const merge = entry({ ...vision, layer: 1, into: all(4).slice(1) })
  const { gone, into } = fatesOf({ ...film, crops: [{ ...crop, sources } as RunCrop], plan: [drop, merge] })
  t.same(
    Object.entries(into),
    [
      [3 + 2, 3 + 4],
      [3 + 3, 3 + 4],
    ].map(([from, to]) => [String(from), to]),
  )
  t.same([gone[5], gone[6], gone[7]], [1, 1, 8])
})

t.test('tokens as text', async (t) => {
  // 1 is special, 2 and 3 are halves of one character.
  const bytes: Record<number, number[]> = { 0: [97], 2: [0xc3], 3: [0xa9] }
  const tokenizer = {
    vocabularySize: 4,
    decode: ([id = 0]: number[], { special = false } = {}) => (id === 1 ? (special ? '<s>' : '') : '?'),
    streamDecoder: () => {
      const decoder = new TextDecoder()
      return { push: ([id = 0]: number[]) => decoder.decode(Uint8Array.from(bytes[id] ?? []), { stream: true }) }
    },
  } as unknown as Tokenizer
  t.same(textPieces(tokenizer, Int32Array.of(1, 0, 2, 3, -1, 9)), ['<s>', 'a', '', 'é', '', ''])
})

t.test('pages hold text as text, and nothing else runs', async (t) => {
  const page = runPage([filmRun(), filmRun('<all>', [])])
  t.notMatch(page, /https?:|<link|@import|url\(|<b>disc|<all>|\son\w+=|NaN/)
  t.equal(page.match(/<script/g)?.length, 2)
  t.match(page, /script-src 'sha256-[A-Za-z0-9+/]{43}='/)
  t.match(page, /\\u003c\/script/)
  t.equal(page.match(/<img src="data:image\/png;base64,[A-Za-z0-9+/=]+" alt="Film, frame [12]">/g)?.length, 2)
  t.match(page, /<caption>What each run cost[\s\S]*<caption>Of the 142 tokens/)
  t.equal(runPage([filmRun(), { ...filmRun(), prompt: 5 }]).match(/<section/g)?.length, 2, 'a section a prompt')
})

t.test('files that are none', async (t) => {
  t.equal(parseRun([], 'x'), undefined)
  t.equal(parseRun({ kind: 'other' }, 'x'), undefined)
  const run = { ...filmRun(), plan: [] }
  t.same(parseRun(structuredClone(run), 'x'), run)
  const [crop] = run.crops
  const bad: [object, RegExp][] = [
    [{ version: 2 }, /version 1 of a run, not 2, in x/],
    [{ tokens: [1] }, /text of every token/],
    [{ name: 1 }, /a name/],
    [{ prompt: 1000 }, /how many tokens/],
    [{ model: {} }, /layers and heads/],
    [{ stats: { time: {} } }, /statistics/],
    [{ crops: [{ ...crop, rows: 3 }] }, /pictures/],
    [{ crops: [{ ...crop, picture: 'https://x.test/a.png' }] }, /pictures/],
    [{ crops: [{ ...crop, sources: crop?.sources.map(() => 900) }] }, /pictures/],
  ]
  for (const [more, message] of bad)
    t.throws(() => parseRun({ ...run, ...more }, 'x'), { message, code: 'ERR_FILE_FORMAT' })
})

const PROMPT = ['generate', '-m', tiny, '-p', 'the quick brown fox '.repeat(8), '-n', '3']

t.test('generate --html, with other budgets beside', async (t) => {
  const html = join(folder, 'run.html')
  const plain = await cli(PROMPT)
  const ran = await cli([...PROMPT, '--method', 'snapkv:keep=0.5,window=4', '--html', html, '--beside', '1,0.25'])
  t.match(ran, { code: 0, err: '' })
  const page = readFileSync(html, 'utf8')
  const names = [...page.matchAll(/<h3>([^<]+)<\/h3><p class="answer">([^<]*)/g)].map(([, name, text]) => [name, text])
  t.same(
    names.map(([name]) => name),
    ['everything kept', 'snapkv, keep 0.5', 'snapkv, keep 0.25'],
  )
  t.equal(names[0]?.[1], plain.out.trim())
  t.equal(names[1]?.[1], ran.out.trim())
  const data = JSON.parse(/id="data">(.*?)<\/script>/s.exec(page)?.[1] ?? '')
  t.equal(data[0].tokens.join(''), 'the quick brown fox '.repeat(8))
  t.match(data[0].runs[1].scores[0], /^[0-9a-zA-Z]+-*$/, 'scores are there')
})

t.test('generate --json is a run, and runs stand beside one another', async (t) => {
  const files = ['fastv:keep=0.5,layer=1', 'snapkv:window=4'].map(
    (method, i) => [join(folder, `${i}.json`), method] as const,
  )
  for (const [file, method] of files) writeFileSync(file, (await cli([...PROMPT, '--json', '--method', method])).out)
  const run = JSON.parse(readFileSync(files[1]?.[0] as string, 'utf8')) as Run
  t.match(run, { kind: 'tokensieve-run', finishReason: 'length', name: 'snapkv, keep 0.5' })
  t.equal(run.tokens.length, run.prompt + run.ids.length)
  const page = await cli(['report', ...files.map(([file]) => file)])
  t.match(page, { code: 0, err: '', out: /fastv, keep 0.5[\s\S]*snapkv, keep 0.5/ })
  writeFileSync(join(folder, 'plan.json'), '[]')
  t.match(await cli(['report', files[0]?.[0] as string, join(folder, 'plan.json')]), {
    code: 2,
    err: /Expected one file, or several/,
  })
})

t.test('what cannot be meant', async (t) => {
  const cases: [string[], number, RegExp][] = [
    [['--beside', '0.5', '--method', 'h2o'], 2, /Expected --html FILE/],
    [['--html', join(folder, 'a.html'), '--beside', '0.5'], 2, /Expected --method/],
    [['--html', join(folder, 'a.html'), '--beside', '2', '--method', 'h2o'], 2, /--beside/],
    [['--html', '/no/such/folder/a.html'], 1, /ENOENT/],
  ]
  for (const [args, code, message] of cases) t.match(await cli([...PROMPT, ...args]), { code, out: '', err: message })
})
