// Pictures to another size, byte for byte what Pillow makes of them (test/fixtures/vision/resample.py).
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { native } from '../lib/native.js'
import { raised } from './engine.js'

interface Case {
  size: [number, number]
  to: [number, number]
  filter: 'bilinear' | 'bicubic' | 'lanczos'
  box?: number[]
  sha256: string
}
const file = new URL('fixtures/vision/resample.json', import.meta.url)
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: Case[] }

/** Ramps, sharp edges and noise, as resample.py has them. */
function picture(width: number, height: number): Uint8Array {
  return Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const kind = Math.floor(i / 300) % 3
    return kind === 0 ? Math.imul(i, 2654435761) >>> 24 : kind === 1 ? (Math.floor(i / 21) % 2) * 255 : i % 256
  })
}

t.test('as Pillow', async (t) => {
  t.ok(cases.length > 30)
  for (const { size, to, filter, box, sha256 } of cases) {
    const [width, height] = to
    const asked = { width, height, filter, ...(box && { box }) }
    const out = await native().resample(picture(...size), ...size, asked)
    t.equal(out.length, width * height * 3)
    t.equal(createHash('sha256').update(out).digest('hex'), sha256, `${size} to ${to} ${filter} ${box ?? ''}`)
  }
})

t.test('what is handed in is not copied: it lives until it is done, whoever forgets it', async (t) => {
  const to = { width: 24, height: 24, filter: 'bilinear' } as const
  const begin = () => native().resample(picture(2048, 1536), 2048, 1536, to)
  const expected = await begin()
  const many = Array.from({ length: 4 }, begin)
  for (let i = 0; i < 8; i++) t.equal(new Uint8Array(2 ** 24).fill(i)[5], i) // the collector has reason to run
  for (const made of await Promise.all(many)) t.same(made, expected)
})

t.test('what does not fit', async (t) => {
  const to = { width: 4, height: 4, filter: 'bicubic' } as const
  const of = (pixels: Uint8Array, width: number, height: number, more = {}) =>
    raised(async () => await native().resample(pixels, width, height, { ...to, ...more }))
  const pixels = new Uint8Array(6 * 5 * 3)
  t.match(await of(pixels, 6, 6), { name: 'TypeError', message: /three bytes/ })
  t.match(await of(pixels, 0, 5), { name: 'TypeError' })
  t.match(await of(pixels, 6, 5, { width: 0 }), { name: 'TypeError' })
  t.match(await of(pixels, 6, 5, { filter: 'nearest' }), { name: 'TypeError' })
  for (const box of [
    [0, 0, 7, 5],
    [-1, 0, 6, 5],
    [3, 0, 3, 5],
    [0, 0, Number.NaN, 5],
  ]) {
    t.match(await of(pixels, 6, 5, { box }), { code: 'ERR_PLAN', message: /inside the picture of 6 x 5/ }, `${box}`)
  }
})
