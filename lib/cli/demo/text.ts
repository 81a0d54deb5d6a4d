// tokensieve demo --document: one question about a long text, answered with everything and with less, and what that saved and cost.
import { readFile } from 'node:fs/promises'
import { divergence, logSoftmax } from '../../lab/divergence.js'
import type { Method } from '../../methods/index.js'
import type { Model } from '../../model.js'
import type { Prompt } from '../../prompt.js'
import type { Session } from '../../session.js'
import type { SessionStats } from '../../stats.js'
import { type Parsed, textOf, textsOf } from '../arguments.js'
import { bytes, number, plainTable, Wrapper, wrap } from '../format.js'
import { type Io, painter, widthOf } from '../io.js'
import { parseMethod } from '../method-option.js'
import { openModel } from '../open-model.js'
import { readPackageFile } from '../package-file.js'

export const DOCUMENT = 'docs/guide.md'
export const TEXT_QUESTION = 'What is a method in tokensieve?'
export const TEXT_METHODS = ['snapkv:keep=0.75', 'fastv:layer=15,keep=0.5', 'random:keep=0.75']

export async function askAboutText(parsed: Parsed, io: Io): Promise<void> {
  const settings = settingsOf(parsed)
  const { document, title } = await documentOf(parsed)
  const question = textsOf(parsed, 'question')[0] ?? TEXT_QUESTION
  const { model } = await openModel(parsed, io)
  try {
    introduce(model, document, title, question, io)
    const runs: Run[] = []
    for (const setting of settings) runs.push(await answer(model, setting, document, question, runs[0], io))
    conclude(runs, io)
  } finally {
    await model.close()
  }
}

interface Setting {
  readonly label: string
  readonly methods: readonly Method[]
}

interface Run {
  readonly label: string
  readonly stats: SessionStats
  /** Tokens of the answer, and after each of the full run's the distribution of the next one (natural logarithms). */
  readonly ids: Int32Array
  readonly next: readonly Float64Array[]
}

function settingsOf(parsed: Parsed): Setting[] {
  const given = textsOf(parsed, 'method')
  const texts = given.length > 0 ? given : TEXT_METHODS
  return [{ label: 'full', methods: [] }, ...texts.map((label) => ({ label, methods: [parseMethod(label)] }))]
}

async function documentOf(parsed: Parsed): Promise<{ document: string; title: string }> {
  const path = textOf(parsed, 'document')
  const text = path === undefined ? readPackageFile(DOCUMENT) : await readFile(path, 'utf8')
  return { document: text.trim(), title: path ?? DOCUMENT }
}

function introduce(model: Model, document: string, title: string, question: string, io: Io): void {
  const paint = painter(io.out)
  const line = (name: string, text: string) =>
    io.out.write(`${paint('dim', name.padEnd(10))}${wrap(text, widthOf(io.out), ' '.repeat(10)).trimStart()}\n`)
  const { config, tokenizer } = model
  line('model', `${config.name ?? config.architecture}, ${config.layers} layers, ${config.kvHeads} KV heads a layer`)
  line('text', `${title}, ${number(tokenizer.encode(document).length)} tokens; methods in layers may drop from it`)
  line('question', question)
}

async function answer(
  model: Model,
  { label, methods }: Setting,
  document: string,
  question: string,
  full: Run | undefined,
  io: Io,
): Promise<Run> {
  const paint = painter(io.out)
  const session = model.session({ methods })
  const { signal } = io.interrupts
  try {
    io.out.write(`\n${paint('bold', label)}\n`)
    const content = [{ text: `${document}\n\n`, droppable: true }, { text: question }]
    const prompt: Prompt = [{ role: 'user', content }]
    const stream = session.stream(prompt, { maxTokens: 48, stop: ['.'], signal })
    const lines = new Wrapper(widthOf(io.out), '  ')
    for await (const { text } of stream) io.out.write(lines.push(text.replace(/\s+/g, ' ')))
    const { ids, stats, finishReason } = await stream.result
    io.out.write(`${lines.end()}${finishReason === 'stop' ? '.' : ' …'}\n`)
    const next = await follow(session, session.ids.length - ids.length, full?.ids ?? ids, signal)
    return { label, stats, ids, next }
  } finally {
    await session.close()
  }
}

/** Back to the end of the prompt, then along the full run's answer: what this session expects after each of its tokens. */
async function follow(session: Session, prompt: number, ids: Int32Array, signal: AbortSignal): Promise<Float64Array[]> {
  await session.truncate(prompt)
  const next: Float64Array[] = []
  for (const id of ids) next.push(logSoftmax(await session.forward(Int32Array.of(id), { logits: 'last', signal })))
  return next
}

function conclude(runs: readonly Run[], io: Io): void {
  const [full] = runs
  if (!full) return
  const right = (title: string) => ({ title, right: true })
  const columns = [
    { title: '' },
    right('tokens/layer'),
    right('cache'),
    right('read/s'),
    right('write/s'),
    right('KL to full'),
  ]
  const rows = runs.map(({ label, stats: { prompt, kv, tokensPerSecond: speed }, next }) => [
    label,
    number(Math.round(prompt.seen)),
    bytes(kv.bytes),
    number(Math.round(speed.prefill)),
    number(Math.round(speed.decode)),
    full.next === next ? '0' : meanDivergence(full.next, next).toFixed(3),
  ])
  const [head = '', ...lines] = plainTable(columns, rows)
  io.out.write(`\n${painter(io.out)('dim', head)}\n${lines.join('\n')}\n\n`)
  io.out.write(`${wrap(EXPLANATION, widthOf(io.out))}\n`)
}

const EXPLANATION = `tokens/layer: prompt tokens that a layer computed, on average. cache: keys and values in memory at the end. read/s, write/s: prompt tokens read and answer tokens written a second. KL to full: how far the distribution of the next token is from the full run's, in nats, a mean over its answer; 0 is the same. A model of 135 million parameters loses details early: with less to look at it goes astray, and a fluent answer may be wrong. "tokensieve demo --help" tells how to ask your own question about your own text.`

function meanDivergence(full: readonly Float64Array[], other: readonly Float64Array[]): number {
  const each = full.map((p, i) => divergence(p, other[i] ?? p))
  return each.reduce((sum, one) => sum + one, 0) / each.length
}
