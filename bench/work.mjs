// What both sides have in common: the same arguments, the same tokens, lines of the same form.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    prompt: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '128,2048' },
    ids: { type: 'string' },
    kv: { type: 'string', default: 'f16' },
    threads: { type: 'string', default: '2' },
    runs: { type: 'string', default: '3' },
    start: { type: 'boolean', default: false },
  },
})
const numbers = (text) => text.split(',').filter(Boolean).map(Number)

export const { model, kv, start } = values
/** Shortest first: the first one warms up. */
export const prompt = numbers(values.prompt).sort((a, b) => a - b)
/** Longest first: a shorter context is cut out of it. */
export const decode = numbers(values.decode).sort((a, b) => b - a)
export const threads = Number(values.threads)
export const [keys, valuesType = keys] = kv.split('/')
/** Tokens generated at each context, the first of them to warm up. */
export const STEPS = 36
export const WARM = 4
/** Rows that the longest work takes. */
export const context = Math.max(...prompt, ...decode) + 2 * STEPS
/** What is said at the start, up to the first token. */
export const GREETING = 'The sky is blue because'

/** Long prompts run fewer times. */
export const runsOf = (count) => Math.min(Number(values.runs), count <= 1024 ? 100 : count <= 4096 ? 2 : 1)

export const median = (all) => [...all].sort((a, b) => a - b)[all.length >> 1]

/** The ids that both sides read: of the file --ids, which is as long as the longest prompt or context. */
const all = values.ids === undefined ? [] : JSON.parse(readFileSync(values.ids, 'utf8'))
export const tokens = (from, to) => all.slice(from, to)

/** read(count) reads a prompt into an empty context. */
export async function measurePrompts(read) {
  if (prompt.length > 0) await read(prompt[0])
  for (const count of prompt) {
    const times = []
    for (let run = 0; run < runsOf(count); run++) {
      const before = performance.now()
      await read(count)
      times.push((performance.now() - before) / count)
    }
    report('prefill', count, times)
  }
}

/** Whole decode runs only: a side that stops early has done less. times: milliseconds a token. */
export function reportSteps(count, times) {
  if (times.length !== STEPS) throw new Error(`expected ${STEPS} steps at ${count}, there were ${times.length}`)
  report('decode', count, times.slice(WARM))
}

/** times: milliseconds a token. */
export function report(what, count, times) {
  const peak = process.resourceUsage().maxRSS * 1024
  const line = { what, tokens: count, kv, threads, rate: 1000 / median(times), best: 1000 / Math.min(...times), peak }
  console.log(JSON.stringify(line))
}
