// How a cache is stored, as one word for command lines and tables: KEYS/VALUES, options behind colons, exceptions behind @.
//   q4_0    kivi4/q4_0:recent=64    kivi4/q4_0@0..2=q8_0@-1=f16    q4_0@0..2#1=q8_0/@#0+2=:rotate=false
// (of layers 0 and 1 all heads, the last layer, keys alone of head 1 in layers 0 and 1, heads 0 and 2 of all layers)
import { typeError } from './errors.js'
import { type HeadKvOptions, type KvException, type KvGiven, type KvTypes, parseKv } from './kv.js'

/** TypeError or RangeError where the text says none. */
export function parseKvText(text: string): KvGiven {
  const [base = '', ...more] = text.split('@')
  const except = more.map((part) => {
    const found = /^([^=#]*)(?:#([\d+]+))?=(.*)$/.exec(part)
    if (!found) throw typeError('KEYS/VALUES, and LAYERS=KEYS/VALUES behind each @,', 'kv', text)
    const [, layers = '', heads, types = ''] = found
    const place = {
      ...(layers && { layers: layersOf(layers, text) }),
      ...(heads && { heads: heads.split('+').map(Number) }),
    }
    return { ...place, ...headOf(types, text) }
  })
  return parseKv({ ...headOf(base, text), ...(except.length > 0 && { except }) })
}

/** '0..2', '-2..' or '5', one layer. */
function layersOf(layers: string, text: string): number[] {
  const found = /^(-?\d+)(?:(\.\.)(-?\d+)?)?$/.exec(layers)
  if (!found) throw typeError('layers such as 0..2, -2.. or 5', 'kv', text)
  const [, from, range, to] = found
  if (range) return to === undefined ? [Number(from)] : [Number(from), Number(to)]
  return from === '-1' ? [-1] : [Number(from), Number(from) + 1]
}

function headOf(text: string, whole: string): HeadKvOptions {
  const [types = '', ...options] = text.split(':')
  const [keys, values = keys, ...more] = types.split('/')
  if (more.length > 0) throw typeError('KEYS/VALUES', 'kv', whole)
  const given = options.map((option) => {
    const [name = '', value = ''] = option.split('=')
    const flag = value === 'true' ? true : value === 'false' ? false : undefined
    if (value === '') throw typeError('NAME=VALUE behind each colon', 'kv', whole)
    return [name, flag ?? (Number.isNaN(Number(value)) ? value : Number(value))] as const
  })
  return { ...(keys && { keys }), ...(values && { values }), ...Object.fromEntries(given) } as HeadKvOptions
}

/** What parseKvText reads as the same. */
export function kvText(types: KvTypes): string {
  if (typeof types === 'string') return types
  const { except = [], keys = 'f16', values = 'f16', ...more } = types
  return textOf({ keys, values, ...more }) + except.map(exceptionText).join('')
}

function exceptionText({ heads, keys, layers, values, ...more }: KvException): string {
  const [from, to] = layers ?? []
  const range = from === undefined ? '' : to === from + 1 ? `${from}` : `${from}..${to ?? ''}`
  return `@${range}${heads ? `#${heads.join('+')}` : ''}=${textOf({ keys, values, ...more })}`
}

function textOf({ keys, values, ...more }: HeadKvOptions): string {
  const types = keys === values ? (keys ?? '') : `${keys ?? ''}/${values ?? ''}`
  const said = Object.entries(more).filter(([, value]) => value !== undefined)
  return types + said.map(([name, value]) => `:${name}=${value}`).join('')
}
