// The vision tower against what PyTorch makes of the same weights in float64 (test/fixtures/vision, models/vlm/fixtures.py).
import t, { type Test } from 'tap'
import { kernels } from '../lib/index.js'
import type { NativeGlance, VisionLook } from '../lib/native-vision.js'
import { cut, type Fixture, joined, loadFixture, meanOf, off } from './vision-fixture.js'

const ISAS = [...new Set(kernels.backends().map(({ isa }) => isa))]
const CASES = ['clip', 'siglip', 'embedded', 'linear']
const NEAR = 1e-3

/** What the block before has shown. */
function checkSeen(t: Test, { arrays, vision }: Fixture, glance: NativeGlance, layer: number): void {
  const { classToken, headSize, heads, side, width } = vision.config
  const classes = classToken ? 1 : 0
  const tokens = side * side + classes
  const of = (name: string, rows: number, size: number) =>
    cut(cut(arrays[name] as Float32Array, rows * size)[layer], size)
  const keys = of('keys', tokens, width).map((row) => meanOf(cut(row, headSize)))
  t.ok(off(glance.seen(layer, 'keys'), joined(...keys.slice(classes))) < NEAR, `keys of block ${layer}`)
  if (classToken) {
    const shares = meanOf(of('classAttention', heads, tokens))
    t.ok(off(glance.seen(layer, 'class'), shares.subarray(1)) < NEAR, `the class token's attention in block ${layer}`)
    // With no other rows, the logits are the logarithms of the shares but for one number.
    const logits = glance.seen(layer, 'classLogits')
    t.equal(logits.length, side * side)
    if (heads === 1) {
      const rest = logits.map((logit, i) => logit - Math.log(shares[i + 1] as number))
      t.ok(
        off(
          rest,
          rest.map(() => meanOf([rest.subarray(0, 1)])[0] as number),
        ) < NEAR,
      )
    }
  } else {
    const received = meanOf(of('attentionMean', heads, tokens))
    t.ok(off(glance.seen(layer, 'received'), received) < NEAR, `what rows of block ${layer} receive`)
  }
}

async function checkRun(t: Test, fixture: Fixture): Promise<void> {
  const { arrays, vision } = fixture
  const { classToken, layers, outputSize, pool, side, width } = vision.config
  const tokens = side * side + (classToken ? 1 : 0)
  const glance = vision.open(arrays.pixels as Float32Array, 1)
  t.same([...glance.rows()], [...Array(side * side).keys()])
  const states = cut(arrays.hidden as Float32Array, tokens * width)
  t.equal(states.length, layers + 1)
  const whats: VisionLook['what'][] = [
    'keys',
    'received',
    'given',
    'pairs',
    ...(classToken ? (['class', 'classLogits'] as const) : []),
  ]
  for (let layer = 0; layer <= layers; layer++) {
    await vision.advance(glance, 2 * layer, layer > 0 ? whats.map((what) => ({ layer: layer - 1, what })) : [])
    const expected = layer === layers ? arrays.features : states[layer]
    const got = joined(glance.classHidden(), glance.hidden())
    t.ok(off(got, expected as Float32Array) < NEAR, `rows before block ${layer}`)
    if (layer > 0) checkSeen(t, fixture, glance, layer - 1)
  }
  await vision.advance(glance, 2 * layers + 1, [])
  t.equal(glance.hidden().length, (side / pool) ** 2 * outputSize)
  t.ok(off(glance.hidden(), arrays.projected as Float32Array) < NEAR, 'projected')
  t.equal(glance.classHidden().length, 0)
  t.same([...glance.rows()], [...Array((side / pool) ** 2).keys()])
  glance.close()
}

for (const name of CASES) {
  for (const isa of ISAS) {
    t.test(`${name}, ${isa}: as PyTorch`, async (t) => await checkRun(t, await loadFixture(t, name, isa)))
  }
}
