// Questions about pictures: the file, the runs with a model that answers by what it was told to keep, and the page.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Method, Model, Prompt } from '../lib/index.js'
import { methods } from '../lib/index.js'
import { groupsOf } from '../lib/lab/groups.js'
import { compareVisual } from '../lib/lab/visual.js'
import { parseVisualTasks } from '../lib/lab/visual-set.js'
import { visualPage } from '../lib/report/visual-page.js'
import { visualTable } from '../lib/report/visual-table.js'
import { cli } from './cli-run.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

t.test('files of tasks', async (t) => {
  const list = [1, 2, 3, 4].map((i) => ({
    image: `${i}.png`,
    question: 'what?',
    answer: 'this',
    type: i < 4 ? 'a' : 'b',
  }))
  t.same(parseVisualTasks(JSON.stringify(list), 'in/tasks.json')[3], { ...list[3], image: 'in/4.png' })
  t.same(
    parseVisualTasks(JSON.stringify(list), 'tasks.json', 2).map(({ image }) => image),
    ['1.png', '2.png', '4.png'],
  )
  const scenes = [{ image: 'a.png', questions: [{ type: 'color', text: 'which?', answer: 'red' }] }]
  t.same(parseVisualTasks(JSON.stringify({ scenes }), 'tasks.json'), [
    { image: 'a.png', question: 'which?', answer: 'red', type: 'color' },
  ])
  const films = [{ video: ['a.png', 'b.png'], questions: [{ type: 'way', text: 'where?', answer: 'up' }] }]
  t.same(parseVisualTasks(JSON.stringify({ scenes: films }), 'in/films.json'), [
    { image: 'in/a.png', film: ['in/a.png', 'in/b.png'], question: 'where?', answer: 'up', type: 'way' },
  ])
  const half = '[{"video":["a.png",1],"question":"b","answer":"d","type":"c"}]'
  for (const bad of [half, '{', '[]', '{}', '[{}]', '[{"image":"a","question":"b","answer":"","type":"c"}]'])
    t.throws(() => parseVisualTasks(bad, 'x.json'), { code: 'ERR_FILE_FORMAT', message: /x\.json/ }, bad)
})

t.test('the questions that come with the package', async (t) => {
  const file = 'models/vlm/tasks/tasks.json'
  const all = parseVisualTasks(readFileSync(file, 'utf8'), file)
  t.ok(all.length > 400, `${all.length} questions`)
  for (const image of new Set(all.map(({ image }) => image))) t.ok(existsSync(image), image)
  const films = 'models/vlm/tasks/films.json'
  for (const { film } of parseVisualTasks(readFileSync(films, 'utf8'), films))
    if (!film?.every(existsSync)) t.fail(`${film}`)
  const some = parseVisualTasks(readFileSync(file, 'utf8'), file, 5)
  t.ok([...groupsOf(some, ({ type }) => type).values()].every(({ length }) => length === 5))
})

const tasks = [0, 1, 2, 3].map((i) => ({
  image: `${i >> 1}.png`,
  question: `number ${i}?`,
  answer: i % 2 === 0 ? 'Red circle' : 'two',
  type: i % 2 === 0 ? 'what' : 'count',
}))

/** Budgets in the order in which they are tried, after one question that does not count: all, then .5 and .25 of chance, grid and one method. */
const KEPT = [1, 0.5, 0.25, 0.5, 0.25, 0.5, 0.25]

interface Asked {
  readonly prompt: Prompt
  readonly names: readonly string[]
}

/** Right where it keeps a half or more; wrong about numbers with less. Four text tokens, sixteen patches. */
function fake(asked: Asked[], chats: boolean): Model {
  const session = ({ methods = [] }: { methods?: readonly Method[] }) => {
    const kept = KEPT[(asked.length - 1) % KEPT.length] ?? 1
    return {
      ids: Int32Array.from({ length: 22 }, (_, i) => (i >= 2 && i < 18 ? -1 : i)),
      async generate(prompt: Prompt) {
        asked.push({ prompt, names: methods.map(({ name }) => name) })
        const parts = chats ? (prompt as readonly { content: unknown }[])[0]?.content : prompt
        const [, { text = '' } = {}] = parts as readonly { text?: string }[]
        const number = Number(/\d/.exec(text)?.[0])
        const right = kept >= 0.5 || number % 2 === 0
        return {
          text: right ? ` ${tasks[number]?.answer.toUpperCase()}.` : 'three',
          stats: {
            prompt: { tokens: 20, seen: 4 + 16 * kept, cached: 0 },
            kv: { bytes: 1000 * kept },
            time: { load: 0, vision: 8, prefill: 10 * kept, decode: 1, decide: 0 },
          },
        }
      },
      async close() {},
    }
  }
  const chat = () => {
    if (!chats) throw new Error('no template')
  }
  return { config: { name: 'fake', layers: 2 }, isa: 'none', tokenizer: { chat }, session } as unknown as Model
}

t.test('right answers by type, and what was saved', async (t) => {
  const asked: Asked[] = []
  const told: string[] = []
  const given = { tasks, keep: [0.5, 0.25], methods: [methods.fastv()] }
  const found = await compareVisual(fake(asked, true), {
    ...given,
    onProgress: ({ done, what }) => told.push(`${done} ${what}`),
  })
  t.same(asked[0]?.prompt, [{ role: 'user', content: [{ image: '0.png' }, { text: 'number 0?' }] }])
  t.same(
    found.rows.map(({ keep, method, right }) => [method, keep, right.mean]),
    [
      ['full', 1, 1],
      ['random', 0.5, 1],
      ['random', 0.25, 0.5],
      ['grid', 0.5, 1],
      ['grid', 0.25, 0.5],
      ['fastv', 0.5, 1],
      ['fastv', 0.25, 0.5],
    ],
  )
  const last = found.rows.at(-1)
  t.match(last, { visual: 4, share: 0.25, bytes: 250, vision: 8, speedup: { measured: 4, ideal: 20 / 8 } })
  t.same([last?.byType.what?.mean, last?.byType.count?.mean, last?.overRandom?.mean], [1, 0, 0])
  t.same(
    found.cases.filter(({ method, keep }) => method === 'grid' && keep === 0.25).map(({ vision }) => vision),
    [8, null, 8, null],
    'a picture is new once',
  )
  t.same([told[0], told[5], told.at(-1)], ['0 full', '5 fastv keep 0.5', '28 '])
  const { cells, columns } = visualTable(found)
  t.equal(columns.length, cells[0]?.length)
  t.same(cells.at(-1)?.slice(0, 6), ['fastv', '0.25', '50 % [0, 100]', '0 [0, 0]', '100 %', '0 %'])
  const page = visualPage(found)
  t.match(page, /<h1>What fewer patches cost<\/h1>[\s\S]*patches a layer, share of that of all patches/)
  t.equal(page.match(/<svg/g)?.length, 4, 'all questions by patches and by time, and two types')
  t.notMatch(page, /NaN|undefined|https?:/)
})

t.test(
  'many methods: charts that can be read, of the tower and of the layers apart; several models on a page',
  async (t) => {
    const tower = ['visionZip', 'divPrune', 'fopru', 'pitome', 'vtcCls'] as const
    const made = [
      ...tower.map((name) => methods[name]()),
      methods.fastv(),
      methods.tome(),
      methods.sparseVlm(),
      methods.dyvte(),
    ]
    const found = await compareVisual(fake([], true), { tasks, keep: [0.5], methods: made })
    t.same(
      found.rows.map(({ acts }) => acts),
      [undefined, ...Array(7).fill('vision'), ...Array(4).fill('layers')],
    )
    const page = visualPage([found, found])
    t.equal(page.match(/<h2>fake<\/h2>/g)?.length, 2)
    t.equal(page.match(/<h3>In the tower, or before the decoder<\/h3>/g)?.length, 2)
    t.equal(page.match(/<h3>Between layers of the decoder<\/h3>/g)?.length, 2)
    t.equal(page.match(/<svg/g)?.length, 2 * (2 + 2 + 2))
    const [first = ''] = page.match(/<svg[\s\S]*?<\/svg>/) ?? []
    t.match(first, /aria-label="visionZip"/)
    t.notMatch(first, /aria-label="fastv"/)
  },
)

t.test('from the command line', async (t) => {
  const folder = scratch(t)
  const file = join(folder, 'tasks.json')
  writeFileSync(file, JSON.stringify(tasks))
  const page = visualPage(await compareVisual(fake([], true), { tasks, keep: [0.5] }))
  const saved = join(folder, 'found.json')
  writeFileSync(saved, JSON.stringify(await compareVisual(fake([], true), { tasks, keep: [0.5] })))
  t.equal((await cli(['report', saved])).out, page)
  t.match(await cli(['compare', '--pictures', file, '--task', 'needle']), { code: 2, err: /without --task needle/ })
  t.match(await cli(['compare', '--task', 'pictures', '--kv', 'q8_0']), { code: 2, err: /without --kv/ })
  const tiny = writeGguf(join(folder, 'tiny.gguf'), tinyModel())
  const blind = await cli(['compare', '-m', tiny, '--pictures', file, '--each', '1'])
  t.match(blind, { code: 1, out: '', err: /model with a vision tower.*reads text/ })
  t.match(await cli(['generate', '-m', tiny, '--image', file, '-p', 'hello']), {
    code: 1,
    err: /model with a vision tower/,
  })
})

t.test('without a template the parts are the prompt', async (t) => {
  const asked: Asked[] = []
  await compareVisual(fake(asked, false), { tasks: tasks.slice(0, 1), keep: [0.5] })
  t.same(asked[0]?.prompt, [{ image: '0.png' }, { text: 'number 0?' }])
})

t.test('what cannot be meant', async (t) => {
  const model = fake([], true)
  await t.rejects(compareVisual(model, { tasks: [] }), { message: /tasks/ })
  await t.rejects(compareVisual(model, { tasks, keep: [1] }), { message: /below 1/ })
  await t.rejects(compareVisual(model, { tasks, methods: [methods.grid()] }), { message: /differ/ })
  const signal = AbortSignal.abort(new Error('enough'))
  await t.rejects(compareVisual(model, { tasks, signal }), { message: 'enough' })
})
