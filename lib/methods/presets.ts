// Mixes that were measured to be worth their loss: docs/presets.md.
import { typeError } from '../errors.js'
import type { KvOptions } from '../kv.js'
import { evenShare } from './cache/even-share.js'
import type { Method } from './method.js'

/** What `model.session` takes: how rows are stored, and which stay. */
export interface Preset {
  readonly kv: KvOptions
  readonly methods: readonly Method[]
}

const RECENT = 16

const presets: Readonly<Record<'light' | 'balanced' | 'small', () => Preset>> = {
  light: () => ({ kv: { keys: 'kivi4', values: 'q4_0' }, methods: [] }),
  balanced: () => ({
    kv: { keys: 'kivi4', values: 'q4_0', recent: RECENT },
    methods: [evenShare({ under: 0.25 })],
  }),
  small: () => ({
    kv: { keys: 'kivi4', values: 'q4_0', recent: RECENT },
    methods: [evenShare({ under: 0.75, recent: 0.125 })],
  }),
}

/**
 * `model.session(methods.preset('balanced'))`, or with more options `model.session({ ...methods.preset('balanced'), contextLength })`. 'light' keeps every row in 4 bits, 'balanced'
 * drops those that hardly anything looks at too, and 'small' half of them and more.
 */
export function preset(name: keyof typeof presets): Preset {
  if (typeof name !== 'string' || !Object.hasOwn(presets, name))
    throw typeError(`one of ${Object.keys(presets).join(', ')}`, 'preset', name)
  const { kv, methods } = presets[name]()
  return Object.freeze({ kv: Object.freeze(kv), methods: Object.freeze([...methods]) })
}
