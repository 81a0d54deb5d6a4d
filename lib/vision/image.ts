// What a user gives as a picture: a file, its bytes, or pixels.
import { rangeError, typeError } from '../errors.js'

/** Pixels as they are: 8 bits a channel, rows from the top, channels side by side (grey, RGB or RGBA). */
export interface RawImage {
  readonly data: Uint8Array | Uint8ClampedArray
  readonly width: number
  readonly height: number
  readonly channels: 1 | 3 | 4
}

/** A path, the bytes of a file (JPEG, PNG, WebP, GIF, TIFF, AVIF), or pixels. */
export type ImageGiven = string | Uint8Array | RawImage

/** Frames in order; or a folder of them, by name; or one animated picture, all of whose frames are taken. */
export type VideoGiven = readonly ImageGiven[] | string | Uint8Array

/** Pixels that a picture may have, all frames together: more is a sentence before they are decoded. */
export const MOST_PIXELS = 2 ** 27

/** Frames that a film may have. */
export const MOST_FRAMES = 1024

const GIVEN = 'a path, bytes or { data, width, height, channels }'

export function checkImage(image: unknown, name: string): asserts image is ImageGiven {
  if (typeof image === 'string' || image instanceof Uint8Array) return
  if (typeof image !== 'object' || image === null || Array.isArray(image)) throw typeError(GIVEN, name, image)
  const { channels, data, height, width } = image as { readonly [key: string]: unknown }
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    if (data === undefined) throw typeError(GIVEN, name, image)
    throw typeError('a Uint8Array of pixels', `${name}.data`, data)
  }
  for (const [key, value] of Object.entries({ width, height })) {
    if (typeof value !== 'number') throw typeError('a number of pixels', `${name}.${key}`, value)
    if (!(Number.isInteger(value) && value >= 1)) throw rangeError('a whole number from 1', `${name}.${key}`, value)
  }
  if (channels !== 1 && channels !== 3 && channels !== 4) throw rangeError('1, 3 or 4', `${name}.channels`, channels)
  const count = (width as number) * (height as number)
  if (count > MOST_PIXELS) throw rangeError(`a picture of at most ${MOST_PIXELS} pixels`, name, count)
  if (data.length !== count * channels)
    throw rangeError(`${width} × ${height} × ${channels} bytes, ${count * channels} of them,`, `${name}.data`, data)
}

export function checkVideo(video: unknown, name: string): asserts video is VideoGiven {
  if (typeof video === 'string' || video instanceof Uint8Array) return
  if (!Array.isArray(video)) throw typeError('an array of frames', name, video)
  if (!(video.length >= 1 && video.length <= MOST_FRAMES))
    throw rangeError(`from 1 to ${MOST_FRAMES} frames`, name, video)
  for (const [i, frame] of video.entries()) checkImage(frame, `${name}[${i}]`)
}

/** A copy that its giver cannot change. */
export function copyImage(image: ImageGiven): ImageGiven {
  if (typeof image === 'string') return image
  if (image instanceof Uint8Array) return Uint8Array.from(image)
  const { channels, data, height, width } = image
  return { channels, data: Uint8Array.from(data), height, width }
}

export function copyVideo(video: VideoGiven): VideoGiven {
  return isFrames(video) ? video.map(copyImage) : (copyImage(video) as string | Uint8Array)
}

export function isFrames(video: VideoGiven): video is readonly ImageGiven[] {
  return Array.isArray(video)
}
