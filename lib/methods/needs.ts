// What native has to observe so that every method of a session sees what it asked for.
import { conflict, type Part } from './conflicts.js'
import type { LayerNeed } from './method.js'

export interface Needs {
  /** Layer -> what is asked before it, each kind once. */
  readonly layers: ReadonlyMap<number, readonly LayerNeed[]>
  /** Layer -> newest rows of a call whose attention in that layer is kept. */
  readonly prompt: ReadonlyMap<number, number>
  readonly decode: ReadonlyMap<number, number>
  /** Layers whose attention mass is added up from the first call on. */
  readonly mass: ReadonlySet<number>
  /** Layer -> rows whose attention is probed before that layer runs, for a decision before the next one. */
  readonly probes: ReadonlyMap<number, number>
}

export function gatherNeeds(parts: readonly Part[]): Needs {
  const layers = layerNeeds(parts)
  const prompt = watched(parts, 'prompt')
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
  return { layers, prompt, decode: watched(parts, 'decode'), mass: massLayers(parts), probes }
}

function layerNeeds(parts: readonly Part[]): Map<number, LayerNeed[]> {
  const all = new Map<number, LayerNeed[]>()
  for (const { looks, method } of parts) {
    for (const look of looks) {
      if (look.at !== 'layer') continue
      const found = all.get(look.layer) ?? []
      all.set(look.layer, found)
      for (const need of look.needs) {
        const same = found.find(({ what }) => what === need.what)
        if (same === undefined) found.push(need)
        else if (JSON.stringify(same) !== JSON.stringify(need))
          throw twoWays(method.label, method.label, `before layer ${look.layer}`)
      }
    }
  }
  return all
}

function watched(parts: readonly Part[], at: 'prompt' | 'decode'): Map<number, number> {
  const rows = new Map<number, number>()
  const owners = new Map<number, string>()
  for (const { looks, method } of parts) {
    for (const look of looks) {
      const need = look.at === at ? look.needs.filter(({ what }) => what === 'attention') : []
      for (const { rows: wanted } of need as { rows: number }[]) {
        for (const layer of (look as { layers: readonly number[] }).layers) {
          if ((rows.get(layer) ?? wanted) !== wanted)
            throw twoWays(owners.get(layer) ?? '', method.label, `in layer ${layer}`)
          rows.set(layer, wanted)
          owners.set(layer, method.label)
        }
      }
    }
  }
  return rows
}

function massLayers(parts: readonly Part[]): Set<number> {
  const layers = new Set<number>()
  for (const { looks, standing } of parts) {
    for (const look of looks) {
      if (look.at !== 'prompt' && look.at !== 'decode') continue
      if (look.needs.some(({ what }) => what === 'columnSums')) for (const layer of look.layers) layers.add(layer)
    }
    for (const decision of standing)
      if (decision.action === 'rule' && decision.rule.kind === 'mass') layers.add(decision.layer)
  }
  return layers
}

function twoWays(a: string, b: string, where: string): Error {
  return conflict(a, b, `the number of rows whose attention is looked at ${where}`)
}
