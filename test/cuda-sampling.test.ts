// Sampling on emulated cards: what crosses to the host is as little as decides the token, and the token is that which all
// logits would give. Log-probabilities need all of them, so asking for these is the other way.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { GenerateOptions } from '../lib/sampling.js'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'
import { randomIds } from './numbers.js'

const real = process.env.TOKENSIEVE_CARDS === '1'
process.env.TOKENSIEVE_PREBUILD = fileURLToPath(new URL(real ? '..' : '../build/simt', import.meta.url))
const { load } = await import('../lib/index.js')

t.test('few candidates give the tokens of all logits', async (t) => {
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tinyModel({ layers: 1, headSize: 32 }))
  const model = await load(path, { device: 'cuda', threads: 1 })
  t.teardown(() => model.close())
  const ids = randomIds(4, 11)
  const run = async (sampling: GenerateOptions, logprobs: boolean) => {
    const session = model.session()
    await session.generate(ids, { maxTokens: 3, ignoreEnd: true, seed: 3, ...sampling, logprobs })
    return [...session.ids]
  }
  const wishes: GenerateOptions[] = [
    { temperature: 2, topK: 5 },
    { temperature: 2, topK: 20, topP: 0.8, minP: 0.05 },
    { temperature: 2, topK: 3, repeatPenalty: 1.5 },
    { repeatPenalty: 1.3 },
    { temperature: 2 },
  ]
  for (const sampling of wishes) t.same(await run(sampling, false), await run(sampling, true), JSON.stringify(sampling))

  const alone = await Promise.all(wishes.slice(0, 3).map((sampling) => run(sampling, true)))
  t.same(await Promise.all(wishes.slice(0, 3).map((sampling) => run(sampling, false))), alone, 'in one batch')
})
