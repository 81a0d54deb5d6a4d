// Mixes that were measured to be worth their loss: docs/presets.md.
import { typeError } from '../errors.js'
import type { KvException, KvOptions } from '../kv.js'
import { evenShare } from './cache/even-share.js'
import type { Method } from './method.js'
import { headList } from './options.js'

/** What `model.session` takes: how rows are stored, and which stay. */
export interface Preset {
  readonly kv: KvOptions
  readonly methods: readonly Method[]
}

export interface PresetOptions {
  /** The model's KV heads that fetch from afar, as [layer, KV head]: what `retrievalHeads(model)` gives. They keep every row, and in 'light' and 'balanced' finer keys; the others can do with less. */
  readonly heads?: readonly (readonly [layer: number, head: number])[]
}

type Heads = readonly (readonly number[])[]

const KV = { keys: 'kivi4', values: 'q4_0', recent: 16, fresh: 'q8_0' } as const

const presets: Readonly<Record<'light' | 'balanced' | 'small', (heads: Heads) => Preset>> = {
  light: (heads) => ({ kv: { ...KV, ...finer(heads) }, methods: [] }),
  balanced: (heads) => ({
    kv: { ...KV, ...finer(heads) },
    methods: [evenShare({ under: heads.length > 0 ? 0.5 : 0.25, heads })],
  }),
  small: (heads) => ({
    kv: { ...KV, recent: heads.length > 0 ? 0 : KV.recent },
    methods: [
      heads.length > 0 ? evenShare({ under: 2.25, recent: 0.06, heads }) : evenShare({ under: 0.75, recent: 0.125 }),
    ],
  }),
}

const option = headList('heads that fetch from afar')

/**
 * `model.session(methods.preset('balanced'))`, or with more options `model.session({ ...methods.preset('balanced'), contextLength })`. 'light' keeps every row in 4 bits, 'balanced'
 * drops those that hardly anything looks at too, and 'small' half of them and more. With `heads` they lose several times less: `methods.preset('small', { heads: await retrievalHeads(model) })`.
 */
export function preset(name: keyof typeof presets, options: PresetOptions = {}): Preset {
  if (typeof name !== 'string' || !Object.hasOwn(presets, name))
    throw typeError(`one of ${Object.keys(presets).join(', ')}`, 'preset', name)
  if (typeof options !== 'object' || options === null || Object.keys(options).some((key) => key !== 'heads'))
    throw typeError('{ heads }', 'options', options)
  const { kv, methods } = presets[name](option.parse(options.heads ?? [], 'heads'))
  return Object.freeze({ kv: Object.freeze(kv), methods: Object.freeze([...methods]) })
}

/** Keys of these heads in 8 bits: an error in one of them moves the whole attention of a head that looks at one row. */
function finer(heads: Heads): { except?: readonly KvException[] } {
  const layers = [...new Set(heads.map(([layer]) => layer as number))]
  const except = layers.map((layer) => {
    const own = heads.flatMap(([of, head]) => (of === layer ? [head as number] : []))
    return { layers: [layer, layer + 1] as const, heads: own, keys: 'q8_0' as const }
  })
  return except.length > 0 ? { except } : {}
}
