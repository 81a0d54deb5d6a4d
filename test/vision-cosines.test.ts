// How alike patches are, as the native tower says it and as plain loops do.
import { test } from 'tap'
import { cropStarts } from '../lib/methods/gather.js'
import { apart } from './engine.js'
import { crop } from './methods/seen.js'
import { loadFixture } from './vision-fixture.js'

test('cosines of the patches of each crop, where the work stands', async (t) => {
  for (const [name, isa] of [
    ['clip', 'auto'],
    ['linear', 'auto'],
    ['embedded', 'reference'],
  ] as const) {
    const { vision } = await loadFixture(t, name, isa)
    const { config } = vision
    const pixels = Float32Array.from({ length: 2 * 3 * config.imageSize ** 2 }, (_, i) => Math.sin(i * 0.37))
    const glance = vision.open(pixels, 2)
    const places = [1, 2 * config.layers + 1]
    for (const place of places) {
      await vision.advance(glance, place, [])
      if (place === 1) await vision.apply(glance, { drop: glance.rows().filter((source) => source % 3 > 0) })
      const rows = glance.rows()
      const hidden = glance.hidden()
      const size = hidden.length / rows.length
      const starts = cropStarts(rows, [crop(config.side, config.side), crop(config.side, config.side)])
      const row = (i: number) => hidden.subarray(i * size, (i + 1) * size)
      const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, c) => sum + x * (b[c] as number), 0)
      const expected: number[] = []
      for (const c of [0, 1])
        for (let i = starts[c] as number; i < (starts[c + 1] as number); i++)
          for (let j = starts[c] as number; j < (starts[c + 1] as number); j++)
            expected.push(dot(row(i), row(j)) / Math.sqrt(dot(row(i), row(i)) * dot(row(j), row(j))))
      const got = await vision.cosines(glance)
      t.ok(apart(got, expected) < 2e-6, `${name}, ${isa}, place ${place}: ${apart(got, expected)}`)
    }
    glance.close()
  }
})
