import t from 'tap'
import { ERROR_CODES, expected, fromNative, rangeError, TokensieveError, typeError } from '../lib/errors.js'

t.test('misuse is one sentence', async (t) => {
  t.equal(expected('a string', 'text', 42), 'Expected a string for `text` but received 42')
  const received = (value: unknown) => expected('x', 'y', value).slice('Expected x for `y` but received '.length)
  t.equal(received('half'), '"half"')
  t.equal(received('a'.repeat(100)), `"${'a'.repeat(57)}…"`)
  t.equal(received(undefined), 'undefined')
  t.equal(received(null), 'null')
  t.equal(received(-0), '-0')
  t.equal(received(3n), '3n')
  t.equal(received(Symbol('s')), 'Symbol(s)')
  t.equal(received([1, 2]), 'an array of 2')
  t.equal(received(new Float32Array(2)), 'Float32Array of 8 bytes')
  t.equal(received(new Map()), 'an instance of Map')
  t.equal(received({}), 'an empty object')
  t.equal(received({ a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 }), 'an object with a, b, c, d, e, …')
  t.equal(received(Object.create(null)), 'an empty object')
  t.equal(
    received(function run() {}),
    'the function run',
  )
  t.equal(
    received(() => {}),
    'a function',
  )
  t.ok(typeError('a', 'b', 1) instanceof TypeError)
  t.ok(rangeError('a', 'b', 1) instanceof RangeError)
})

t.test('native failures become ours, with code, message and stack', async (t) => {
  const native = Object.assign(new Error('[rope] expected 4 heads, came 3'), { code: 'ERR_FILE_FORMAT' })
  const translated = fromNative(native) as TokensieveError
  t.ok(translated instanceof TokensieveError)
  t.match(translated, { name: 'TokensieveError', code: 'ERR_FILE_FORMAT', message: native.message })
  t.equal(translated.stack, native.stack?.replace('Error', 'TokensieveError'))
  for (const other of [
    new Error('x'),
    Object.assign(new Error('x'), { code: 'ENOENT' }),
    Object.assign(new Error('x'), { code: 'toString' }),
    translated,
    'text',
  ])
    t.equal(fromNative(other), other)
})

t.test('every code is explained', async (t) => {
  for (const [code, meaning] of Object.entries(ERROR_CODES))
    t.match(`${code} ${meaning}`, /^ERR_[A-Z_]+ [A-Z].*\.$|please report it\.$/)
  const cause = new Error('why')
  t.equal(new TokensieveError('ERR_PLAN', 'x', { cause }).cause, cause)
})
