// One member of a zip file (a Python wheel is one), streamed to disk and checked against its CRC.
import { createReadStream, createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { crc32, createInflateRaw } from 'node:zlib'
import { TokensieveError } from '../errors.js'

interface Entry {
  method: number // 0 stored, 8 deflated
  crc: number
  packed: number
  size: number
  header: number
}

export async function extract(zip: string, member: string, to: string, signal?: AbortSignal): Promise<void> {
  const entry = await find(zip, member)
  const start = await dataStart(zip, entry)
  const source = createReadStream(zip, { start, end: start + entry.packed - 1 })
  let size = 0
  let crc = 0
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length
      crc = crc32(chunk, crc)
      done(size > entry.size ? broken(zip, `${member} of ${entry.size} bytes`, 'more') : null, chunk)
    },
  })
  const target = createWriteStream(to)
  if (entry.method === 8) await pipeline(source, createInflateRaw(), meter, target, { signal })
  else await pipeline(source, meter, target, { signal })
  if (size !== entry.size || crc !== entry.crc)
    throw broken(zip, `${member} of ${entry.size} bytes`, `${size} bytes or another checksum`)
}

// The central directory at the end lists the members; sizes there are right even where the local header leaves them out.
async function find(zip: string, member: string): Promise<Entry> {
  const file = await open(zip)
  try {
    const { size } = await file.stat()
    const tail = Buffer.alloc(Math.min(size, 22 + 0xffff))
    await file.read(tail, 0, tail.length, size - tail.length)
    const end = tail.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
    if (end < 0 || end + 22 > tail.length) throw broken(zip, 'a zip file', 'no directory in it')
    const directory = Buffer.alloc(Math.min(tail.readUInt32LE(end + 12), size))
    await file.read(directory, 0, directory.length, tail.readUInt32LE(end + 16))
    for (let at = 0; at + 46 <= directory.length && directory.readUInt32LE(at) === 0x02014b50; ) {
      const name = directory.readUInt16LE(at + 28)
      if (directory.toString('utf8', at + 46, at + 46 + name) === member) return entryAt(directory, at, zip)
      at += 46 + name + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32)
    }
    throw broken(zip, member, 'no such member')
  } finally {
    await file.close()
  }
}

function entryAt(directory: Buffer, at: number, zip: string): Entry {
  const u32 = (offset: number) => directory.readUInt32LE(at + offset)
  const entry = {
    method: directory.readUInt16LE(at + 10),
    crc: u32(16),
    packed: u32(20),
    size: u32(24),
    header: u32(42),
  }
  if (entry.method !== 0 && entry.method !== 8)
    throw broken(zip, 'a stored or deflated member', `method ${entry.method}`)
  if (entry.size === 0 || entry.packed === 0xffffffff || entry.size === 0xffffffff)
    throw broken(zip, 'a member of 1 byte to 4 GiB', `${entry.size} bytes`)
  return entry
}

async function dataStart(zip: string, entry: Entry): Promise<number> {
  const file = await open(zip)
  try {
    const header = Buffer.alloc(30)
    await file.read(header, 0, 30, entry.header)
    if (header.readUInt32LE(0) !== 0x04034b50) throw broken(zip, 'a member header', 'something else')
    return entry.header + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
  } finally {
    await file.close()
  }
}

function broken(zip: string, expected: string, came: string): TokensieveError {
  return new TokensieveError('ERR_DOWNLOAD', `[${zip}] expected ${expected}, but found ${came}`)
}
