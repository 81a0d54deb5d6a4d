// Crops and their pixels, bit for bit those of the processors that the models come with (test/fixtures/pictures).
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { native } from '../lib/native.js'
import { bestResolution } from '../lib/vision/anyres.js'
import { allRows, type Grid, type Layout, NEWLINE } from '../lib/vision/layout.js'
import { normalise, onGround, resizer } from '../lib/vision/pixels.js'
import { type Processor, plansOf } from '../lib/vision/processor.js'
import { picture } from './pictures.js'
import { resample } from './resample.js'

interface Case {
  readonly kind: string
  readonly width: number
  readonly height: number
  readonly seed: number
  readonly crops: number
  readonly sha256: string
  readonly first: readonly number[]
}

const fixture = JSON.parse(readFileSync('test/fixtures/pictures/processors.json', 'utf8')) as {
  readonly size: number
  readonly mean: number[]
  readonly deviation: number[]
  readonly cases: readonly Case[]
  readonly resized: readonly (Case & { filter: 'bilinear'; to: [number, number] })[]
}
const { size } = fixture
const grid: Grid = { size, side: 4, rows: 4 }
const resolutions = [[size, 2 * size], [2 * size, size], [2 * size, 2 * size], [3 * size, size], [size, 3 * size]] as const // biome-ignore format: as the models write it
const processors: Record<string, Processor> = {
  crop: { kind: 'crop', filter: 'bicubic', shortest: size },
  square: { kind: 'square', filter: 'bicubic' },
  bilinear: { kind: 'square', filter: 'bilinear' },
  pad: { kind: 'pad', filter: 'bicubic', colour: fixture.mean.map((one) => Math.trunc(one * 255)) },
  anyres: { kind: 'anyres', filter: 'bicubic', resolutions },
  tiles: { kind: 'tiles', filter: 'lanczos', longest: 4 * size, split: true },
  whole: { kind: 'tiles', filter: 'lanczos', longest: 4 * size, split: false },
}
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

t.test('resizing is that of Pillow, in plain loops and native', async (t) => {
  for (const { filter, height, seed, sha256: expected, to, width } of fixture.resized) {
    const size = { width: to[0], height: to[1], filter }
    const { data } = picture(width, height, seed)
    const said = `${filter}: ${width} × ${height} to ${to}`
    t.equal(sha256(await resample(data, width, height, size)), expected, said)
    t.equal(sha256(await native().resample(data, width, height, size)), expected, said)
  }
})

for (const kind of Object.keys(processors)) {
  t.test(`${kind}: the pixels of the reference`, async (t) => {
    const processor = processors[kind] as Processor
    const { image } = plansOf(processor, grid)
    const resize = resizer((...given) => native().resample(...given), processor.filter)
    for (const one of fixture.cases.filter((each) => each.kind === kind)) {
      const { crops, first, height, seed, width } = one
      const bytes = await image.draw(picture(width, height, seed), resize)
      t.equal(image.layout(width, height).crops.length, crops, `${width} × ${height}: crops`)
      const pixels = normalise(bytes, size, fixture)
      const plane = size * size
      const at = [0, 1, 2].map((c) => pixels[(crops - 1) * 3 * plane + c * plane + 3 * size + 5])
      t.same(at, first, `${width} × ${height}`)
      t.equal(sha256(new Uint8Array(pixels.buffer)), one.sha256, `${width} × ${height}: every bit`)
    }
  })
}

const linesOf = ({ items }: Layout) =>
  items.map((item) => ('text' in item ? item.text : Array.from(item.rows).join(' ').replaceAll(` ${NEWLINE}`, ' /')))

t.test('the rows of a picture in tiles: thumbnail first, lines over all tiles, no padding', async (t) => {
  const { image } = plansOf(processors.anyres as Processor, { size, side: 2, rows: 2 })
  t.same(linesOf(image.layout(56, 56)), ['0 1 2 3', '4 5 8 9 / 6 7 10 11 / 12 13 16 17 / 14 15 18 19 /'])
  t.same(linesOf(image.layout(56, 28)), ['0 1 2 3', '4 5 8 9 / 6 7 10 11 /'])
  // 56 × 28 holds it; it is 56 × 14 there, one line of the two: half a line is padding above and below, and stays.
  t.same(linesOf(image.layout(80, 20)), ['0 1 2 3', '4 5 8 9 12 13 / 6 7 10 11 14 15 /'])
  t.equal(allRows(image.layout(20, 160)).length, 4 + 6, 'narrower than a patch: the ends of six lines are left')
  const tall = image.layout(1000, 1000)
  t.same(
    tall.crops.map(({ box, ...crop }) => [crop.kind, crop.row, crop.column, ...box]),
    [
      ['thumbnail', 0, 0, 0, 0, 1000, 1000],
      ['tile', 0, 0, 0, 0, 500, 500],
      ['tile', 0, 1, 500, 0, 1000, 500],
      ['tile', 1, 0, 0, 500, 500, 1000],
      ['tile', 1, 1, 500, 500, 1000, 1000],
    ],
  )
})

t.test('padding that fills whole lines of tiles is left out', async (t) => {
  const { image } = plansOf(
    { kind: 'anyres', filter: 'bicubic', resolutions: [[56, 56]] },
    { size: 28, side: 4, rows: 4 },
  )
  const rows = allRows(image.layout(56, 28))
  t.equal(rows.length, 16 + 4 * (8 + 1), 'of eight lines those four that the picture covers')
  t.same(
    [...rows.subarray(16, 25)],
    [24, 25, 26, 27, 40, 41, 42, 43, NEWLINE],
    'from the third line of the upper tiles',
  )
  t.equal(allRows(image.layout(28, 56)).length, 16 + 8 * (4 + 1))
})

t.test('the best resolution holds most and wastes least', async (t) => {
  const of = (width: number, height: number) => bestResolution(width, height, resolutions)
  t.same(of(100, 100), [56, 56])
  t.same(of(28, 28), [28, 56], 'of equals the first')
  t.same(of(90, 20), [28, 84])
  t.same(of(20, 90), [84, 28])
})

t.test('tiles with markers between', async (t) => {
  const { frame, image } = plansOf(processors.tiles as Processor, { size, side: 2, rows: 1 })
  const around = '<fake_token_around_image>'
  t.same(linesOf(image.layout(100, 50)), [
    ...['1_col_1', '1_col_2', '1_col_3', '1_col_4'].flatMap((at, i) => [`${around}<row_${at}>`, `${i}`]),
    ...['2_col_1', '2_col_2', '2_col_3', '2_col_4'].flatMap((at, i) => [
      `${i === 0 ? '\n' : ''}${around}<row_${at}>`,
      `${i + 4}`,
    ]),
    `\n\n${around}<global-img>`,
    '8',
    around,
  ])
  t.same(linesOf(frame.layout(100, 50)), [`${around}<global-img>`, '0', around])
})

t.test('pictures as narrow as a hair', async (t) => {
  for (const [kind, processor] of Object.entries(processors)) {
    const { image } = plansOf(processor, grid)
    const resize = resizer(resample, processor.filter)
    for (const [width, height] of [
      [1, 1],
      [1, 500],
      [500, 1],
      [2, 3],
    ] as const) {
      // biome-ignore format: pairs
      const { crops } = image.layout(width, height)
      const drawn = await image.draw(picture(width, height, 1), resize)
      t.equal(drawn.length, crops.length * size * size * 3, `${kind}: ${width} × ${height}`)
    }
  }
  const crop = plansOf(processors.crop as Processor, grid).image
  t.throws(() => crop.layout(1, 50_000_000), { code: 'ERR_UNSUPPORTED', message: /as long and narrow as 1 × 50000000/ })
  const pad = plansOf(processors.pad as Processor, grid).image
  const long = { data: new Uint8Array(3 * 20_000), width: 20_000, height: 1 }
  t.equal((await pad.draw(long, resizer(resample, 'bicubic'))).length, size * size * 3, 'a square of it would not fit')
})

t.test('a large picture is padded in pieces: the event loop turns between them', async (t) => {
  const [width, height] = [1500, 3000]
  let turns = 0
  const count = () => {
    turns++
    next = setImmediate(count)
  }
  let next = setImmediate(count)
  const data = new Uint8Array(width * height * 3).fill(200)
  const out = await onGround({ data, width, height }, { width: height, height, left: 750, top: 0, colour: [1, 2, 3] })
  clearImmediate(next)
  t.ok(turns >= 10, `${turns} turns for 27 MB`)
  const at = (x: number, y: number) => [...out.data.subarray((y * height + x) * 3, (y * height + x) * 3 + 3)]
  t.same(
    [at(749, 2999), at(750, 0), at(2249, 1500), at(2250, 0)],
    [
      [1, 2, 3],
      [200, 200, 200],
      [200, 200, 200],
      [1, 2, 3],
    ],
  )
})
