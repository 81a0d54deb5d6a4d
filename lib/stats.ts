// Numbers of a session, all measured.
import type { ModelConfig, NativeSession } from './native.js'
import { fullBytes } from './sizes.js'

export interface SessionStats {
  /** tokens: given; seen: ran layer by layer, a mean over layers; cached: taken from an earlier prefix. */
  readonly prompt: { readonly tokens: number; readonly seen: number; readonly cached: number }
  readonly generated: { readonly tokens: number; readonly proposed: number; readonly accepted: number }
  readonly kv: {
    readonly bytes: number
    readonly fullBytes: number
    readonly peakBytes: number
    /** Of `bytes`: rows that a method has set aside, which attention does not read. */
    readonly storedBytes: number
    readonly layers: readonly { readonly rows: readonly number[]; readonly bytes: number }[]
  }
  /** Milliseconds; vision: from pictures to rows; decide: spent in methods. */
  readonly time: {
    readonly load: number
    readonly vision: number
    readonly prefill: number
    readonly decode: number
    readonly decide: number
  }
  readonly tokensPerSecond: { readonly prefill: number; readonly decode: number }
}

/** What is counted while calls run. */
export class Counters {
  promptTokens = 0
  /** Rows of these tokens times layers. */
  promptRows = 0
  /** Tokens whose rows came from another session. */
  cached = 0
  generated = 0
  /** Tokens that ran in calls of more than one, and in calls of one. */
  prefillTokens = 0
  decodeSteps = 0
  prefill = 0
  decode = 0
  decide = 0
  vision = 0

  copy(): Counters {
    return Object.assign(new Counters(), this)
  }

  since(before: Counters): Counters {
    const left = new Counters()
    for (const key of Object.keys(left) as (keyof {
      [K in keyof Counters as Counters[K] extends number ? K : never]: 0
    })[])
      left[key] = this[key] - before[key]
    return left
  }
}

export function statsOf(
  counters: Counters,
  native: NativeSession,
  config: ModelConfig,
  tokens: number,
  loadTime: number,
): SessionStats {
  const { bytes, layers, peakBytes, storedBytes } = native.stats()
  const { promptTokens, promptRows, cached, generated, prefillTokens, decodeSteps, prefill, decode, decide, vision } =
    counters
  const rate = (count: number, time: number) => (time > 0 ? (count / time) * 1000 : 0)
  return {
    prompt: { tokens: promptTokens, seen: promptRows / config.layers, cached },
    generated: { tokens: generated, proposed: 0, accepted: 0 },
    kv: { bytes, fullBytes: fullBytes(config, tokens), peakBytes, storedBytes, layers },
    time: { load: loadTime, vision, prefill, decode, decide },
    tokensPerSecond: { prefill: rate(prefillTokens, prefill), decode: rate(decodeSteps, decode) },
  }
}
