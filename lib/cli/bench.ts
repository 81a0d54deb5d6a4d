// tokensieve bench: how fast prompts are read and text is generated, against the limits of this machine; and where the time goes.
import { parseKvText } from '../kv-text.js'
import type { Model } from '../model.js'
import {
  flagOf,
  numberOf,
  numbersOf,
  type Options,
  type Parsed,
  parse,
  textOf,
  textsOf,
  UsageError,
} from './arguments.js'
import { CONTEXTS, type Context } from './bench/context.js'
import { type Growth, growthOfPrompts, growthOfSessions } from './bench/growth.js'
import { measurePictures, type PictureRun, towerOfSubject } from './bench/pictures.js'
import { profiles, profileText, writeTrace } from './bench/profile.js'
import { reportText } from './bench/report.js'
import type { Kv } from './bench/roofline.js'
import { measureRuns, type Run, type Setting, type Wanted } from './bench/runs.js'
import { Meter, type Subject, subjectOf } from './bench/subject.js'
import type { Command, Io } from './io.js'
import { machineOf } from './machine.js'
import { parseMethod } from './method-option.js'
import { DEFAULT_MODEL, MODEL_OPTIONS, openModel, PICTURE_MODEL } from './open-model.js'
import { METHOD_HELP, methodsOf, SESSION_OPTIONS } from './session-options.js'

const SECTIONS = ['speed', 'growth', 'sessions', 'dropping', 'pictures'] as const
type Section = (typeof SECTIONS)[number]

const OPTIONS = {
  model: { ...MODEL_OPTIONS.model, multiple: true },
  threads: MODEL_OPTIONS.threads,
  vision: MODEL_OPTIONS.vision,
  device: { type: 'string' },
  method: SESSION_OPTIONS.method,
  kv: SESSION_OPTIONS.kv,
  section: { type: 'string' },
  prompt: { type: 'string' },
  decode: { type: 'string' },
  sessions: { type: 'string' },
  context: { type: 'string' },
  runs: { type: 'string' },
  profile: { type: 'string' },
  json: { type: 'boolean' },
} satisfies Options

export const command: Command = {
  help: `
Measures how fast a prompt is read (prefill) and text is generated (decode), and what the cache
takes. The limits of the machine (a plain read of memory, the peak of its arithmetic) are measured
in the same run, and every figure is also shown as a share of what they allow.
Prompts are text of this package's documentation, all of it droppable; every run is a new session
that takes no rows of another, runs of different settings take turns, and one turn comes first that
is not counted.

Usage: tokensieve bench [options]

      --section NAME,…   what is measured; default speed
          speed          prompts and generated tokens, with each --kv and each --method
          growth         time against the length of a prompt, 128 to 16,384 tokens or --prompt
          sessions       decoding with 1 to 16 sessions at once, or --sessions
          dropping       what fastv, pyramidDrop and snapkv save, against the arithmetic's ideal
          pictures       a prompt with a picture, from its pixels: what methods in the tower and in
                         the layers save of both; default model ${PICTURE_MODEL}
      --prompt N,…       prompt lengths to read; default 512,2048
      --decode N,…       contexts to generate at; default 128,2048
      --sessions N,…     sessions at once; default 1,2,4,8,16
      --method METHOD    measured beside no method; may be repeated, each is measured by itself
      --kv TYPE,…        how the cache is stored, as in "generate"; default f16
      --context KIND     what prompts are made of: text (default) or random tokens, after which a
                         model is sure of nothing
      --runs N           default 3
      --profile FILE     instead: time by kernel, layer and thread of the first prompt and the first
                         context (with the last --method and --kv), as tables and as a trace for
                         chrome://tracing in FILE
      --json             one object { context, machine, limits, cards, models, runs, growth,
                         sessions, dropping, pictures }

  -m, --model MODEL      a GGUF file, a folder with safetensors, or a name that "pull" knows; may be
                         repeated; default ${DEFAULT_MODEL}, pulled on first use
      --vision FILE      its vision tower; default: the one beside it, where there is one
      --threads N        default: physical cores; results do not depend on it
      --device DEVICE    auto, cpu, cuda, cuda:1, …: a card's limits are measured too, and figures
                         show operations and bytes a second
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    const wanted = wantedOf(parsed)
    const { threads } = parsed.values
    const count = typeof threads === 'string' ? Number(threads) : defaultThreads()
    const made = await measureAll(parsed, wanted, count, io)
    if (made === undefined) return 0
    if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(made)}\n`)
    else io.out.write(reportText(made))
    return 0
  },
}

interface BenchWanted extends Wanted {
  readonly context: Context
  readonly sections: readonly Section[]
  readonly lengths: readonly number[]
  readonly sessions: readonly number[]
  readonly dropping: Wanted
  readonly pictures: readonly Setting[]
  readonly vision: string | undefined
}

function wantedOf(parsed: Parsed): BenchWanted {
  const length = { min: 2, max: 2 ** 24, whole: true }
  const sections = sectionsOf(parsed)
  const kvs = (textOf(parsed, 'kv') ?? 'f16').split(',').map(parseKvText)
  const texts = textsOf(parsed, 'method')
  const given = methodsOf(parsed).map((method, i) => ({ method: texts[i] ?? method.label, methods: [method] }))
  const prompt = numbersOf(parsed, 'prompt', length)
  const decode = numbersOf(parsed, 'decode', length)
  const rounds = numberOf(parsed, 'runs', { min: 1, max: 1000, whole: true }) ?? 3
  const settingsOf = (methods: readonly Omit<Setting, 'kv'>[]) =>
    kvs.flatMap((kv) => [{ method: 'none', methods: [] }, ...methods].map((one) => ({ ...one, kv })))
  const wanted = { prompt: prompt ?? [512, 2048], decode: decode ?? [128, 2048], rounds, settings: settingsOf(given) }
  if (sections.includes('speed') && wanted.prompt.length + wanted.decode.length === 0)
    throw new UsageError('Expected lengths for --prompt or --decode')
  const dropped = prompt ?? [512, 2048]
  const dropping = {
    prompt: dropped,
    decode: decode ?? dropped,
    rounds,
    settings: settingsOf(given.length > 0 ? given : named(DROPPERS)),
  }
  const seen = [{ method: 'none', methods: [] }, ...(given.length > 0 ? given : named(THINNERS))]
  const pictures = seen.map((one) => ({ ...one, kv: kvs[0] as Kv }))
  const sessions = numbersOf(parsed, 'sessions', { min: 1, max: 1024, whole: true }) ?? [1, 2, 4, 8, 16]
  const lengths = prompt ?? [128, 256, 512, 1024, 2048, 4096, 8192, 16384]
  for (const [name, list] of [
    ['growth', lengths],
    ['sessions', sessions],
  ] as const)
    if (sections.includes(name) && list.length === 0) throw new UsageError(`Expected numbers for the section ${name}`)
  return {
    ...wanted,
    context: contextOf(parsed),
    sections,
    lengths,
    sessions,
    dropping,
    pictures,
    vision: textOf(parsed, 'vision'),
  }
}

function contextOf(parsed: Parsed): Context {
  const text = textOf(parsed, 'context') ?? 'text'
  const context = CONTEXTS.find((one) => one === text)
  if (!context)
    throw new UsageError(`Expected ${CONTEXTS.join(' or ')} for --context but received ${JSON.stringify(text)}`)
  return context
}

function sectionsOf(parsed: Parsed): Section[] {
  return (textOf(parsed, 'section') ?? 'speed').split(',').map((name) => {
    const section = SECTIONS.find((one) => one === name)
    if (!section)
      throw new UsageError(`Expected ${SECTIONS.join(', ')} for --section but received ${JSON.stringify(name)}`)
    return section
  })
}

/** The methods of the papers that save time in the prompt and at decode, at a half and a quarter. */
const DROPPERS = [
  ...['fastv:layer=3,keep=0.5', 'fastv:layer=3,keep=0.25'],
  ...['pyramidDrop:ratios=0.5/0.25/0.125', 'pyramidDrop:ratios=0.25/0.0625/0.015625'],
  ...['snapkv:keep=0.5', 'snapkv:keep=0.25'],
]

/** Between layers of the decoder, between tower and decoder, and in the tower. */
const THINNERS = [
  ...['fastv:keep=0.5', 'fastv:keep=0.25', 'tome:keep=0.5', 'tome:keep=0.25'],
  ...['pyramidDrop:ratios=0.5/0.25/0.125', 'pyramidDrop:ratios=0.25/0.0625/0.015625'],
  ...['visionZip:keep=0.5', 'visionZip:keep=0.25', 'divPrune:keep=0.5', 'divPrune:keep=0.25'],
  ...['tome:acts=vision,keep=0.5', 'tome:acts=vision,keep=0.25'],
]

function named(texts: readonly string[]): Omit<Setting, 'kv'>[] {
  return texts.map((text) => ({ method: text, methods: [parseMethod(text)] }))
}

function defaultThreads(): number {
  return Number(process.env.TOKENSIEVE_THREADS) || machineOf().cores
}

interface Found {
  runs: Run[]
  growth: Growth[]
  sessions: Growth[]
  dropping: Run[]
  pictures: PictureRun[]
}

/** Nothing where profiles were asked for: they are printed as they come. */
async function measureAll(parsed: Parsed, wanted: BenchWanted, threads: number, io: Io) {
  const found: Found = { runs: [], growth: [], sessions: [], dropping: [], pictures: [] }
  const models: ReturnType<typeof aboutOf>[] = []
  const given = textsOf(parsed, 'model')
  const traced = textOf(parsed, 'profile')
  const profiled: Awaited<ReturnType<typeof profiles>> = []
  let meter: Meter | undefined
  const otherwise = wanted.sections.every((section) => section === 'pictures') ? PICTURE_MODEL : DEFAULT_MODEL
  for (const name of given.length > 0 ? given : [otherwise]) {
    const { model, path } = await openModel({ ...parsed, values: { ...parsed.values, model: name } }, io)
    try {
      const subject = await subjectOf(model, path, wanted.context)
      models.push(aboutOf(model, subject))
      meter ??= new Meter(model.isa, threads)
      meter.watch(model)
      if (traced === undefined) await measureModel(subject, path, wanted, meter, found, io)
      else profiled.push(...(await profiles(subject, wanted, io)))
    } finally {
      await model.close()
    }
  }
  if (traced !== undefined) {
    writeTrace(traced, profiled)
    io.out.write(`${profiled.map((one) => profileText(one, io)).join('\n\n')}\n`)
    return undefined
  }
  const { cards, limits } = meter as Meter
  const machine = { ...machineOf(), isa: limits.isa, threads }
  return { context: wanted.context, machine, limits, cards, model: models[0], models, ...found }
}

async function measureModel(
  subject: Subject,
  path: string,
  wanted: BenchWanted,
  meter: Meter,
  found: Found,
  io: Io,
): Promise<void> {
  const { decode, dropping, lengths, rounds, sections, sessions, settings } = wanted
  const [{ kv }] = settings as [Setting]
  if (sections.includes('speed')) found.runs.push(...(await measureRuns(subject, wanted, meter, io)))
  if (sections.includes('growth'))
    found.growth.push(...(await growthOfPrompts(subject, { kv, lengths, rounds }, meter, io)))
  if (sections.includes('sessions'))
    found.sessions.push(
      ...(await growthOfSessions(subject, { kv, counts: sessions, context: decode[0] ?? 128, rounds }, meter, io)),
    )
  if (sections.includes('dropping')) found.dropping.push(...(await measureRuns(subject, dropping, meter, io)))
  if (!sections.includes('pictures')) return
  const tower = await towerOfSubject(subject, path, wanted.vision)
  found.pictures.push(...(await measurePictures(subject, tower, { rounds, settings: wanted.pictures }, meter, io)))
}

function aboutOf(model: Model, { file, name }: Subject) {
  const { architecture, layers } = model.config
  return { name, file, architecture, layers, bytes: model.bytes }
}
