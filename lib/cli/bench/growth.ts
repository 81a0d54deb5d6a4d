// How time grows with the length of a prompt and with the number of sessions at once, beside how the arithmetic grows.

import { kvText } from '../../kv-text.js'
import type { Session } from '../../session.js'
import { median } from '../format.js'
import type { Io } from '../io.js'
import { decodeSeconds, exponents, type Kv, prefillSeconds } from './roofline.js'
import { type Meter, progress, type Subject } from './subject.js'

export interface Growth {
  readonly model: string
  readonly kv: string
  /** Tokens of the prompt, or sessions at once. */
  readonly size: number
  /** Of the whole prompt, or of a step of all sessions. */
  readonly ms: number
  readonly best: number
  /** Tokens a second: of the prompt, or of all sessions together. */
  readonly rate: number
  readonly limit: number
  readonly share: number
  /** By how much the time has grown since the line before (1 is linear, 2 quadratic), and by how much the limit says. */
  readonly exponent: number | null
  readonly expected: number | null
}

/** seconds: at best. tokens: that come out of it. */
interface Line {
  readonly size: number
  readonly tokens: number
  readonly times: number[]
  seconds: number
}

function growthOf(lines: readonly Line[], model: string, kv: Kv): Growth[] {
  const sizes = lines.map(({ size }) => size)
  const known = (value: number | undefined) => (Number.isFinite(value) ? Number((value as number).toFixed(3)) : null)
  const measured = exponents(
    sizes,
    lines.map(({ times }) => median(times)),
  )
  const expected = exponents(
    sizes,
    lines.map(({ seconds }) => seconds),
  )
  return lines.map(({ seconds, size, times, tokens }, i) => {
    const ms = median(times)
    const figures = { ms, best: Math.min(...times), rate: (1000 * tokens) / ms, limit: tokens / seconds }
    const share = (1000 * seconds) / ms
    return {
      model,
      kv: kvText(kv),
      size,
      ...figures,
      share,
      exponent: known(measured[i]),
      expected: known(expected[i]),
    }
  })
}

/** Long prompts run fewer times. */
function roundsOf(tokens: number, rounds: number): number {
  return tokens <= 2048 ? rounds : tokens <= 8192 ? Math.min(rounds, 2) : 1
}

export async function growthOfPrompts(
  { file, ids, model, work }: Subject,
  { kv, lengths, rounds }: { kv: Kv; lengths: readonly number[]; rounds: number },
  meter: Meter,
  io: Io,
): Promise<Growth[]> {
  const lines = lengths.map((size): Line => ({ size, tokens: size, times: [], seconds: 0 }))
  const read = async (tokens: number): Promise<number> => {
    const session = model.session({ kv, reuse: false, contextLength: tokens })
    try {
      const start = performance.now()
      await session.forward(ids(tokens), { logits: 'none' })
      return performance.now() - start
    } finally {
      await session.close()
    }
  }
  await read(Math.min(...lengths))
  await meter.measure()
  for (let round = 0; round < rounds; round++) {
    for (const { size, times } of lines) {
      if (round >= roundsOf(size, rounds)) continue
      progress(io, `${file}: round ${round + 1} of ${rounds}, a prompt of ${size} tokens`)
      times.push(await read(size))
    }
    await meter.measure()
  }
  progress(io, '')
  const rates = meter.ratesOf(model)
  for (const line of lines) line.seconds = prefillSeconds(work, () => line.size, rates)
  return growthOf(lines, file, kv)
}

const STEPS = 24
const WARM = 3

export async function growthOfSessions(
  { file, ids, model, work }: Subject,
  { context, counts, kv, rounds }: { context: number; counts: readonly number[]; kv: Kv; rounds: number },
  meter: Meter,
  io: Io,
): Promise<Growth[]> {
  const most = Math.max(...counts)
  const lines = counts.map((size): Line => ({ size, tokens: size, times: [], seconds: 0 }))
  const contextLength = context + rounds * counts.length * (STEPS + WARM + 2)
  const sessions: Session[] = []
  try {
    progress(io, `${file}: ${most} sessions of ${context} tokens`)
    for (let i = 0; i < most; i++) {
      const session = model.session({ kv, reuse: false, contextLength })
      sessions.push(session)
      await session.forward(ids(context, i * context), { logits: 'none' })
    }
    await meter.measure()
    for (let round = 0; round < rounds; round++) {
      for (const { size, times } of lines) {
        progress(io, `${file}: round ${round + 1} of ${rounds}, ${size} sessions at once`)
        times.push(await stepOf(sessions.slice(0, size)))
      }
      await meter.measure()
    }
    const rates = meter.ratesOf(model)
    const rows = median(sessions.map(({ ids: all }) => all.length))
    for (const line of lines) line.seconds = decodeSeconds(work, () => rows, kv, rates, line.size)
    return growthOf(lines, file, kv)
  } finally {
    progress(io, '')
    await Promise.all(sessions.map((session) => session.close()))
  }
}

/** Milliseconds of a step in which every session gets a token. */
async function stepOf(sessions: readonly Session[]): Promise<number> {
  const together = (maxTokens: number) =>
    Promise.all(sessions.map((session) => session.generate(new Int32Array(0), { maxTokens, ignoreEnd: true })))
  await together(WARM)
  const start = performance.now()
  await together(STEPS)
  return (performance.now() - start) / STEPS
}
