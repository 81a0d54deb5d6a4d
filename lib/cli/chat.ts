// tokensieve chat: a conversation whose cache goes on from turn to turn.
import { createInterface, type Interface } from 'node:readline'
import type { Model } from '../model.js'
import type { GenerateOptions } from '../sampling.js'
import type { Session } from '../session.js'
import type { ChatMessage } from '../tokenizer/index.js'
import { openImage } from '../vision/decode.js'
import { type Options, parse, textOf, textsOf } from './arguments.js'
import { type Command, type Io, painter } from './io.js'
import { DEFAULT_MODEL, MODEL_HELP, MODEL_OPTIONS, openModel, PICTURE_MODEL } from './open-model.js'
import {
  METHOD_HELP,
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
  system: { type: 'string' },
  image: { type: 'string', multiple: true },
} satisfies Options

const COMMANDS = '/reset forgets the conversation, /stats tells what it costs, /exit or Ctrl-D ends'
const SHOW = '/image FILE shows a picture with the next message'

export const command: Command = {
  help: `
A conversation in the terminal. Ctrl-C stops an answer;
${COMMANDS};
${SHOW}.
Lines that are piped in are answered one after another.

Usage: tokensieve chat [options]

      --system TEXT      how the model should behave
      --image FILE       a picture with the first message; may be repeated
${MODEL_HELP.slice(1)}
${SESSION_HELP.slice(1)}
${SAMPLING_HELP.slice(1).replace('default 128', 'default 512')}
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    const options = sessionOptions(parsed)
    const sampling = {
      ...samplingOptions(parsed),
      ...(textOf(parsed, 'max-tokens') === undefined && { maxTokens: 512 }),
    }
    const pictures = textsOf(parsed, 'image')
    const { model, path } = await openModel(parsed, io, pictures.length > 0 ? PICTURE_MODEL : DEFAULT_MODEL)
    try {
      const session = model.session(options)
      if (io.in.isTTY)
        io.err.write(
          `${painter(io.err)('dim', `${model.config.name ?? path}. Ctrl-C stops an answer; ${commandsOf(model)}.`)}\n`,
        )
      const talk = { system: textOf(parsed, 'system'), pictures, commands: commandsOf(model) }
      await converse(session, sampling, talk, io)
    } finally {
      await model.close()
    }
    return 0
  },
}

function commandsOf({ vision }: Model): string {
  return vision ? `${COMMANDS}; ${SHOW}` : COMMANDS
}

interface Talk {
  readonly system: string | undefined
  /** Shown with the first message. */
  readonly pictures: readonly string[]
  readonly commands: string
}

async function converse(
  session: Session,
  sampling: GenerateOptions,
  { commands, pictures, system }: Talk,
  io: Io,
): Promise<void> {
  const { signal } = io.interrupts
  let shown = pictures
  const lines = linesOf(io)
  try {
    for await (const line of lines) {
      const text = line.trim()
      if (text === '/exit') break
      if (text === '/reset') await session.reset()
      else if (text === '/stats') io.err.write(`${statsLines(session.stats).join('\n')}\n`)
      else if (/^\/image\s/.test(text)) shown = await withPicture(shown, text.slice(6).trim(), io)
      else if (text.startsWith('/')) io.err.write(`${commands}\n`)
      else if (text !== '') {
        const first = session.ids.length === 0 && system !== undefined
        const content = shown.length === 0 ? text : [...shown.map((image) => ({ image })), { text }]
        shown = []
        const messages: ChatMessage[] = [{ role: 'user', content }]
        await answer(session, first ? [{ role: 'system', content: system }, ...messages] : messages, sampling, io)
      }
      if (signal.aborted) throw signal.reason
    }
    signal.throwIfAborted()
  } finally {
    await lines.return()
  }
}

/** One more picture, or a sentence where it is none. */
async function withPicture(shown: readonly string[], path: string, io: Io): Promise<readonly string[]> {
  try {
    await openImage(path)
    return [...shown, path]
  } catch (error) {
    io.err.write(`${(error as Error).message}\n`)
    return shown
  }
}

/** One answer. Ctrl-C ends it and keeps what was said. */
async function answer(session: Session, messages: ChatMessage[], sampling: GenerateOptions, io: Io): Promise<void> {
  const stop = new AbortController()
  const release = io.interrupts.take(() => stop.abort(new Error('stopped')))
  const signal = AbortSignal.any([stop.signal, io.interrupts.signal])
  const write = (text: string) => io.out.write(text)
  try {
    for await (const { text } of session.stream(messages, { ...sampling, signal })) write(text)
    write('\n')
  } catch (error) {
    write('\n')
    if (!stop.signal.aborted) throw error
    io.err.write(`${painter(io.err)('dim', '(stopped)')}\n`)
  } finally {
    release()
  }
}

/** Lines as they are wanted: on a terminal with a prompt, history and editing. */
async function* linesOf(io: Io): AsyncGenerator<string, void, undefined> {
  const terminal = io.in.isTTY === true && io.err.isTTY === true
  const output = io.err as NodeJS.WriteStream
  const reader = createInterface({
    input: io.in,
    ...(terminal && { output }),
    terminal,
    prompt: painter(io.err)('green', '> '),
  })
  const queue = new Lines(reader)
  // A terminal in raw mode tells Ctrl-C to the reader alone.
  reader.on('SIGINT', () => io.interrupts.interrupt())
  const end = () => reader.close()
  io.interrupts.signal.addEventListener('abort', end)
  try {
    for (;;) {
      const release = terminal ? io.interrupts.take(() => clearLine(reader, io)) : () => {}
      if (terminal) reader.prompt()
      const line = await queue.next()
      release()
      if (line === undefined) break
      yield line
    }
    if (terminal) io.err.write('\n')
  } finally {
    io.interrupts.signal.removeEventListener('abort', end)
    reader.close()
  }
}

function clearLine(reader: Interface, io: Io): void {
  if (reader.line === '') io.err.write(`\n${painter(io.err)('dim', 'Ctrl-D ends the conversation')}\n`)
  else io.err.write('\n')
  reader.write(null, { ctrl: true, name: 'e' })
  reader.write(null, { ctrl: true, name: 'u' })
  reader.prompt()
}

/** Lines that come before they are asked for wait. */
class Lines {
  readonly #waiting: string[] = []
  #ended = false
  #wake = () => {}

  constructor(reader: Interface) {
    reader.on('line', (line) => {
      this.#waiting.push(line)
      this.#wake()
    })
    reader.on('close', () => {
      this.#ended = true
      this.#wake()
    })
  }

  async next(): Promise<string | undefined> {
    while (this.#waiting.length === 0 && !this.#ended) {
      await new Promise<void>((wake) => {
        this.#wake = wake
      })
    }
    return this.#waiting.shift()
  }
}
