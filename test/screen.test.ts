// Greedy steps that read part of the head (kernels/screen.h) say what those that read all of it say, and know when to stop trying.
import t from 'tap'
import { type Model, profile, type Session } from '../lib/index.js'
import { loadTiny, loadWith, same } from './engine.js'
import { type TinyModel, type TinyOptions, tinyModel } from './model-fixture.js'
import { randomIds } from './numbers.js'

const q8 = { type: 'q8_0', headSize: 32 } as const
const kinds: Record<string, TinyModel | TinyOptions> = {
  'head of its own': { ...q8, seed: 4 },
  'head is the embedding': { ...q8, architecture: 'gemma3', seed: 5 },
  'many rows': { ...q8, vocabulary: 5003, seed: 6 },
  'rows that hardly differ': flatHead(),
  'head without planes': { headSize: 32 },
}

/** Every row of the head is the first but for the low bits of its weights. */
function flatHead(): TinyModel {
  const model = tinyModel({ ...q8, vocabulary: 5003, seed: 7 })
  const { data, shape } = model.tensors.get('output.weight') as { data: Float32Array; shape: readonly number[] }
  const cols = shape[1] as number
  const noise = randomIds(data.length, 3)
  for (let i = cols; i < data.length; i++)
    data[i] = (data[i % cols] as number) * (1 + ((noise[i] as number) % 5) / 2000)
  return model
}

async function loadFull(path: string): Promise<Model> {
  const before = process.env.TOKENSIEVE_SCREEN
  process.env.TOKENSIEVE_SCREEN = 'off'
  const loading = loadWith(path, 'auto') // the variable is read at once
  if (before === undefined) delete process.env.TOKENSIEVE_SCREEN
  else process.env.TOKENSIEVE_SCREEN = before
  return loading
}

const greedy = { maxTokens: 24, temperature: 0, ignoreEnd: true } as const

async function ids(session: Session, seed: number, options: object = {}): Promise<number[]> {
  const { ids } = await session.generate(randomIds(5, seed), { ...greedy, ...options })
  return [...ids]
}

/** What a model says alone, in batches that are greedy, mixed and too large, and after a fork. */
async function told(model: Model): Promise<unknown[]> {
  const all: unknown[] = []
  const open = (n: number) => Array.from({ length: n }, () => model.session())
  for (const options of [{}, { repeatPenalty: 1.3 }, { temperature: 0.8, seed: 3 }, { logprobs: true }])
    all.push(await ids(model.session(), 11, options))
  for (const n of [2, 3, 4, 7]) all.push(await Promise.all(open(n).map((session, i) => ids(session, 20 + i))))
  all.push(await Promise.all(open(3).map((session, i) => ids(session, 30 + i, { temperature: i % 2, seed: 1 }))))
  const session = model.session()
  all.push(await ids(session, 40))
  const twin = await session.fork()
  all.push(await Promise.all([ids(session, 41), ids(twin, 42), ids(await session.fork(), 43)]))
  return all
}

for (const [name, options] of Object.entries(kinds)) {
  t.test(`${name}: the same tokens with all of the head and with part of it`, async (t) => {
    const { model, path } = await loadTiny(t, options)
    const full = await loadFull(path)
    t.teardown(() => full.close())
    t.same(await told(model), await told(full))
    const prompt = randomIds(40, 9)
    const [a, b] = await Promise.all([model, full].map((one) => one.session().forward(prompt, { logits: 'all' })))
    t.ok(same(a as Float32Array, b as Float32Array), 'the bits of all logits')
  })
}

/** How often each kernel of the head ran while so many tokens were made. */
async function counted(model: Model, rows: number): Promise<{ screen: number; matmul: number }> {
  const { profile: seen } = await profile(() => ids(model.session(), 50, { maxTokens: 50 }))
  const calls = (kernel: string) =>
    seen.events.filter(({ kind, name, rows: of }) => kind === 'kernel' && name === kernel && of === rows).length
  return { screen: calls('screen'), matmul: calls('matmul') }
}

t.test('a step screens or multiplies, never both for long', async (t) => {
  const many = await loadTiny(t, kinds['many rows'])
  t.same(await counted(many.model, 5003), { screen: 50, matmul: 0 }, 'bounds that tell rows apart')
  const flat = await loadTiny(t, kinds['rows that hardly differ'])
  const tried = await counted(flat.model, 5003)
  t.equal(tried.matmul, 50, 'bounds that do not')
  t.equal(tried.screen, 3, 'at first and when 8 and 16 more steps have passed')
  const full = await loadFull(many.path)
  t.same(await counted(full, 5003), { screen: 0, matmul: 50 }, 'switched off')
  await full.close()
})
