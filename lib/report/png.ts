// Pixels as a PNG in a data URL, small enough for a page. Needs no package.
import { crc32, deflateSync } from 'node:zlib'

/** Longest side of a picture on a page. */
const SIDE = 336

export interface Pixels {
  /** [height × width × 3], red, green and blue. */
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
}

export function pngUrl(pixels: Pixels): string {
  return `data:image/png;base64,${Buffer.from(png(shrunk(pixels))).toString('base64')}`
}

/** Each pixel is the mean of those that it stands for. */
export function shrunk(pixels: Pixels, side = SIDE): Pixels {
  const scale = Math.ceil(Math.max(pixels.width, pixels.height) / side)
  if (scale <= 1) return pixels
  const width = Math.ceil(pixels.width / scale)
  const height = Math.ceil(pixels.height / scale)
  const data = new Uint8Array(width * height * 3)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) data[3 * (y * width + x) + c] = boxMean(pixels, x * scale, y * scale, scale, c)
    }
  }
  return { data, width, height }
}

function boxMean({ data, height, width }: Pixels, left: number, top: number, scale: number, channel: number): number {
  let sum = 0
  let count = 0
  for (let y = top; y < Math.min(top + scale, height); y++) {
    for (let x = left; x < Math.min(left + scale, width); x++, count++)
      sum += data[3 * (y * width + x) + channel] as number
  }
  return Math.round(sum / count)
}

/** Eight bits a channel; every line as the difference to the one above, which suits drawings and photographs alike. */
export function png({ data, height, width }: Pixels): Uint8Array {
  const stride = 3 * width
  const lines = new Uint8Array(height * (stride + 1))
  for (let y = 0; y < height; y++) {
    lines[y * (stride + 1)] = 2
    for (let i = 0; i < stride; i++) {
      const above = y === 0 ? 0 : (data[(y - 1) * stride + i] as number)
      lines[y * (stride + 1) + 1 + i] = (data[y * stride + i] as number) - above
    }
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2], 8)
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  const packed = deflateSync(lines, { level: 9 })
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', packed), chunk('IEND', Buffer.alloc(0))])
}

function chunk(name: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, sum])
}
