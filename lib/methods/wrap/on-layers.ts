// A method on some layers only.
import { rangeError, typeError } from '../../errors.js'
import { asMethod, type MethodLike, makeMethod } from '../define.js'
import { checkLayer } from '../grant.js'
import type { Decision, KeepOf, Look, Method, Shape } from '../method.js'

/** The method on layers [from, to): it looks and decides nowhere else. Of a method that acts in the tower these are blocks, and their number what comes behind them. */
export function onLayers(layers: readonly [number, number], method: MethodLike): Method {
  const range = parseRange(layers)
  const inside = asMethod(method, 'method')
  const has = (layer: number) => layer >= range[0] && layer < range[1]
  const inTower = inside.acts === 'vision'
  const definition = {
    name: 'onLayers',
    acts: inside.acts,
    label: () => `onLayers(${inside.label})`,
    repack: inside.repack,
    ranking: () => inside.ranking,
    looks(shape: Shape) {
      if (!inTower) checkLayer(range[1] - 1, 0, shape, 'layers')
      else if (shape.vision) checkLayer(range[1] - 1, 0, { layers: shape.vision.layers + 1 }, 'layers')
      return inside.looks(shape).flatMap((look) => ((look.at === 'vision') === inTower ? within(look, has) : [look]))
    },
    decide: (seen: Parameters<Method['decide']>[0]) =>
      inside
        .decide(seen)
        .flatMap((decision) =>
          isOfPatches(decision) !== inTower || has(decision.layer) ? [{ method: inside.label, ...decision }] : [],
        ),
    takesKeep: inside.withKeep !== undefined,
    withKeep(_: unknown, keepOf: KeepOf) {
      const other = inside.withKeep?.(keepOf)
      return other && onLayers(range, other)
    },
  }
  return makeMethod(definition, Object.freeze({ layers: range, method: inside }))
}

function parseRange(value: unknown): readonly [number, number] {
  if (!Array.isArray(value) || value.length !== 2 || !value.every((layer) => typeof layer === 'number'))
    throw typeError('[from, to]', 'layers', value)
  const [from, to] = value as [number, number]
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from < to))
    throw rangeError('ascending layers [from, to)', 'layers', `[${from}, ${to}]`)
  return Object.freeze([from, to] as const)
}

function isOfPatches({ action }: Decision): boolean {
  return action === 'dropPatches' || action === 'mergePatches'
}

function within(look: Look, has: (layer: number) => boolean): Look[] {
  if (look.at === 'session') return [look]
  if (look.at === 'layer' || look.at === 'vision') return has(look.layer) ? [look] : []
  const layers = look.layers.filter(has)
  return layers.length > 0 ? [{ ...look, layers }] : []
}
