// What the benchmark's prompts are made of.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { idsOf, prose } from '../lib/cli/bench/context.js'
import { load } from '../lib/index.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const folder = scratch(t)

t.test('the text is the guide and what follows, in sentences', async (t) => {
  const guide = readFileSync(new URL('../docs/guide.md', import.meta.url), 'utf8')
  const text = prose()
  t.ok(text.startsWith(guide.slice(0, guide.search(/^\|/m))))
  t.notMatch(text, /^\|/m)
  // 8,192 tokens and more without a repetition, by the vocabularies that there are: four letters a token.
  t.ok(text.length > 4 * 16384, String(text.length))
})

t.test('the begin token, then the text, and from its beginning again', async (t) => {
  const model = await load(writeGguf(join(folder, 'tiny.gguf'), tinyModel()))
  t.teardown(() => model.close())
  const { bos } = model.tokenizer
  const text = model.tokenizer.encode(prose(), { addSpecial: false })
  const begin = model.tokenizer.addBos ? [bos] : []
  const ids = idsOf(model, 'text')
  t.same([...ids(40)], [...begin, ...text.slice(0, 40 - begin.length)])
  t.same([...ids(10, 7)], [...begin, ...text.slice(7, 17 - begin.length)], 'another session')
  const round = ids(begin.length + text.length + 5)
  t.same([...round.slice(-5)], [...text.slice(0, 5)])
})

t.test('random ids: the same every time, none that is special', async (t) => {
  const model = { config: { vocabularySize: 1000 } } as Parameters<typeof idsOf>[0]
  const ids = idsOf(model, 'random')
  t.same(ids(50, 3), ids(53).slice(3))
  t.ok(ids(500).every((id) => id >= 300 && id < 1000))
  t.ok(new Set(ids(500)).size > 250)
})
