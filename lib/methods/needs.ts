// What native has to observe so that every method of a session sees what it asked for.
import { conflict, type Part } from './conflicts.js'
import type { CacheNeed, LayerNeed, VisionNeed } from './method.js'
import { type VisionStop, visionPlace } from './tower.js'

type Call = 'prompt' | 'decode'

export interface Needs {
  /** Layer -> what is asked before it, each kind once. */
  readonly layers: ReadonlyMap<number, readonly LayerNeed[]>
  /** Layer -> newest rows of a call whose attention in that layer is kept. */
  readonly prompt: ReadonlyMap<number, number>
  readonly decode: ReadonlyMap<number, number>
  /** Layer -> how far its attention is foretold. */
  readonly expected: Readonly<Record<Call, ReadonlyMap<number, { readonly ahead: number; readonly skip: number }>>>
  /** Layers whose key norms are noted. */
  readonly norms: Readonly<Record<Call, ReadonlySet<number>>>
  /** Layers whose attention mass is added up from the first call on -> the KV heads whose mass nobody asks for. */
  readonly mass: ReadonlyMap<number, readonly number[]>
  /** Layer -> rows whose attention is probed before that layer runs, for a decision before the next one. */
  readonly probes: ReadonlyMap<number, number>
  /** Where the work in the tower stops, in order. */
  readonly vision: readonly VisionStop[]
}

export function gatherNeeds(parts: readonly Part[]): Needs {
  const layers = layerNeeds(parts)
  const prompt = rowsWatched(parts, 'prompt')
  const probes = new Map<number, number>()
  for (const [layer, needs] of layers) {
    for (const need of needs) {
      if (need.what !== 'attention' || need.of !== 'before') continue
      // Native sums the rows that it looks at, so a layer can be looked at in one way; another number of rows is probed.
      const known = prompt.get(layer - 1) ?? need.rows
      if (known === need.rows) prompt.set(layer - 1, need.rows)
      else probes.set(layer - 1, need.rows)
    }
  }
  const expected = { prompt: watched(parts, 'prompt', 'expected'), decode: watched(parts, 'decode', 'expected') }
  return {
    layers,
    prompt,
    decode: rowsWatched(parts, 'decode'),
    expected,
    norms: { prompt: normedLayers(parts, 'prompt'), decode: normedLayers(parts, 'decode') },
    mass: massLayers(parts),
    probes,
    vision: visionStops(parts),
  }
}

function visionStops(parts: readonly Part[]): VisionStop[] {
  const stops = new Map<number, VisionStop & { needs: VisionNeed[] }>()
  for (const look of parts.flatMap(({ looks }) => looks)) {
    if (look.at !== 'vision') continue
    const { layer, part } = look
    const stop = stops.get(visionPlace(look)) ?? { layer, part, needs: [] }
    stops.set(visionPlace(look), stop)
    for (const need of look.needs) {
      const known = stop.needs.some((one) => one.what === need.what && one.layer === need.layer)
      if (!known) stop.needs.push(need)
    }
  }
  return [...stops].sort(([a], [b]) => a - b).map(([, stop]) => stop)
}

function layerNeeds(parts: readonly Part[]): Map<number, LayerNeed[]> {
  const all = new Map<number, LayerNeed[]>()
  const lookers = new Map<number, number>()
  for (const { looks, method } of parts) {
    for (const look of looks) {
      if (look.at !== 'layer') continue
      const found = all.get(look.layer) ?? []
      all.set(look.layer, found)
      lookers.set(look.layer, (lookers.get(look.layer) ?? 0) + 1)
      for (const need of look.needs) {
        const same = found.find(({ what }) => what === need.what)
        if (same === undefined) found.push(need)
        else if (JSON.stringify(same) !== JSON.stringify(need))
          throw twoWays(method.label, method.label, `before layer ${look.layer}`)
      }
    }
  }
  // Whoever comes second finds other rows, whose partners are not native's: the keys tell.
  for (const [layer, needs] of all) {
    const asked = (what: LayerNeed['what']) => needs.some((need) => need.what === what)
    if ((lookers.get(layer) ?? 0) > 1 && asked('partners') && !asked('keys')) needs.push({ what: 'keys' })
  }
  return all
}

type Asked<W extends CacheNeed['what']> = CacheNeed & { what: W }

/** Layer -> what is asked of it. Native observes a layer in one way. */
function watched<W extends CacheNeed['what']>(parts: readonly Part[], at: Call, what: W): Map<number, Asked<W>> {
  const found = new Map<number, Asked<W>>()
  const owners = new Map<number, string>()
  for (const { looks, method } of parts) {
    for (const look of looks) {
      if (look.at !== at) continue
      for (const need of look.needs.filter((one): one is Asked<W> => one.what === what)) {
        for (const layer of look.layers) {
          if (JSON.stringify(found.get(layer) ?? need) !== JSON.stringify(need))
            throw twoWays(owners.get(layer) ?? '', method.label, `in layer ${layer}`)
          found.set(layer, need)
          owners.set(layer, method.label)
        }
      }
    }
  }
  return found
}

function rowsWatched(parts: readonly Part[], at: Call): Map<number, number> {
  return new Map([...watched(parts, at, 'attention')].map(([layer, { rows }]) => [layer, rows]))
}

function normedLayers(parts: readonly Part[], at: Call): Set<number> {
  return new Set(watched(parts, at, 'keyNorms').keys())
}

function massLayers(parts: readonly Part[]): Map<number, readonly number[]> {
  const layers = new Map<number, readonly number[]>()
  const add = (layer: number, but: readonly number[]) =>
    layers.set(
      layer,
      but.filter((head) => layers.get(layer)?.includes(head) ?? true),
    )
  for (const { looks, standing } of parts) {
    for (const look of looks) {
      if (look.at !== 'prompt' && look.at !== 'decode') continue
      for (const need of look.needs) {
        if (need.what !== 'columnSums') continue
        for (const layer of look.layers)
          add(
            layer,
            (need.except ?? []).flatMap(([of, head]) => (of === layer ? [head as number] : [])),
          )
      }
    }
    for (const decision of standing)
      if (decision.action === 'rule' && (decision.rule.kind === 'mass' || decision.rule.maxDropped !== undefined))
        add(decision.layer, [])
  }
  return layers
}

function twoWays(a: string, b: string, where: string): Error {
  return conflict(a, b, `the number of rows whose attention is looked at, or expected, ${where}`)
}
