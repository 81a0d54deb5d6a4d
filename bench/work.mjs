// What both sides have in common: the same arguments, the same tokens, lines of the same form.
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    prompt: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '128,2048' },
    kv: { type: 'string', default: 'f16' },
    threads: { type: 'string', default: '2' },
    runs: { type: 'string', default: '3' },
  },
})
const numbers = (text) => text.split(',').filter(Boolean).map(Number)

export const model = values.model
export const prompt = numbers(values.prompt)
export const decode = numbers(values.decode)
export const threads = Number(values.threads)
export const runs = Number(values.runs)
export const kv = values.kv
export const [keys, valuesType = keys] = kv.split('/')
/** Tokens generated at each context, the first of them to warm up. */
export const STEPS = 36
export const WARM = 4

export const median = (all) => [...all].sort((a, b) => a - b)[all.length >> 1]

/** Random ids, the same for both; none of the first 300, which are special in many vocabularies. */
export function tokens(count, vocabulary) {
  let state = 1
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return 300 + (state % (vocabulary - 300))
  })
}

/** times: milliseconds a token. */
export function report(what, count, times) {
  const peak = process.resourceUsage().maxRSS * 1024
  const line = { what, tokens: count, kv, threads, rate: 1000 / median(times), best: 1000 / Math.min(...times), peak }
  console.log(JSON.stringify(line))
}
