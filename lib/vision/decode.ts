// Files to pixels, by sharp: upright, RGB, 8 bits. What is no picture is one sentence.
import { open } from 'node:fs/promises'
import type { Metadata, Sharp, SharpOptions } from 'sharp'
import { TokensieveError } from '../errors.js'
import { checkFrames, framesIn } from './frames.js'
import { type ImageGiven, isFrames, MOST_PIXELS, type RawImage, type VideoGiven } from './image.js'

/** RGB, 8 bits, rows from the top. */
export interface Pixels {
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
}

/** What is known of a picture before its pixels are decoded. */
export interface Size {
  readonly width: number
  readonly height: number
  readonly frames: number
}

const MOST_BYTES = 2 ** 29
const FORMATS = ['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif']
const NAMES = 'JPEG, PNG, WebP, GIF, TIFF or AVIF'

/** A picture whose file was read and whose header was looked at. */
export interface Opened {
  readonly size: Size
  /** Its pixels; of an animation those of one frame. */
  pixels(frame?: number): Promise<Pixels>
}

/** @throws TokensieveError ERR_FILE_NOT_FOUND, ERR_FILE_FORMAT, ERR_UNSUPPORTED */
export async function openImage(image: ImageGiven, name = nameOf(image)): Promise<Opened> {
  if (typeof image !== 'string' && !(image instanceof Uint8Array)) {
    const { height, width } = image
    return { size: { width, height, frames: 1 }, pixels: async () => toRgb(image) }
  }
  const make = await loadSharp()
  const read = async () => (typeof image === 'string' ? readImage(image) : image)
  const bytes = await read()
  if (bytes.length === 0) throw unreadable(name, 'it is empty')
  const header = await make(bytes, OPTIONS)
    .metadata()
    .catch((error: unknown) => {
      throw unreadable(name, reasonOf(error))
    })
  const size = sizeOf(header, name)
  // A file is read again when its turn comes: of many only one is in memory.
  return { size, pixels: async (frame = 0) => decode(make, await read(), { name, frame, size }) }
}

/** The frames of a film, each with the size of a picture. */
export async function openVideo(video: VideoGiven, name = 'video'): Promise<Opened[]> {
  const given = isFrames(video) ? video : typeof video === 'string' ? await framesIn(video) : undefined
  if (given) {
    const frames: Opened[] = []
    for (const [i, frame] of given.entries()) frames.push(await openImage(frame, nameOf(frame, `${name}[${i}]`)))
    return frames
  }
  const film = video as string | Uint8Array
  const opened = await openImage(film, nameOf(film, name))
  const { frames, ...size } = opened.size
  checkFrames(frames, nameOf(film, name))
  return Array.from({ length: frames }, (_, frame) => ({
    size: { ...size, frames: 1 },
    pixels: () => opened.pixels(frame),
  }))
}

// The embedded colour profile is left aside, as the processors of the models do; what looks wrong but can be read is read.
const OPTIONS: SharpOptions = { limitInputPixels: MOST_PIXELS, failOn: 'error', ignoreIcc: true, sequentialRead: true }

type Make = (input: Uint8Array, options: SharpOptions) => Sharp

/** Loaded on first use: whoever reads text needs none of it. */
async function loadSharp(): Promise<Make> {
  try {
    const loaded = await import('sharp')
    return (loaded.default ?? loaded) as unknown as Make
  } catch (cause) {
    const said = '[image] expected the package sharp, which decodes pictures, but it cannot be loaded here'
    const hint = 'install it ("npm install sharp"), or give { data, width, height, channels }'
    throw new TokensieveError('ERR_UNSUPPORTED', `${said} (${reasonOf(cause)}): ${hint}`, { cause })
  }
}

async function readImage(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path, 'r')
    try {
      const found = await file.stat()
      if (!found.isFile()) throw unreadable(path, 'it is no file')
      if (found.size > MOST_BYTES) throw unreadable(path, `it has ${found.size} bytes and more than ${MOST_BYTES}`)
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (cause instanceof TokensieveError) throw cause
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'EISDIR') throw unreadable(path, 'it is a folder')
    const said = code === 'ENOENT' ? 'there is none' : message
    throw new TokensieveError('ERR_FILE_NOT_FOUND', `[image] expected a picture at ${path}, but ${said}`, { cause })
  }
}

/** As it stands upright. A page of an animation is as high as all of them over their number. */
function sizeOf({ format, height, orientation = 1, pageHeight, pages = 1, width }: Metadata, name: string): Size {
  if (!FORMATS.includes(format ?? '')) throw unreadable(name, `it holds ${format ?? 'something else'}`)
  if (!(width && height)) throw unreadable(name, 'it has no pixels')
  const tall = pageHeight ?? height
  const [w, h] = orientation >= 5 ? [tall, width] : [width, tall]
  if (w * h > MOST_PIXELS) throw tooLarge(name)
  return { width: w, height: h, frames: format === 'tiff' || format === 'heif' ? 1 : pages }
}

async function decode(
  make: Make,
  bytes: Uint8Array,
  { name, frame, size }: { name: string; frame: number; size: Size },
): Promise<Pixels> {
  try {
    const upright = make(bytes, { ...OPTIONS, ...(frame > 0 && { page: frame }) }).rotate()
    const { data, info } = await upright.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer({
      resolveWithObject: true,
    })
    const { channels, height, width } = info
    if (width !== size.width || height !== size.height)
      throw unreadable(name, `it decodes to ${width} × ${height} and announces ${size.width} × ${size.height}`)
    return toRgb({ data, width, height, channels })
  } catch (error) {
    if (error instanceof TokensieveError) throw error
    throw unreadable(name, reasonOf(error))
  }
}

const SLICE = 2 ** 20

/** Grey becomes RGB; what is transparent shows white. A slice at a time: the event loop is not ours for long. */
export async function toRgb({
  channels,
  data,
  height,
  width,
}: Omit<RawImage, 'channels'> & { channels: number }): Promise<Pixels> {
  const count = width * height
  if (channels === 3) return { data: new Uint8Array(data.buffer, data.byteOffset, count * 3), width, height }
  const out = new Uint8Array(count * 3)
  for (let begin = 0; begin < count; begin += SLICE) {
    fillRgb(out, data, channels, begin, Math.min(begin + SLICE, count))
    if (count > SLICE) await new Promise((next) => setImmediate(next))
  }
  return { data: out, width, height }
}

function fillRgb(out: Uint8Array, data: ArrayLike<number>, channels: number, begin: number, end: number): void {
  const clear = channels === 2 || channels === 4
  const colours = clear ? channels - 1 : channels
  for (let i = begin; i < end; i++) {
    const from = i * channels
    const alpha = clear ? (data[from + colours] as number) : 255
    for (let c = 0; c < 3; c++) {
      const value = data[from + (colours === 1 ? 0 : c)] as number
      out[3 * i + c] = alpha === 255 ? value : Math.floor((value * alpha + 255 * (255 - alpha) + 127) / 255)
    }
  }
}

function nameOf(image: ImageGiven, otherwise = 'image'): string {
  return typeof image === 'string' ? image : otherwise
}

/** Its first line. */
function reasonOf(error: unknown): string {
  const said = error instanceof Error ? error.message : String(error)
  return said.trim().split('\n')[0] ?? ''
}

function tooLarge(name: string): TokensieveError {
  return new TokensieveError(
    'ERR_FILE_FORMAT',
    `[image] expected at most ${MOST_PIXELS} pixels in ${name}, it has more`,
  )
}

function unreadable(name: string, why: string): TokensieveError {
  if (/exceeds pixel limit/i.test(why)) return tooLarge(name)
  return new TokensieveError('ERR_FILE_FORMAT', `[image] expected a picture (${NAMES}) in ${name}, but ${why}`)
}
