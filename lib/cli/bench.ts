// tokensieve bench: prefill and decode, with and without methods, in rounds that take turns.
import { basename } from 'node:path'
import type { Method } from '../methods/index.js'
import type { Model } from '../model.js'
import { type KvTypes, parseKv } from '../sizes.js'
import { flagOf, numberOf, numbersOf, type Options, type Parsed, parse, textsOf, UsageError } from './arguments.js'
import { bytes, markdownTable, median, number } from './format.js'
import { type Command, type Io, painter } from './io.js'
import { machineOf } from './machine.js'
import { MODEL_HELP, MODEL_OPTIONS, openModel } from './open-model.js'
import { kvOf, METHOD_HELP, methodsOf, SESSION_OPTIONS } from './session-options.js'

const OPTIONS = {
  ...MODEL_OPTIONS,
  method: SESSION_OPTIONS.method,
  kv: SESSION_OPTIONS.kv,
  prompt: { type: 'string' },
  decode: { type: 'string' },
  runs: { type: 'string' },
  json: { type: 'boolean' },
} satisfies Options

export const command: Command = {
  help: `
Measures how fast a prompt is read (prefill) and text is generated (decode), and what the cache
takes.
Prompts are made of random tokens, all of them droppable; every run is a new session, runs of
different settings take turns, and one turn comes first that is not counted.

Usage: tokensieve bench [options]

      --prompt N,…       prompt lengths to read; default 512,2048
      --decode N,…       contexts to generate at; default 128,2048
      --method METHOD    measured beside no method; may be repeated, each is measured by itself
      --kv TYPE          how the cache is stored, as in "generate"; default f16
      --runs N           default 3
      --json             one object { machine, model, runs } instead of a table
${MODEL_HELP.slice(1)}
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    const wanted = wantedOf(parsed)
    const { model, path } = await openModel(parsed, io)
    try {
      const samples = await measure(model, wanted, io)
      const { threads } = parsed.values
      const machine = {
        ...machineOf(),
        isa: model.isa,
        threads: typeof threads === 'string' ? Number(threads) : defaultThreads(),
      }
      const { architecture, layers } = model.config
      const about = {
        name: model.config.name ?? basename(path),
        file: basename(path),
        architecture,
        layers,
        bytes: model.bytes,
      }
      const report = { machine, model: about, runs: samples.map(summary) }
      if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(report)}\n`)
      else print(report, io)
    } finally {
      await model.close()
    }
    return 0
  },
}

const STEPS = 32 // decode steps a round, after a few that warm up
const WARM = 4

interface Wanted {
  readonly prompt: readonly number[]
  readonly decode: readonly number[]
  readonly rounds: number
  readonly settings: readonly { readonly label: string; readonly methods: readonly Method[] }[]
  readonly kv: KvTypes
}

function wantedOf(parsed: Parsed): Wanted {
  const length = { min: 2, max: 2 ** 24, whole: true }
  const texts = textsOf(parsed, 'method')
  const settings = methodsOf(parsed).map((method, i) => ({ label: texts[i] ?? method.label, methods: [method] }))
  const wanted = {
    prompt: numbersOf(parsed, 'prompt', length) ?? [512, 2048],
    decode: numbersOf(parsed, 'decode', length) ?? [128, 2048],
    rounds: numberOf(parsed, 'runs', { min: 1, max: 1000, whole: true }) ?? 3,
    settings: [{ label: 'none', methods: [] }, ...settings],
    kv: kvOf(parsed),
  }
  if (wanted.prompt.length + wanted.decode.length === 0)
    throw new UsageError('Expected lengths for --prompt or --decode')
  return wanted
}

function defaultThreads(): number {
  return Number(process.env.TOKENSIEVE_THREADS) || machineOf().cores
}

/** All that was measured of one line of the table; times in milliseconds a token. */
interface Sample {
  readonly what: 'prefill' | 'decode'
  readonly tokens: number
  readonly method: string
  readonly kv: string
  readonly times: number[]
  kvBytes: number
  rss: number
}

async function measure(model: Model, wanted: Wanted, io: Io): Promise<Sample[]> {
  const { settings, rounds, prompt, decode, kv } = wanted
  const { keys, values } = parseKv(kv)
  const lengths = [...new Set([...prompt, ...decode])].sort((a, b) => a - b)
  const samples = new Map<string, Sample>()
  const sample = (what: Sample['what'], tokens: number, method: string): Sample => {
    const key = `${what} ${tokens} ${method}`
    const made = samples.get(key) ?? {
      what,
      tokens,
      method,
      kv: keys === values ? keys : `${keys}/${values}`,
      times: [],
      kvBytes: 0,
      rss: 0,
    }
    samples.set(key, made)
    return made
  }
  for (const what of ['prefill', 'decode'] as const)
    for (const tokens of what === 'prefill' ? prompt : decode)
      for (const { label } of settings) sample(what, tokens, label)
  const shortest = lengths[0] ?? 2
  for (const setting of settings)
    await oneRun(model, setting, shortest, wanted, (what) => ({ ...sample(what, shortest, setting.label), times: [] }))
  let done = 0
  for (let round = 0; round < rounds; round++)
    for (const tokens of lengths)
      for (const setting of settings) {
        progress(
          io,
          `run ${++done} of ${rounds * lengths.length * settings.length}: ${tokens} tokens, method ${setting.label}`,
        )
        io.interrupts.signal.throwIfAborted()
        await oneRun(model, setting, tokens, wanted, (what) => sample(what, tokens, setting.label))
      }
  progress(io, '')
  return [...samples.values()]
}

/** One session: `tokens` are read, then some are generated, each where it is wanted. */
async function oneRun(
  model: Model,
  { methods }: Wanted['settings'][number],
  tokens: number,
  { prompt, decode, kv }: Wanted,
  sample: (what: Sample['what']) => Sample,
): Promise<void> {
  const session = model.session({ kv, methods, contextLength: tokens + WARM + STEPS + 1 })
  const ids = randomIds(tokens, model.config.vocabularySize)
  const note = (what: Sample['what'], times: readonly number[]) => {
    const line = sample(what)
    line.times.push(...times)
    line.kvBytes = session.stats.kv.bytes
    line.rss = Math.max(line.rss, process.memoryUsage.rss())
  }
  try {
    const start = performance.now()
    await session.forward([{ ids, droppable: true }], { logits: 'none' })
    if (prompt.includes(tokens)) note('prefill', [(performance.now() - start) / tokens])
    if (decode.includes(tokens)) note('decode', await stepTimes(session))
  } finally {
    await session.close()
  }
}

async function stepTimes(session: ReturnType<Model['session']>): Promise<number[]> {
  const times: number[] = []
  let last = performance.now()
  const options = { maxTokens: WARM + STEPS, temperature: 0, ignoreEnd: true }
  for await (const { ids } of session.stream(Int32Array.of(session.ids.at(-1) ?? 0), options)) {
    const now = performance.now()
    for (let i = 0; i < ids.length; i++) times.push((now - last) / ids.length)
    last = now
  }
  return times.slice(WARM)
}

/** The same ids every time: no token of the first 300, which are special in many vocabularies. */
function randomIds(count: number, vocabulary: number): Int32Array {
  const first = Math.min(300, vocabulary >> 1)
  let state = 1
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return first + (state % (vocabulary - first))
  })
}

function progress(io: Io, text: string): void {
  if (io.err.isTTY) io.err.write(`\r\x1b[K${painter(io.err)('dim', text)}`)
}

function summary({ times, ...line }: Sample) {
  const { what, tokens, method, kv, kvBytes, rss } = line
  const rate = (time: number) => Number((1000 / time).toFixed(2))
  return {
    what,
    tokens,
    method,
    kv,
    median: rate(median(times)),
    best: rate(Math.min(...times)),
    unit: 'tokens/s' as const,
    ms: Number(msOf(what, tokens, times).toFixed(3)),
    kvBytes,
    rss,
  }
}

/** Of the whole prompt, or of one generated token. */
function msOf(what: Sample['what'], tokens: number, times: readonly number[]): number {
  return median(times) * (what === 'prefill' ? tokens : 1)
}

interface Report {
  readonly machine: ReturnType<typeof machineOf> & { isa: string; threads: number }
  readonly model: { readonly name: string; readonly file: string }
  readonly runs: readonly ReturnType<typeof summary>[]
}

function print({ machine, model, runs }: Report, io: Io): void {
  io.out.write(
    `${model.name} (${model.file}), ${machine.threads} threads, ${machine.isa}, ${machine.cpu}, Node ${machine.node}\n\n`,
  )
  const right = (title: string) => ({ title, right: true })
  const columns = [
    { title: 'what' },
    right('tokens'),
    { title: 'method' },
    { title: 'kv' },
    right('tokens/s, median'),
    right('best'),
    right('ms'),
    right('cache'),
    right('process'),
  ]
  const rows = runs.map((run) => [
    run.what,
    number(run.tokens),
    run.method,
    run.kv,
    number(run.median),
    number(run.best),
    number(run.ms),
    bytes(run.kvBytes),
    bytes(run.rss),
  ])
  io.out.write(`${markdownTable(columns, rows)}\n\nms: of the whole prompt, or of one generated token.\n`)
}
