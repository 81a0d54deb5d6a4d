// Prefix reuse under methods: what they decided on is taken whole or not at all; what they only watch is computed.
import t from 'tap'
import { defineMethod, methods, type Session, type SessionOptions } from '../lib/index.js'
import { Prefix, Prefixes } from '../lib/prefix.js'
import type { Scheduler } from '../lib/scheduler.js'
import { loadTiny } from './engine.js'
import type { TinyOptions } from './model-fixture.js'
import { randomIds } from './numbers.js'
import { agree, alone, one, outcome, system, two } from './outcome.js'

const models: Record<string, TinyOptions> = {
  llama: { headSize: 32 },
  gemma3: { architecture: 'gemma3' },
}

const deciding: Record<string, SessionOptions> = {
  snapkv: { methods: [methods.snapkv({ keep: 0.3 })] },
  'h2o, rolling': { methods: [methods.h2o({ keep: { tokens: 30 } })] },
  'streamingLlm, rolling and renumbered': { methods: [methods.streamingLlm({ keep: { tokens: 40 } })] },
  'fastv and random, traced': { methods: [methods.fastv({ keep: 0.5 }), methods.random({ keep: 0.4 })], trace: true },
  tome: { methods: [methods.tome({ layers: [1] })] },
  'adaKv, kivi4': { methods: [methods.every(3, methods.adaKv({ keep: 0.4 }))], kv: 'kivi4' },
  'by head': { methods: [methods.perHead(methods.h2o({ every: 0 }), (layer, head) => (layer + 1 + head) / 10)] },
}

for (const [name, kind] of Object.entries(models)) {
  t.test(`${name}: a prompt that a method has thinned is taken whole by sessions of equal methods`, async (t) => {
    const { model } = await loadTiny(t, kind)
    const parts = (ids: Int32Array) => [
      { ids: ids.subarray(0, 80), droppable: true },
      { ids: ids.subarray(80), droppable: false },
    ]
    for (const [said, options] of Object.entries(deciding)) {
      const expected = await alone(model, options, parts(one))
      const giver = model.session(options)
      agree(t, await outcome(giver, parts(one)), expected, `${said}, the giver`)
      const same = model.session(options)
      const next = model.session(options)
      agree(t, await outcome(same, parts(one)), expected, `${said}, what the giver had at the prompt's end`)
      t.match(same.stats.prompt, { tokens: 120 + 9 + 9, cached: 120 }, said)
      await giver.close()
      agree(t, await outcome(next, parts(one)), expected, `${said}, from the one that took it`)
      const other = model.session(options)
      agree(t, await outcome(other, parts(two)), await alone(model, options, parts(two)), `${said}, another prompt`)
      t.equal(other.stats.prompt.cached, 0, `${said}: a longer prompt is not what was decided on`)
      await Promise.all([same.close(), next.close(), other.close()])
    }
  })
}

t.test('methods are equal where all of their options are', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  const cached = async (options: SessionOptions, prompt: Parameters<Session['forward']>[0] = one) => {
    const session = model.session(options)
    await session.forward(prompt, { logits: 'none' })
    const { cached } = session.stats.prompt
    await session.close()
    return cached
  }
  const keepOf = () => 0.3
  const snapkv = (options: object) => ({ methods: [methods.snapkv({ keep: 0.3, ...options })] })
  const givers: SessionOptions[] = [
    snapkv({ window: 16 }),
    { methods: [methods.chain(methods.snapkv({ keep: 0.8 }), methods.onLayers([0, 2], methods.h2o()))] },
    { methods: [methods.perLayer(methods.snapkv(), keepOf)] },
  ]
  const open = givers.map((options) => model.session(options))
  for (const giver of open) await giver.forward(one, { logits: 'none' })
  t.equal(await cached(snapkv({ window: 16 })), 120, 'made twice')
  t.equal(await cached(givers[1] as SessionOptions), 120)
  t.equal(await cached({ methods: [methods.perLayer(methods.snapkv(), keepOf)] }), 120, 'one function')
  t.equal(await cached(snapkv({ window: 16 }), [{ ids: one, droppable: true }]), 0, 'marked otherwise')
  t.equal(await cached(snapkv({ window: 8 })), 0)
  t.equal(await cached({ ...snapkv({ window: 16 }), trace: true }), 0)
  t.equal(await cached({ ...snapkv({ window: 16 }), kv: 'q8_0' }), 0)
  t.equal(await cached({ methods: [methods.chain(methods.snapkv({ keep: 0.8 }), methods.h2o())] }), 0)
  t.equal(await cached({ methods: [methods.perLayer(methods.snapkv(), () => 0.3)] }), 0, 'another function')
  const said = async (options: SessionOptions) => {
    const session = model.session(options)
    const { ids, logprobs, stats } = await session.generate(one, {
      maxTokens: 9,
      temperature: 1,
      seed: 4,
      logprobs: true,
    })
    await session.close()
    return { ids, logprobs, cached: stats.prompt.cached }
  }
  t.same(await said(snapkv({ window: 16 })), {
    ...(await said({ ...snapkv({ window: 16 }), reuse: false })),
    cached: 120,
  })
  const changed = methods.snapkv({ keep: 0.3, window: 16 }).withKeep?.(() => 0.9)
  t.equal(await cached({ methods: changed ? [changed] : [] }), 0, 'budgets from outside')
  await Promise.all(open.map((giver) => giver.close()))
})

t.test('a method of one’s own decides every time, on rows that were taken', async (t) => {
  const { model } = await loadTiny(t, { headSize: 32 })
  let asked = 0
  const half = defineMethod({
    name: 'snapkv',
    acts: 'cache',
    looks: { at: 'prompt', needs: [{ what: 'attention', rows: 12 }] },
    decide: (seen) => {
      if (seen.at !== 'prompt') return null
      asked++
      const mass = [0, 1].map((head) => seen.attention(head))
      const kept = (head: number) => seen.sources(head).filter((_, i) => i % 2 === 0 || (mass[head]?.[i] ?? 0) > 0.2)
      return { action: 'evict', layer: seen.layer, keptPerHead: [0, 1].map(kept) }
    },
  })
  const expected = await alone(model, { methods: [half()] }, two)
  const plain = model.session()
  await plain.forward(system, { logits: 'none' })
  for (let round = 0; round < 2; round++) {
    asked = 0
    const session = model.session({ methods: [half()] })
    agree(t, await outcome(session, two), expected, `round ${round}`)
    t.equal(session.stats.prompt.cached, 100)
    t.equal(asked, 4 * 3, 'layers and prompts')
  }
})

t.test('what is held for others goes when memory is needed, the least recently used first', async (t) => {
  const closed: string[] = []
  const all = new Prefixes()
  const scheduler = { job: (work: () => Promise<unknown>) => work() } as unknown as Scheduler
  const prefixOf = (name: string, fork: (() => object) | undefined) => {
    const held = { stats: () => ({ bytes: 100 }), close: () => void closed.push(name) }
    const native = { fork: fork ?? (() => held), firstRows: () => 0, take: () => {}, giveBack: () => {} }
    const schedule = { cuts: [1], cacheLayers: () => [], observations: () => [], repack: false, vision: [] }
    const kv = { keys: 'f16', values: 'f16' }
    const settings = { reuse: true, methods: [], standing: [], trace: false, kv, shape: { windows: [0] }, schedule }
    return new Prefix(all, { native, settings, memory: { ids: [], prompted: 0 } } as never)
  }
  const tokens = (seed: number) => ({ ids: randomIds(40, seed), droppable: new Int32Array(0), pictures: [] })
  const held = ['a', 'b', 'c'].map((name) => prefixOf(name, undefined))
  for (const [i, prefix] of held.entries()) prefix.keepWhole(tokens(i), [])
  const take = (seed: number) =>
    prefixOf('taker', undefined).first(tokens(seed), undefined, scheduler, async (taken) => taken.tokens)
  t.equal(await take(0), 40, 'whole')
  t.equal(all.shrink(250), true)
  t.same(closed, ['b'], 'a was used since')
  t.same(await Promise.all([take(0), take(1), take(2)]), [40, 0, 40])
  t.equal(all.shrink(0), true)
  t.same([...closed].sort(), ['a', 'b', 'c'])
  t.equal(all.shrink(0), false, 'nothing is left')
  const full = () => {
    throw Object.assign(new Error('full'), { code: 'ERR_OUT_OF_MEMORY' })
  }
  prefixOf('d', full).keepWhole(tokens(0), [])
  t.equal(await take(0), 0, 'without memory nothing is kept, and nobody is told')
})
