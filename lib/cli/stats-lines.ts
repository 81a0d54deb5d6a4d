// A session's numbers in a few lines.
import type { SessionStats } from '../stats.js'
import { bytes, number } from './format.js'

export function statsLines({ prompt, generated, kv, time, tokensPerSecond: speed }: SessionStats): string[] {
  const share = kv.fullBytes > 0 ? `, ${number((100 * kv.bytes) / kv.fullBytes)} % of the full f16 cache` : ''
  const computed = prompt.tokens - prompt.cached
  const cached = prompt.cached > 0 ? `, ${number(prompt.cached)} of them read before` : ''
  const seen = computed > 0 && prompt.seen < computed ? `, ${number(prompt.seen)} a layer on average` : ''
  return [
    `prompt     ${number(prompt.tokens)} tokens${cached}${seen}, ${number(speed.prefill)} tokens/s`,
    `generated  ${number(generated.tokens)} tokens, ${number(speed.decode)} tokens/s`,
    `cache      ${bytes(kv.bytes)}${share}; at most ${bytes(kv.peakBytes)}`,
    `time       ${number(time.load)} ms load, ${number(time.prefill)} prefill, ${number(time.decode)} decode, ${number(time.decide)} in methods`,
  ]
}
