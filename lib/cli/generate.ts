// tokensieve generate: text after a prompt, to stdout as it comes.
import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import { TokensieveError } from '../errors.js'
import type { Generated } from '../generate.js'
import type { Method } from '../methods/index.js'
import type { Model } from '../model.js'
import type { PicturePart, Prompt } from '../prompt.js'
import type { Session } from '../session.js'
import { flagOf, type Options, type Parsed, parse, textOf, textsOf, UsageError } from './arguments.js'
import { PAGE_HELP, PAGE_OPTIONS, pageOptions, runOf, warmUp, writePage } from './generate-page.js'
import type { Command, Io } from './io.js'
import { DEFAULT_MODEL, MODEL_HELP, MODEL_OPTIONS, openModel, PICTURE_MODEL } from './open-model.js'
import {
  METHOD_HELP,
  methodsOf,
  SAMPLING_HELP,
  SAMPLING_OPTIONS,
  SESSION_HELP,
  SESSION_OPTIONS,
  samplingOptions,
  sessionOptions,
} from './session-options.js'
import { statsLines } from './stats-lines.js'

const OPTIONS = {
  ...MODEL_OPTIONS,
  ...SESSION_OPTIONS,
  ...SAMPLING_OPTIONS,
  prompt: { type: 'string', short: 'p' },
  document: { type: 'string' },
  image: { type: 'string', multiple: true },
  frames: { type: 'boolean' },
  video: { type: 'string', multiple: true },
  system: { type: 'string' },
  chat: { type: 'boolean' },
  json: { type: 'boolean' },
  stats: { type: 'boolean' },
  ...PAGE_OPTIONS,
} satisfies Options

export const command: Command = {
  help: `
Generates text after a prompt.

Usage: tokensieve generate -p PROMPT [options]

  -p, --prompt TEXT      "-" reads it from stdin
      --chat             the prompt is a user's message: the model's chat template is applied
      --system TEXT      a system message in front of it
      --document FILE    a text in front of the prompt; methods that act in layers drop tokens of
                         it and of pictures, and no others
      --image FILE       a picture in front of the prompt, which makes it a user's message (--chat);
                         may be repeated
      --frames           all of --image are the frames of one film
      --video PATH       a film, like a picture: a folder of pictures, by name ("9.png" before
                         "10.png"), or an animated WebP or GIF; may be repeated
      --json             one object { text, ids, finishReason, stats, plan, … } instead of text,
                         which "report" draws
      --stats            what it cost, to stderr
${PAGE_HELP.slice(1)}
${MODEL_HELP.slice(1)}
${SESSION_HELP.slice(1)}
${SAMPLING_HELP.slice(1)}
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    const methods = methodsOf(parsed)
    const page = await pageOptions(parsed)
    const options = { ...sessionOptions(parsed), ...page.session }
    const sampling = { ...samplingOptions(parsed), signal: io.interrupts.signal }
    const prompt = await promptOf(parsed, io)
    const pictures = picturesOf(parsed).length > 0
    const { model } = await openModel(parsed, io, pictures ? PICTURE_MODEL : DEFAULT_MODEL)
    try {
      await warmUp(page, model, prompt, sampling.signal)
      const session = model.session(options)
      const stream = session.stream(prompt, sampling)
      const json = flagOf(parsed, 'json')
      if (!json) await printPieces(stream, io)
      const result = await stream.result
      await report(model, session, result, { json, stats: flagOf(parsed, 'stats'), methods }, io)
      await writePage(page, { model, methods, session, result }, { options, prompt, sampling })
    } finally {
      await model.close()
    }
    return 0
  },
}

async function printPieces(stream: AsyncIterable<{ text: string }>, io: Io): Promise<void> {
  try {
    for await (const { text } of stream) io.out.write(text)
  } finally {
    io.out.write('\n')
  }
}

async function report(
  model: Model,
  session: Session,
  result: Generated,
  wanted: { json: boolean; stats: boolean; methods: readonly Method[] },
  io: Io,
): Promise<void> {
  if (wanted.json) io.out.write(`${JSON.stringify(runOf({ model, session, result, methods: wanted.methods }))}\n`)
  for (const { acts, name } of idle(session, wanted.methods)) {
    const where =
      acts === 'vision'
        ? 'it acts on an --image or --video'
        : 'in the layers it drops tokens of --image, --video and --document'
    io.err.write(`note: ${name} dropped nothing; ${where} alone\n`)
  }
  if (wanted.stats) io.err.write(`${statsLines(session.stats).join('\n')}\n`)
}

/** Methods in the tower or in the layers that no entry of the plan names. */
function idle({ plan }: Session, methods: readonly Method[]): Method[] {
  const acted = new Set(plan.map(({ method }) => method))
  return methods.filter(({ acts, name }) => (acts === 'layers' || acts === 'vision') && !acted.has(name))
}

async function promptOf(parsed: Parsed, io: Io): Promise<Prompt> {
  const given = textOf(parsed, 'prompt')
  if (given === undefined) throw new UsageError('Expected a prompt: -p TEXT, or -p - to read stdin')
  const text = given === '-' ? await readStdin(io) : given
  const path = textOf(parsed, 'document')
  const pictures = picturesOf(parsed)
  const document = path === undefined ? [] : [{ text: `${(await readDocument(path)).trim()}\n\n`, droppable: true }]
  const parts = pictures.length + document.length === 0 ? undefined : [...pictures, ...document, { text }]
  if (!flagOf(parsed, 'chat') && pictures.length === 0) {
    if (textOf(parsed, 'system') !== undefined) throw new UsageError('Expected --chat together with --system')
    return parts ?? text
  }
  const system = textOf(parsed, 'system')
  const user = { role: 'user', content: parts ?? text }
  return system === undefined ? [user] : [{ role: 'system', content: system }, user]
}

/** Pictures, or all of them as one film; then films. */
function picturesOf(parsed: Parsed): PicturePart[] {
  const images = textsOf(parsed, 'image')
  const films = textsOf(parsed, 'video').map((video) => ({ video }))
  if (!flagOf(parsed, 'frames')) return [...images.map((image) => ({ image })), ...films]
  if (images.length === 0) throw new UsageError('Expected --image together with --frames')
  return [{ video: images }, ...films]
}

async function readStdin(io: Io): Promise<string> {
  if (io.in.isTTY) io.err.write('the prompt, then Ctrl-D:\n')
  return (await readAll(io.in)).replace(/\n$/, '')
}

async function readDocument(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new TokensieveError(
      'ERR_FILE_NOT_FOUND',
      `[document] expected a file that can be read: ${(cause as Error).message}`,
      { cause },
    )
  }
}
