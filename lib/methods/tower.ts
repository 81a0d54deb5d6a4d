// Where in a vision tower methods look: the order of its parts, and their names in sentences.
import { rangeError, typeError } from '../errors.js'
import type { Shape, VisionNeed, VisionPart, VisionShape, VisionWhat } from './method.js'

const PARTS: readonly VisionPart[] = ['attention', 'mlp', 'projector', 'decoder']
const WHATS: readonly VisionWhat[] = [
  'class',
  'classLogits',
  'received',
  'given',
  'keys',
  'keyCosines',
  'pairs',
  'cosines',
]

/** A place of the tower where the work stops: `part` comes next. */
export interface VisionStop {
  readonly layer: number
  readonly part: VisionPart
  readonly needs: readonly VisionNeed[]
}

/** Places in the order in which the work passes them: native's own numbers (see NativeVision). */
export function visionPlace({ layer, part }: { readonly layer: number; readonly part: VisionPart }): number {
  return 2 * layer + (part === 'mlp' || part === 'decoder' ? 1 : 0)
}

/** As in "the patches before …". */
export function partName({ layer, part }: { readonly layer: number; readonly part: VisionPart }): string {
  if (part === 'projector' || part === 'decoder') return `the ${part}`
  return `the ${part === 'mlp' ? 'MLP' : 'attention'} of block ${layer}`
}

/** A look into the tower in full; `layer` may be left out behind the last block. TypeError or RangeError where the tower has no such place or nothing like it to show. */
export function completeStop(
  { layer, needs = [], part }: { layer?: number; part: VisionPart; needs?: readonly VisionNeed[] },
  { vision }: Shape,
  name: string,
): VisionStop {
  if (!PARTS.includes(part)) throw typeError(`one of ${PARTS.join(', ')}`, `part of ${name}`, part)
  const tower = vision as VisionShape
  const behind = part === 'projector' || part === 'decoder'
  const [from, to] = behind ? [tower.layers, tower.layers] : [0, tower.layers - 1]
  const stop = { layer: layer ?? (behind ? tower.layers : Number.NaN), part, needs }
  checkBlock(stop.layer, from, to, name)
  if (tower.pool > 1 && (part !== 'decoder' || needs.some(({ what }) => what !== 'cosines'))) {
    const joined = `one that joins ${tower.pool} × ${tower.pool} patches: only what stands behind it can go`
    throw new RangeError(`Expected a projector of single patches for \`${name}\` but received ${joined}`)
  }
  for (const need of needs) checkNeed(need, stop, tower, name)
  return stop
}

function checkBlock(layer: number, from: number, to: number, name: string): void {
  if (!(Number.isInteger(layer) && layer >= from && layer <= to))
    throw rangeError(from === to ? `block ${to}` : `a block of the tower from ${from} to ${to}`, name, layer)
}

function checkNeed({ layer, what }: VisionNeed, stop: VisionStop, tower: VisionShape, name: string): void {
  if (!WHATS.includes(what)) throw typeError(`one of ${WHATS.join(', ')}`, `needs of ${name}`, what)
  // What comes before an MLP has seen the attention of its own block.
  const last = Math.min(tower.layers - 1, (visionPlace(stop) - 1) >> 1)
  const known =
    what === 'cosines' ? layer === stop.layer : layer >= 0 && layer <= last && (what !== 'keyCosines' || layer === last)
  if (!(Number.isInteger(layer) && known))
    throw rangeError(`a block that has run before ${partName(stop)}`, `needs of ${name}`, layer)
  if ((what === 'class' || what === 'classLogits') && !tower.classToken)
    throw new RangeError(`Expected a tower with a class token for \`${name}\` but received one without`)
}
