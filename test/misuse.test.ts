// Misuse is one sentence: what was expected, for what, and what came; thrown at once by what is synchronous.
import t from 'tap'
import type { Session } from '../lib/index.js'
import { loadTiny } from './engine.js'

type Kind = typeof TypeError | typeof RangeError

const wrong: [unknown, Kind, string][] = [
  [{ maxTokens: -1 }, RangeError, 'maxTokens'],
  [{ maxTokens: 1.5 }, RangeError, 'maxTokens'],
  [{ maxTokens: '3' }, TypeError, 'maxTokens'],
  [{ temperature: -1 }, RangeError, 'temperature'],
  [{ temperature: Number.NaN }, RangeError, 'temperature'],
  [{ topK: 2.5 }, RangeError, 'topK'],
  [{ topP: 1.1 }, RangeError, 'topP'],
  [{ minP: -0.1 }, RangeError, 'minP'],
  [{ repeatPenalty: 0 }, RangeError, 'repeatPenalty'],
  [{ seed: -1 }, RangeError, 'seed'],
  [{ seed: 'x' }, TypeError, 'seed'],
  [{ stop: 'x' }, TypeError, 'stop'],
  [{ stop: [''] }, TypeError, 'stop'],
  [{ stop: [1] }, TypeError, 'stop'],
  [{ ignoreEnd: 1 }, TypeError, 'ignoreEnd'],
  [{ logprobs: 'yes' }, TypeError, 'logprobs'],
  [{ signal: {} }, TypeError, 'signal'],
  [{ maxToken: 3 }, TypeError, 'options'],
  [{ constructor: 3 }, TypeError, 'options'],
  [null, TypeError, 'options'],
  [[], TypeError, 'options'],
  ['fast', TypeError, 'options'],
]
const prompts: [unknown, Kind][] = [
  [42, TypeError],
  [undefined, TypeError],
  [{ text: 'x' }, TypeError],
  [[1, 2], TypeError],
  [[{ txt: 'x' }], TypeError],
  [[{ text: 'x', droppable: 1 }], TypeError],
  [[{ ids: ['1'] }], TypeError],
  [[{ ids: [1.5] }], RangeError],
  [[{ ids: [2 ** 32 + 5] }], RangeError],
  [Int32Array.of(272), RangeError],
  [Int32Array.of(-1), RangeError],
  [[{ role: 'user', content: 3 }], TypeError],
  [[{ role: 3, content: 'x' }], TypeError],
  [[{ role: 'user', content: [{ text: 3 }] }], TypeError],
  [[{ role: 'user', content: 'x' }, { text: 'y' }], TypeError],
]
const calls: [(session: Session) => Promise<unknown>, Kind][] = [
  [(session) => session.forward('x', { logits: 'some' as never }), TypeError],
  [(session) => session.forward('x', { rows: 3 } as never), TypeError],
  [(session) => session.score([1, 2] as never), TypeError],
  [(session) => session.hidden(Int32Array.of(3), { layer: 5 }), RangeError],
  [(session) => session.hidden(Int32Array.of(3), {} as never), TypeError],
  [(session) => session.hidden(Int32Array.of(3), undefined as never), TypeError],
  [(session) => session.hidden(new Int32Array(0), { layer: 1 }), RangeError],
  [(session) => session.attention(Int32Array.of(3), { layer: 4, rows: [0] }), RangeError],
  [(session) => session.attention(Int32Array.of(3), { layer: 0, rows: [1] }), RangeError],
  [(session) => session.attention(Int32Array.of(3), { layer: 0, rows: 'all' as never }), TypeError],
  [(session) => session.generate(''), RangeError],
]

t.test('options of a generation', async (t) => {
  const session = (await loadTiny(t)).model.session()
  for (const [options, kind, name] of wrong) {
    const error = { constructor: kind, message: new RegExp(`^Expected .+ for \`${name}\` but received `) }
    t.throws(() => session.stream('hello', options as never), error, JSON.stringify(options))
    await t.rejects(session.generate('hello', options as never), error)
  }
  t.equal(session.ids.length, 0)
})

t.test('prompts', async (t) => {
  const session = (await loadTiny(t)).model.session()
  for (const [prompt, kind] of prompts) {
    const error = { constructor: kind, message: /^Expected .+ for `prompt.*` but received / }
    t.throws(() => session.stream(prompt as never), error, JSON.stringify(prompt))
    await t.rejects(session.forward(prompt as never), error)
  }
  t.throws(() => session.stream([{ image: 'cat.png' }] as never), { code: 'ERR_UNSUPPORTED' })
  t.equal(session.ids.length, 0)
})

t.test('other calls', async (t) => {
  const session = (await loadTiny(t)).model.session()
  for (const [call, kind] of calls)
    await t.rejects(call(session), { constructor: kind, message: /^Expected .+ but received / })
  t.equal(session.ids.length, 0)
})
