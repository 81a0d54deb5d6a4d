// What the tests of the vision tower share: the fixtures that PyTorch made, and how near numbers are.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { native } from '../lib/native.js'
import type { NativeVision } from '../lib/native-vision.js'

export interface Fixture {
  readonly vision: NativeVision
  readonly arrays: Readonly<Record<string, Float32Array>>
}

export const visionFolder = fileURLToPath(new URL('fixtures/vision/', import.meta.url))

export async function loadTower(
  t: { teardown(fn: () => unknown): void },
  path: string,
  { isa = 'auto', threads = 2 } = {},
): Promise<NativeVision> {
  const file = await native().open(path)
  try {
    const vision = await native().loadVision(file, { threads, isa }, null).vision
    t.teardown(() => vision.close())
    return vision
  } finally {
    file.close()
  }
}

export async function loadFixture(
  t: { teardown(fn: () => unknown): void },
  name: string,
  isa = 'auto',
): Promise<Fixture> {
  const vision = await loadTower(t, `${visionFolder}${name}.gguf`, { isa })
  const about = JSON.parse(readFileSync(`${visionFolder}${name}.json`, 'utf8')) as {
    arrays: Record<string, { shape: number[]; offset: number }>
  }
  const bytes = readFileSync(`${visionFolder}${name}.f32`)
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  const arrays = Object.entries(about.arrays).map(
    ([key, { offset, shape }]) => [key, all.subarray(offset, offset + shape.reduce((a, b) => a * b, 1))] as const,
  )
  return { vision, arrays: Object.fromEntries(arrays) }
}

/** Of the whole: the length of the difference over the length of what is expected. */
export function off(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY
  let apart = 0
  let length = 0
  for (let i = 0; i < expected.length; i++) {
    apart += ((got[i] as number) - (expected[i] as number)) ** 2
    length += (expected[i] as number) ** 2
  }
  const share = Math.sqrt(apart / length)
  return Number.isNaN(share) ? Number.POSITIVE_INFINITY : share
}

export function meanOf(rows: readonly Float32Array[]): Float32Array {
  return (rows[0] as Float32Array).map((_, i) => rows.reduce((sum, row) => sum + (row[i] as number), 0) / rows.length)
}

export function joined(...parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Pieces of `size` numbers. */
export function cut(values: Float32Array | undefined, size: number): Float32Array[] {
  const length = values?.length ?? 0
  return Array.from({ length: length / size }, (_, i) => (values as Float32Array).subarray(i * size, (i + 1) * size))
}
