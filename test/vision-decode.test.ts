// Files to pixels: upright, RGB; what is no picture is one sentence. The pictures are drawn by formula and written by sharp.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { openImage, openVideo } from '../lib/vision/decode.js'
import type { ImageGiven } from '../lib/vision/image.js'
import { raised } from './engine.js'
import { scratch } from './model-fixture.js'
import { picture } from './pictures.js'

const drawn = picture(23, 14, 5)
const raw = { width: drawn.width, height: drawn.height, channels: 3 as const }
const draw = () => sharp(drawn.data, { raw })
const pixelsOf = async (image: ImageGiven) => (await openImage(image)).pixels()
const hex = ({ data }: { readonly data: Uint8Array }) => Buffer.from(data).toString('hex')

t.test('formats without loss give every pixel, from a path and from bytes', async (t) => {
  const folder = scratch(t)
  for (const format of ['png', 'webp', 'tiff', 'avif'] as const) {
    const bytes = await draw()
      .toFormat(format, { lossless: true, compression: format === 'tiff' ? 'lzw' : 'av1' } as object)
      .toBuffer()
    const path = join(folder, `picture.${format}`)
    writeFileSync(path, bytes)
    for (const image of [bytes, path]) {
      const made = await pixelsOf(image)
      t.match(made, { width: 23, height: 14 }, format)
      if (format !== 'avif') t.equal(hex(made), hex(drawn), format)
    }
  }
  writeFileSync(join(folder, 'picture.jpg'), await draw().png().toBuffer())
  t.equal(hex(await pixelsOf(join(folder, 'picture.jpg'))), hex(drawn), 'a PNG by the name of a JPEG')
  const jpeg = await pixelsOf(await draw().jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer())
  const apart = jpeg.data.reduce((most, value, i) => Math.max(most, Math.abs(value - drawn.data[i]!)), 0)
  t.ok(apart < 12, `JPEG: ${apart}`)
})

t.test('raw pixels: grey becomes RGB, what is transparent shows white', async (t) => {
  t.same(
    [...(await pixelsOf({ data: Uint8Array.of(7, 9), width: 2, height: 1, channels: 1 })).data],
    [7, 7, 7, 9, 9, 9],
  )
  const clear = Uint8ClampedArray.of(10, 20, 30, 255, 10, 20, 30, 0, 100, 0, 200, 128)
  const made = await pixelsOf({ data: clear, width: 3, height: 1, channels: 4 })
  t.same([...made.data], [10, 20, 30, 255, 255, 255, 177, 127, 227])
  t.equal((await pixelsOf({ ...drawn })).data.length, drawn.data.length)
})

t.test('files of other kinds of pixels', async (t) => {
  const one = { width: 1, height: 1, channels: 4 as const }
  const half = await sharp(Uint8Array.of(100, 0, 200, 128), { raw: one })
    .png()
    .toBuffer()
  t.same([...(await pixelsOf(half)).data], [177, 127, 227], 'alpha as in raw pixels')
  const grey = await draw().toColourspace('b-w').png().toBuffer()
  t.equal((await sharp(grey).metadata()).channels, 1)
  const shown = await pixelsOf(grey)
  t.ok(shown.data.every((value, i) => value === shown.data[i - (i % 3)]))
  const deep = await draw().toColourspace('rgb16').png().toBuffer()
  t.equal((await sharp(deep).metadata()).depth, 'ushort')
  t.equal(hex(await pixelsOf(deep)), hex(drawn), '16 bits')
  const inks = await draw().toColourspace('cmyk').tiff().toBuffer()
  t.equal((await sharp(inks).metadata()).space, 'cmyk')
  const printed = await pixelsOf(inks)
  t.match(printed, { width: 23, height: 14 })
  t.equal(printed.data.length, 23 * 14 * 3, 'CMYK')
  const few = await draw().png({ palette: true, colours: 8 }).toBuffer()
  t.equal((await pixelsOf(few)).data.length, 23 * 14 * 3, 'a palette')
})

t.test('EXIF says how it stands', async (t) => {
  for (let orientation = 1; orientation <= 8; orientation++) {
    const bytes = await draw().withMetadata({ orientation }).png().toBuffer()
    const { size, pixels } = await openImage(bytes)
    const upright = await sharp(bytes).rotate().raw().toBuffer()
    const [width, height] = orientation >= 5 ? [14, 23] : [23, 14]
    t.match(size, { width, height, frames: 1 }, `orientation ${orientation}`)
    const made = await pixels()
    t.match(made, { width, height })
    t.equal(hex(made), upright.toString('hex'))
  }
})

t.test('animations: the first frame, or all as a film', async (t) => {
  const frames = [1, 2, 3].map((seed) => picture(8, 6, seed))
  const all = Buffer.concat(frames.map(({ data }) => data))
  const tall = sharp(all, { raw: { width: 8, height: 18, channels: 3, pageHeight: 6 } as never })
  const webp = await tall.webp({ lossless: true, loop: 0, delay: [50, 50, 50] }).toBuffer()
  t.equal((await sharp(webp).metadata()).pages, 3)
  t.equal(hex(await pixelsOf(webp)), hex(frames[0]!))
  const film = await openVideo(webp)
  t.equal(film.length, 3)
  for (const [i, frame] of film.entries()) t.equal(hex(await frame.pixels()), hex(frames[i]!), `frame ${i}`)
  const list = await openVideo([webp, frames[1]!])
  t.equal(list.length, 2)
  t.equal(hex(await list[0]!.pixels()), hex(frames[0]!))
})

t.test('a folder is a film: its pictures by name, numbers as numbers', async (t) => {
  const folder = scratch(t)
  const frames = { '10.png': picture(8, 6, 10), '9.png': picture(8, 6, 9), 'a.png': picture(8, 6, 1) }
  for (const [name, { data }] of Object.entries(frames))
    writeFileSync(
      join(folder, name),
      await sharp(data, { raw: { width: 8, height: 6, channels: 3 } })
        .png()
        .toBuffer(),
    )
  mkdirSync(join(folder, 'more'))
  writeFileSync(join(folder, '.hidden'), 'no picture')
  const film = await openVideo(folder)
  const order = [frames['9.png'], frames['10.png'], frames['a.png']]
  t.equal(film.length, 3)
  for (const [i, frame] of film.entries()) t.equal(hex(await frame.pixels()), hex(order[i]!), `frame ${i}`)
  writeFileSync(join(folder, 'notes.txt'), 'no picture')
  const wrong = await raised(() => openVideo(folder))
  t.match(wrong, { code: 'ERR_FILE_FORMAT', message: /notes\.txt/ })
  const empty = await raised(() => openVideo(join(folder, 'more')))
  t.match(empty, { code: 'ERR_FILE_NOT_FOUND', message: /pictures in the folder .*more, but there are none/ })
  t.match(await raised(() => openVideo(join(folder, 'none'))), { code: 'ERR_FILE_NOT_FOUND', message: /there is none/ })
  for (let i = 0; i <= 1024; i++) writeFileSync(join(folder, 'more', String(i)), '')
  t.match(await raised(() => openVideo(join(folder, 'more'))), {
    code: 'ERR_UNSUPPORTED',
    message: /at most 1024 frames, but there are 1025/,
  })
})

t.test('what is no picture is one sentence', async (t) => {
  const folder = scratch(t)
  const refused = async (image: ImageGiven, code: string, message: RegExp) => {
    const error = await raised(() => pixelsOf(image))
    t.match(error, { code, message }, error.message)
    t.notMatch(error.message, /\n/)
  }
  const png = await draw().png().toBuffer()
  await refused(join(folder, 'none.png'), 'ERR_FILE_NOT_FOUND', /picture at .*none.png, but there is none/)
  mkdirSync(join(folder, 'folder.png'))
  await refused(join(folder, 'folder.png'), 'ERR_FILE_FORMAT', /it is (a folder|no file)/)
  await refused('/dev/zero', 'ERR_FILE_FORMAT', /it is no file/)
  writeFileSync(join(folder, 'empty.png'), '')
  await refused(join(folder, 'empty.png'), 'ERR_FILE_FORMAT', /empty.png, but it is empty/)
  await refused(new Uint8Array(0), 'ERR_FILE_FORMAT', /it is empty/)
  await refused(Buffer.from('hello, I am a text file'), 'ERR_FILE_FORMAT', /a picture \(JPEG/)
  await refused(
    Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    'ERR_FILE_FORMAT',
    /holds svg/,
  )
  await refused(png.subarray(0, png.length / 2), 'ERR_FILE_FORMAT', /a picture \(JPEG/)
  const jpeg = await draw().jpeg().toBuffer()
  await refused(jpeg.subarray(0, jpeg.length / 2), 'ERR_FILE_FORMAT', /a picture \(JPEG/)
  const bomb = await sharp({ create: { width: 16_000, height: 9000, channels: 3, background: 'red' }, limitInputPixels: false }).png().toBuffer() // biome-ignore format: one line
  await refused(bomb, 'ERR_FILE_FORMAT', /at most 134217728 pixels/)
})

t.test('without sharp files are one sentence, pixels are pictures', async (t) => {
  const hook = `export const resolve = async (name, context, next) => {
    if (name === 'sharp') throw new Error('Cannot find package sharp')
    return next(name, context)
  }`
  const program = `
    import { register } from 'node:module'
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hook)}`)})
    const { openImage } = (await import('./dist/vision/decode.js')).default
    const raw = await openImage({ data: Uint8Array.of(1, 2, 3), width: 1, height: 1, channels: 3 })
    console.log((await raw.pixels()).data.length)
    await openImage('package.json').catch(({ code, message }) => console.log(code, message))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  t.match(stdout, /^3\nERR_UNSUPPORTED \[image\] expected the package sharp.*cannot be loaded.*npm install sharp/)
})

t.test('damaged files: a sentence or pixels, whatever byte it is', async (t) => {
  const files = await Promise.all([
    draw().png().toBuffer(),
    draw().jpeg().toBuffer(),
    draw().webp().toBuffer(),
    draw().gif().toBuffer(),
    draw().tiff().toBuffer(),
  ])
  let state = 1
  const next = (most: number) => {
    state = (state * 48271) % 2147483647
    return state % most
  }
  let refusals = 0
  for (const bytes of files)
    for (let i = 0; i < 60; i++) {
      const damaged = Buffer.from(bytes)
      for (let n = next(4); n >= 0; n--) damaged[next(damaged.length)] = next(256)
      const result = await pixelsOf(damaged).catch((error: unknown) => error)
      if (result instanceof Error) {
        refusals++
        if ((result as { code?: string }).code !== 'ERR_FILE_FORMAT') t.fail(result.message)
      } else if ((result as typeof drawn).data.length % 3 !== 0) t.fail('half a pixel')
    }
  t.ok(refusals > 30, `${refusals} refused`)
})
