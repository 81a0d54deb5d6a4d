// Other budgets by layer or head: a method with the same eyes and another purse.
import { type Budget, parseBudget } from '../../budget.js'
import { typeError } from '../../errors.js'
import { asMethod, type MethodLike, makeMethod } from '../define.js'
import type { KeepOf, Method } from '../method.js'

/** `(layer, head) => keep`, or a list of budgets; an entry may be a list by head. What is missing or undefined keeps the method's own budget. */
export type KeepTable = KeepOf | readonly (Budget | undefined | readonly (Budget | undefined)[])[]

/** The method with a budget for each layer: an array by layer, or `(layer, head) => keep`. */
export function perLayer(method: MethodLike, keepOf: KeepTable): Method {
  const inside = withBudget(method)
  return wrapped('perLayer', inside, parseTable(keepOf), (table, layer) => table[layer])
}

/** The cache method with a budget for each KV head: an array by head, one of arrays by layer and head, or `(layer, head) => keep`. */
export function perHead(method: MethodLike, keepOf: KeepTable): Method {
  const inside = withBudget(method)
  if (inside.acts !== 'cache') throw typeError('a method that acts on the cache', 'method', inside.label)
  return wrapped(
    'perHead',
    inside,
    parseTable(keepOf),
    (table, layer, head) => table[table.some(Array.isArray) ? layer : head],
  )
}

function withBudget(value: MethodLike): Method {
  const method = asMethod(value, 'method')
  if (method.withKeep === undefined) throw typeError('a method that takes `keep`', 'method', method.label)
  return method
}

type Table = Exclude<KeepTable, KeepOf>

function wrapped(
  name: string,
  inside: Method,
  keepOf: KeepTable,
  entry: (table: Table, layer: number, head: number) => Table[number],
): Method {
  const read: KeepOf = (layer, head) => {
    const found =
      typeof keepOf === 'function'
        ? parseEntry(keepOf(layer, head), `keepOf(${layer}, ${head})`)
        : entry(keepOf, layer, head)
    return Array.isArray(found) ? (found[head] as Budget | undefined) : (found as Budget | undefined)
  }
  const dressed = inside.withKeep?.(read) ?? inside
  const definition = {
    name,
    acts: inside.acts,
    label: () => `${name}(${inside.label})`,
    repack: inside.repack,
    ranking: () => inside.ranking,
    looks: dressed.looks,
    decide: (seen: Parameters<Method['decide']>[0]) =>
      dressed.decide(seen).map((decision) => ({ method: inside.label, ...decision })),
    takesKeep: true,
    withKeep: (_: unknown, other: KeepOf) => dressed.withKeep?.(other),
  }
  return makeMethod(definition, Object.freeze({ method: inside, keepOf }))
}

function parseTable(value: unknown): KeepTable {
  if (typeof value === 'function') return value as KeepOf
  if (!Array.isArray(value)) throw typeError('an array or a function of layer and head', 'keepOf', value)
  return Object.freeze(
    value.map((one, i) =>
      Array.isArray(one)
        ? Object.freeze(one.map((two, j) => parseEntry(two, `keepOf[${i}][${j}]`)))
        : parseEntry(one, `keepOf[${i}]`),
    ),
  )
}

function parseEntry(value: unknown, name: string): Budget | undefined {
  return value === undefined || value === null ? undefined : parseBudget(value, name)
}
