// Whether two methods decide the same on the same rows.
import { isMethod, originOf } from './define.js'
import type { Method } from './method.js'

/** True where both are the same object, or are made by the same factories or wrappers with equal options. */
export function sameMethods(a: readonly Method[], b: readonly Method[]): boolean {
  return sameValue(a, b)
}

function sameValue(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true
  if (isMethod(a) && isMethod(b))
    return a.name === b.name && originOf(a) === originOf(b) && sameValue(a.options, b.options)
  if (!isPlain(a) || !isPlain(b) || isMethod(a) || isMethod(b) || Array.isArray(a) !== Array.isArray(b)) return false
  const keys = Object.keys(a)
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && sameValue(a[key], b[key]))
  )
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** Every method of these, those inside others too. */
export function* everyMethod(values: readonly unknown[]): Generator<Method> {
  for (const value of values) {
    if (isMethod(value)) {
      yield value
      yield* everyMethod(Object.values(value.options))
    } else if (Array.isArray(value)) yield* everyMethod(value)
  }
}
