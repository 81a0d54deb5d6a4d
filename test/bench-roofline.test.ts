// What a model asks of the machine, by numbers worked by hand.
import t from 'tap'
import {
  cacheBytesRead,
  cardRatesOf,
  decodeSeconds,
  exponents,
  type ModelWork,
  prefillSeconds,
  ratesOf,
  tokensByLayer,
  workOf,
} from '../lib/cli/bench/roofline.js'
import { patchesByPlace, towerSeconds, towerWorkOf } from '../lib/cli/bench/tower-work.js'
import type { PlanEntry } from '../lib/plan.js'

/** One layer of 64 → 32, then one that sees three rows; a head of 10 × 64 tied to the embedding. */
const config = { heads: 4, kvHeads: 2, headSize: 16, windows: [0, 3] }
const tensors = [
  { name: 'token_embd.weight', type: 'q8_0', shape: [10, 64] },
  { name: 'output_norm.weight', type: 'f32', shape: [64] },
  { name: 'blk.0.attn_q.weight', type: 'q4_0', shape: [32, 64] },
  { name: 'blk.0.attn_norm.weight', type: 'f32', shape: [64] },
  { name: 'blk.1.attn_q.weight', type: 'f16', shape: [32, 64] },
  { name: 'blk.1.ffn_up.weight', type: 'f32', shape: [2, 64] },
]
const work = workOf(config, tensors)
const rates = { int8: 1000, bf16: 100, f32: 10, read: 50, attention: 100 }
const f16 = { keys: 'f16', values: 'f16' } as const
const near = (a: number, b: number) => Math.abs(a - b) <= 1e-12 * Math.abs(b)

t.test('a model as operations and bytes', async (t) => {
  t.same(work.layers, [
    { int8: 2 * 2048, bf16: 0, f32: 0, bytes: (2048 / 32) * 18 + 256 },
    { int8: 0, bf16: 2 * 2048, f32: 2 * 128, bytes: 4096 + 512 },
  ])
  t.same(work.head, { int8: 2 * 640, bf16: 0, f32: 0, bytes: 20 * 34 })
  const untied = workOf(config, [...tensors, { name: 'output.weight', type: 'f16', shape: [10, 64] }])
  t.same(untied.head, { int8: 0, bf16: 1280, f32: 0, bytes: 1280 }, 'an embedding that is not the head is not read')
})

t.test('a prompt: weights at the peak of their arithmetic, attention over what each query sees', async (t) => {
  // Five tokens: 15 pairs in layer 0; 1 + 2 + 3 + 3 + 3 = 12 in layer 1. 4 · 4 heads · 16 = 256 operations a pair.
  const expected = 5 * (4096 / 1000 + 4096 / 100 + 256 / 10) + (256 * 15) / 100 + (256 * 12) / 100
  t.ok(
    near(
      prefillSeconds(work, () => 5, rates),
      expected,
    ),
  )
  // With three of them in layer 1: 6 pairs there.
  const dropped = 5 * (4096 / 1000) + (256 * 15) / 100 + 3 * (4096 / 100 + 256 / 10) + (256 * 6) / 100
  t.ok(
    near(
      prefillSeconds(work, (layer) => (layer === 0 ? 5 : 3), rates),
      dropped,
    ),
  )
  const bytes = work.layers.reduce((sum, layer) => sum + layer.bytes, 0)
  t.ok(
    near(
      prefillSeconds(work, () => 1, { ...rates, read: 1 }),
      bytes,
    ),
    'never faster than the weights are read',
  )
})

t.test('a decode step: every byte once, the weights once for all sessions', async (t) => {
  const weights = [...work.layers, work.head].reduce((sum, { bytes }) => sum + bytes, 0)
  // 7 rows in layer 0, its window of 3 in layer 1; 2 heads · 16 · (2 + 2) bytes a row.
  t.equal(
    cacheBytesRead(work, () => 7, f16),
    (7 + 3) * 128,
  )
  t.equal(
    cacheBytesRead(work, () => 7, { keys: 'q8_0', values: 'q4_0' }),
    10 * 2 * 16 * (34 / 32 + 18 / 32),
  )
  t.ok(
    near(
      decodeSeconds(work, () => 7, f16, rates),
      (weights + 1280) / 50,
    ),
  )
  const fast = { ...rates, read: 1e9 }
  const compute = (4096 + 1280) / 1000 + 4096 / 100 + 256 / 10
  t.ok(
    near(
      decodeSeconds(work, () => 7, f16, fast, 8),
      8 * compute,
    ),
    'eight sessions compute eight times as much',
  )
  t.ok(
    near(
      decodeSeconds(work, () => 7, f16, { ...rates, read: 1 }, 8),
      weights + 8 * 1280,
    ),
  )
})

t.test('shapes of a real model give the figures that are known of it', async (t) => {
  // SmolLM2-135M: 30 layers, 576 wide, 9 heads over 3 of 64, 1,536 in the MLP, 49,152 words; all in q8_0.
  const shape = { heads: 9, kvHeads: 3, headSize: 64, windows: Array(30).fill(0) }
  const matrices = (layer: number) =>
    Object.entries({ attn_q: [576, 576], attn_k: [192, 576], attn_v: [192, 576], attn_output: [576, 576] })
      .concat(Object.entries({ ffn_gate: [1536, 576], ffn_up: [1536, 576], ffn_down: [576, 1536] }))
      .map(([name, of]) => ({ name: `blk.${layer}.${name}.weight`, type: 'q8_0', shape: of }))
  const embedding = { name: 'token_embd.weight', type: 'q8_0', shape: [49152, 576] }
  const smol = workOf(shape, [embedding, ...shape.windows.flatMap((_, layer) => matrices(layer))])
  const peak = { int8: 934e9, bf16: 462e9, f32: 231e9, read: 34e9, attention: 462e9 }
  const linear = smol.layers.reduce((sum, { int8 }) => sum + int8, 0)
  t.equal(Math.round(linear / 1e5), 2123, '212.3 million operations a token')
  for (const [tokens, limit] of [
    [512, 3763],
    [2048, 2627],
    [8192, 1190],
  ] as const)
    t.equal(Math.round(tokens / prefillSeconds(smol, () => tokens, peak)), limit, `${tokens} tokens`)
  for (const [rows, kv, limit] of [
    [128, 'f16', 233],
    [8192, 'f16', 103],
    [8192, 'q8_0', 140],
    [8192, 'q4_0', 173],
  ] as const)
    t.equal(Math.round(1 / decodeSeconds(smol, () => rows, { keys: kv, values: kv }, peak)), limit, `${rows} ${kv}`)
  const saved = (tokens: number, from: number, keep: number) =>
    prefillSeconds(smol, () => tokens, peak) / prefillSeconds(smol, (l) => (l < from ? tokens : tokens * keep), peak)
  t.same(
    [saved(512, 3, 0.5), saved(2048, 3, 0.5), saved(2048, 8, 0.25)].map((x) => x.toFixed(2)),
    ['1.93', '2.18', '2.53'],
  )
  t.ok((smol as ModelWork).head.bytes > 30e6)
})

t.test('where a backend has no such arithmetic, f32 does the work', async (t) => {
  const rate = (median: number) => ({ median, best: 2 * median })
  const machine = { isa: 'x', threads: 2, read: rate(5), f32: rate(7) }
  t.same(ratesOf({ ...machine, int8: rate(9), bf16: null }), { int8: 9, bf16: 7, f32: 7, read: 5, attention: 7 })
  const wide = { ...machine, int8: null, bf16: rate(8) }
  t.same(ratesOf(wide), { int8: 7, bf16: 8, f32: 7, read: 5, attention: 8 })
  const dots = { ...machine, isa: 'avx512-vnni-bf16', int8: rate(9), bf16: rate(8) }
  t.equal(ratesOf(dots).attention, 9, 'attention of prompts is of int8 there')
  t.equal(cardRatesOf(dots).attention, 8)
})

t.test('a plan as tokens in each layer', async (t) => {
  const cut = (layer: number, before: number, after: number, action: PlanEntry['action'] = 'drop'): PlanEntry => ({
    phase: 'prefill',
    step: 0,
    layer,
    method: 'x',
    action,
    before,
    after,
  })
  t.same(tokensByLayer([], 9, 3), [9, 9, 9])
  t.same(tokensByLayer([cut(1, 9, 5), cut(3, 5, 2, 'merge'), cut(0, 9, 1, 'evict')], 9, 5), [9, 5, 5, 2, 2])
  const passing = (what: 'attention' | 'block') => ({ ...cut(2, 5, 3, 'pass'), what })
  t.same(tokensByLayer([cut(1, 9, 5), passing('block')], 9, 4), [9, 5, 3, 5], 'they come back')
  t.same(tokensByLayer([cut(1, 9, 5), passing('attention')], 9, 4), [9, 5, 5, 5], 'the MLP has them all')
})

t.test('exponents of growth', async (t) => {
  const [first, ...rest] = exponents([1, 2, 4, 16], [3, 6, 24, 24])
  t.ok(Number.isNaN(first))
  t.same(
    rest.map((x) => x.toFixed(6)),
    ['1.000000', '2.000000', '0.000000'],
  )
})

t.test('a tower: linear layers over its rows, pairs within a crop, what a plan left of them', (t) => {
  const shape = { classToken: true, heads: 2, headSize: 8, layers: 2, pool: 1, side: 3 }
  const tower = towerWorkOf(shape, [
    { name: 'v.patch_embd.weight', type: 'f16', shape: [16, 3, 2, 2] },
    { name: 'v.position_embd.weight', type: 'f32', shape: [10, 16] },
    { name: 'v.blk.0.attn_q.weight', type: 'q8_0', shape: [16, 32] },
    { name: 'v.blk.0.ln2.weight', type: 'f32', shape: [16] },
    { name: 'v.blk.1.ffn_up.weight', type: 'q8_0', shape: [32, 32] },
    { name: 'v.blk.2.ffn_up.weight', type: 'q8_0', shape: [32, 32] },
    { name: 'mm.0.weight', type: 'f16', shape: [8, 16] },
  ])
  t.same(tower.patches, { int8: 0, bf16: 384, f32: 0, bytes: 384 })
  t.same(tower.halves[0], { int8: 1024, bf16: 0, f32: 0, bytes: 16 * 34 })
  t.same(tower.halves[1], { int8: 0, bf16: 0, f32: 0, bytes: 64 })
  t.same(tower.halves[3], { int8: 2048, bf16: 0, f32: 0, bytes: 32 * 34 }, 'the third block does not run')
  t.same(tower.projector, { int8: 0, bf16: 256, f32: 0, bytes: 256 })
  const entry = { phase: 'vision', step: 0, method: 'm', before: 18, action: 'drop' } as const
  const plan: PlanEntry[] = [
    { ...entry, layer: 0, part: 'mlp', after: 12 },
    { ...entry, layer: 2, part: 'projector', after: 6 },
    { ...entry, phase: 'prefill', layer: 1, after: 3 },
  ]
  const left = patchesByPlace(plan, tower, 2)
  t.same(left, [18, 12, 12, 12, 6])
  t.same(patchesByPlace([], tower, 2), [18, 18, 18, 18, 18])
  // 2 crops, a class token each; 4 · 2 heads · 8 = 64 operations a pair: 2 · 10² before the first cut, 2 · 7² behind it.
  const expected =
    (18 * 384) / 100 + (20 * 1024) / 1000 + (64 * 200) / 100 + (64 * 98) / 100 + (14 * 2048) / 1000 + (6 * 256) / 100
  t.ok(near(towerSeconds(tower, left, 2, { ...rates, read: 1e9 }), expected))
  const bytes = 384 + 16 * 34 + 64 + 32 * 34 + 256
  t.ok(near(towerSeconds(tower, left, 2, { ...rates, read: 1 }), bytes), 'never less than reading the weights')
  t.end()
})
