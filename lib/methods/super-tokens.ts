// Soft clusters of the patches of a crop around the cells of a coarse grid: the sampling of super tokens, arXiv 2211.11167.
import { type Cells, meanRow, membersOf, middleOf } from './cells.js'
import type { VisionSeen } from './method.js'
import type { CropRows } from './similar.js'

export interface Share {
  readonly cell: number
  readonly share: number
}

interface Sampling {
  /** [rows × size]. */
  readonly values: ArrayLike<number>
  readonly size: number
  readonly rounds: number
  readonly edge: 'zeros' | 'open'
}

/** heads: the place that stands for each cell; shares: of each patch, its own cell's first; cells: [cells × size], as shares make them. */
export function superTokens(
  seen: Pick<VisionSeen, 'crops' | 'sources'>,
  rows: CropRows,
  grid: Cells,
  { edge, rounds, size, values }: Sampling,
): { heads: number[]; shares: Map<number, Share[]>; cells: Float64Array[] } {
  const { across, cells: members } = membersOf(seen, rows, grid)
  let cells = members.map((places) => meanRow(values, size, places))
  const shares = new Map<number, Share[]>()
  for (let round = 0; round < rounds; round++) {
    for (const [cell, places] of members.entries()) {
      const near = around(cell, across, members)
      for (const place of places) shares.set(place, softmax(values, place, near, cells, edge === 'zeros' ? 9 : 0))
    }
    cells = meansOf(shares, values, size, cells.length)
  }
  return { heads: members.map((places) => (places.length > 0 ? middleOf(places) : -1)), shares, cells }
}

/** A cell, and those of the eight around it that have patches. */
function around(cell: number, across: number, members: readonly (readonly number[])[]): number[] {
  const [row, column] = [Math.floor(cell / across), cell % across]
  const found = [cell]
  for (let y = row - 1; y <= row + 1; y++)
    for (let x = column - 1; x <= column + 1; x++)
      if (x >= 0 && x < across && (y !== row || x !== column) && (members[y * across + x]?.length ?? 0) > 0)
        found.push(y * across + x)
  return found
}

/** By products over the root of the size. With so many as `slots` those that are missing count as products of 0. */
function softmax(
  values: ArrayLike<number>,
  place: number,
  near: readonly number[],
  cells: readonly Float64Array[],
  slots: number,
): Share[] {
  const logits = near.map((cell) => {
    const mean = cells[cell] as Float64Array
    const at = place * mean.length
    let sum = 0
    for (let c = 0; c < mean.length; c++) sum += (mean[c] as number) * (values[at + c] as number)
    return sum / Math.sqrt(mean.length)
  })
  const missing = Math.max(0, slots - near.length)
  const most = Math.max(...logits, missing > 0 ? 0 : Number.NEGATIVE_INFINITY)
  const raised = logits.map((logit) => Math.exp(logit - most))
  const whole = raised.reduce((sum, one) => sum + one, missing * Math.exp(-most))
  return near.map((cell, i) => ({ cell, share: (raised[i] as number) / whole }))
}

function meansOf(shares: Map<number, Share[]>, values: ArrayLike<number>, size: number, count: number): Float64Array[] {
  const sums = Array.from({ length: count }, () => new Float64Array(size))
  const whole = new Float64Array(count)
  for (const [place, own] of shares)
    for (const { cell, share } of own) {
      whole[cell] = (whole[cell] as number) + share
      const sum = sums[cell] as Float64Array
      for (let c = 0; c < size; c++) sum[c] = (sum[c] as number) + share * (values[place * size + c] as number)
    }
  return sums.map((sum, cell) => sum.map((one) => one / ((whole[cell] as number) + 1e-12)))
}

/** Rows of mean 0 and deviation 1. */
export function normed(values: Float32Array, size: number): Float32Array {
  const out = values.slice()
  for (let at = 0; at < out.length; at += size) {
    let sum = 0
    let squares = 0
    for (let c = at; c < at + size; c++) sum += out[c] as number
    for (let c = at; c < at + size; c++) squares += ((out[c] as number) - sum / size) ** 2
    const deviation = Math.sqrt(squares / size) || 1
    for (let c = at; c < at + size; c++) out[c] = ((out[c] as number) - sum / size) / deviation
  }
  return out
}
