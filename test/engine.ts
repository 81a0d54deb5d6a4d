// What the tests of the engine share: loaded tiny models and how near numbers are.
import { join } from 'node:path'
import { load, type Model } from '../lib/index.js'
import { scratch, type TinyModel, type TinyOptions, tinyModel, writeGguf } from './model-fixture.js'

type Test = { teardown(fn: () => unknown): void }

/** The model in a file of its own, loaded with an instruction set ('auto': the best of this machine); closed with the test. */
export async function loadTiny(
  t: Test,
  made: TinyModel | TinyOptions = {},
  { isa = 'auto', threads = 2 } = {},
): Promise<{ model: Model; tiny: TinyModel; path: string }> {
  const tiny = 'tensors' in made ? made : tinyModel(made)
  const path = writeGguf(join(scratch(t), 'tiny.gguf'), tiny)
  const model = await loadWith(path, isa, threads)
  t.teardown(() => model.close())
  return { model, tiny, path }
}

export function loadWith(path: string, isa: string, threads = 2): Promise<Model> {
  const before = process.env.TOKENSIEVE_ISA
  process.env.TOKENSIEVE_ISA = isa
  const loading = load(path, { threads }) // the variable is read at once
  if (before === undefined) delete process.env.TOKENSIEVE_ISA
  else process.env.TOKENSIEVE_ISA = before
  return loading
}

/** The largest difference. */
export function apart(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs((a[i] as number) - (b[i] as number)))
  return Number.isNaN(most) ? Number.POSITIVE_INFINITY : most
}

/** True where every bit agrees. */
export function same(a: Float32Array, b: Float32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength))
}

export function flat(rows: readonly ArrayLike<number>[]): Float64Array {
  const out = new Float64Array(rows.reduce((sum, row) => sum + row.length, 0))
  let at = 0
  for (const row of rows) {
    out.set(Array.from(row), at)
    at += row.length
  }
  return out
}

export async function raised(work: () => unknown): Promise<Error & { code?: string }> {
  try {
    await work()
  } catch (error) {
    return error as Error & { code?: string }
  }
  return new Error('nothing was thrown')
}
