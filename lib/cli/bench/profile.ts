// tokensieve bench --profile: where the time of a prompt and of generated tokens goes, as tables and as a file for chrome://tracing.
import { writeFileSync } from 'node:fs'
import { kvText } from '../../kv-text.js'
import { type Profile, profile } from '../../profile.js'
import { type Column, number, plainTable } from '../format.js'
import { type Io, painter } from '../io.js'
import type { Setting, Wanted } from './runs.js'
import { progress, type Subject, stepTimes } from './subject.js'

const STEPS = 32
const WARM = 4

export interface Profiled {
  readonly title: string
  readonly profile: Profile
}

/** The first length of each kind with the first setting, each after one run that warms up. */
export async function profiles(subject: Subject, { decode, prompt, settings }: Wanted, io: Io): Promise<Profiled[]> {
  const made: Profiled[] = []
  const [setting] = settings.slice(-1)
  if (!setting) return made
  const [read] = prompt
  const [context] = decode
  if (read !== undefined) {
    progress(io, `profiling a prompt of ${read} tokens`)
    made.push({
      title: title(subject, `prefill, ${number(read)} tokens`, setting),
      ...(await ofPrompt(subject, setting, read)),
    })
  }
  if (context !== undefined) {
    progress(io, `profiling ${STEPS} tokens at ${context}`)
    const what = `decode, ${STEPS} tokens at ${number(context)}`
    made.push({ title: title(subject, what, setting), ...(await ofSteps(subject, setting, context)) })
  }
  progress(io, '')
  return made
}

function title({ file }: Subject, what: string, { method, kv }: Setting): string {
  return `${file}: ${what}, ${kvText(kv)} cache${method === 'none' ? '' : `, ${method}`}`
}

async function ofPrompt(
  { ids, model }: Subject,
  { kv, methods }: Setting,
  tokens: number,
): Promise<{ profile: Profile }> {
  const run = async (work: (read: () => Promise<unknown>) => Promise<{ profile: Profile } | undefined>) => {
    const session = model.session({ kv, methods, reuse: false, contextLength: tokens })
    try {
      return await work(() => session.forward([{ ids: ids(tokens), droppable: true }], { logits: 'none' }))
    } finally {
      await session.close()
    }
  }
  await run(async (read) => void (await read()))
  return (await run((read) => profile(read))) as { profile: Profile }
}

async function ofSteps(
  { ids, model }: Subject,
  { kv, methods }: Setting,
  tokens: number,
): Promise<{ profile: Profile }> {
  const session = model.session({ kv, methods, reuse: false, contextLength: tokens + STEPS + WARM + 2 })
  try {
    await session.forward([{ ids: ids(tokens), droppable: true }], { logits: 'none' })
    await stepTimes(session, ids(tokens + 1).slice(tokens), 1, WARM)
    return await profile(() => session.generate(new Int32Array(0), { maxTokens: STEPS, ignoreEnd: true }))
  } finally {
    await session.close()
  }
}

/** Both as one trace: a process each. */
export function writeTrace(path: string, all: readonly Profiled[]): void {
  const traceEvents = all.flatMap(
    ({ profile: one, title: name }, i) => one.chromeTrace({ id: i + 1, name }).traceEvents,
  )
  writeFileSync(path, JSON.stringify({ displayTimeUnit: 'ms', traceEvents }))
}

export function profileText({ profile: of, title: name }: Profiled, io: Io): string {
  const paint = painter(io.out)
  const inside = `${number(of.time)} ms, ${percent(of.called / of.time)} of them in native calls, ${of.threads} threads`
  const lost = of.lost > 0 ? `; ${number(of.lost)} events did not fit` : ''
  const tables = [kernelTable(of), layerTable(of), threadTable(of)]
  return [paint('bold', name), `${inside}${lost}`, ...tables.map((lines) => `\n${lines.join('\n')}`)].join('\n')
}

const right = (text: string): Column => ({ title: text, right: true })
const ms = (time: number) => time.toFixed(2)
const percent = (share: number) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : '')

export function kernelTable(of: Profile): string[] {
  const columns = [
    { title: 'kernel' },
    right('calls'),
    right('ms'),
    right('share'),
    right('busy ms'),
    right('waiting ms'),
    right('busy'),
  ]
  const rows = of
    .kernels()
    .map(({ busy, calls, name, share, time, waiting }) => [
      name,
      ...[calls > 0 ? number(calls) : '', ms(time), percent(share), ms(busy), ms(waiting)],
      percent(busy / (busy + waiting)),
    ])
  return plainTable(columns, rows)
}

/** Layers by kernels; kernels that never take a hundredth of a millisecond are 'other'. */
export function layerTable(of: Profile): string[] {
  const layers = of.layers()
  const names = of
    .kernels()
    .map(({ name }) => name.split(' ')[0] as string)
    .filter((name, i, all) => all.indexOf(name) === i && layers.some(({ kernels }) => (kernels[name] ?? 0) >= 0.01))
  const columns = [right('layer'), right('ms'), ...names.map(right), right('other')]
  const rows = layers.map(({ kernels, layer, time }) => {
    const shown = names.map((name) => kernels[name] ?? 0)
    const other = time - shown.reduce((a, b) => a + b, 0)
    return [layer === null ? 'none' : String(layer), ...[time, ...shown, other].map(ms)]
  })
  return plainTable(columns, rows)
}

export function threadTable(of: Profile): string[] {
  const columns = [{ title: 'thread' }, right('busy ms'), right('waiting ms'), right('idle ms'), right('busy')]
  const rows = of
    .threadTimes()
    .map(({ busy, idle, name, waiting }) => [name, ...[busy, waiting, idle].map(ms), percent(busy / of.time)])
  return plainTable(columns, rows)
}
