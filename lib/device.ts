// Which layers run where: what a user writes, brought into the form that native takes.
import { TokensieveError, typeError } from './errors.js'
import type { NativePlacement } from './native.js'

/**
 * 'auto': as many layers on cards as have room there, the rest on the processor. 'cuda': all on the first card,
 * 'cuda:1': on the second. A list: layers `[from, to)`, each once and in order.
 */
export type DeviceOption = string | readonly { readonly layers: readonly [number, number]; readonly device: string }[]

const EXPECTED = "'auto', 'cpu', 'cuda', 'cuda:<number>' or a list of { layers: [from, to], device }"

export function parseDevice(device: unknown): 'fit' | NativePlacement[] {
  if (device === 'auto') return 'fit'
  if (typeof device === 'string') return [{ from: 0, to: -1, card: cardOf(device) }]
  if (!Array.isArray(device) || device.length === 0) throw typeError(EXPECTED, 'device', device)
  return device.map((part: { layers?: unknown; device?: unknown } | null) => {
    const layers = part?.layers
    if (
      !Array.isArray(layers) ||
      layers.length !== 2 ||
      !layers.every((l) => Number.isInteger(l) && l >= 0 && l <= 1024)
    )
      throw typeError('layers as [from, to]', 'device', part)
    const [from, to] = layers as [number, number]
    return { from, to, card: cardOf(part?.device) }
  })
}

/** -1: the processor. */
function cardOf(name: unknown): number {
  if (typeof name !== 'string') throw typeError(EXPECTED, 'device', name)
  if (name === 'cpu') return -1
  const card = /^cuda(?::(\d+))?$/.exec(name)
  if (!card)
    throw new TokensieveError('ERR_DEVICE', `Expected ${EXPECTED} for \`device\` but received ${JSON.stringify(name)}`)
  return Number(card[1] ?? 0)
}
