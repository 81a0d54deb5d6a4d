// A crop in rectangular cells of patches.
import type { Crop, VisionSeen } from './method.js'
import type { CropRows } from './similar.js'

/** Cells of so many patches; the last row and column of them may be cut. */
export interface Cells {
  readonly height: number
  readonly width: number
}

/** The most cells that are no more than `count`; of as many those nearest to squares, of these the wider. */
export function cellsWithin({ columns, rows }: Pick<Crop, 'columns' | 'rows'>, count: number): Cells {
  let best: Cells & { readonly cells: number } = { height: rows, width: columns, cells: 1 }
  const bent = ({ height, width }: Cells) => Math.abs(Math.log(height / width))
  for (let height = 1; height <= rows; height++) {
    for (let width = columns; width >= 1; width--) {
      const cells = Math.ceil(rows / height) * Math.ceil(columns / width)
      if (cells > count || cells < best.cells) continue
      if (cells > best.cells || bent({ height, width }) < bent(best) - 1e-9) best = { height, width, cells }
    }
  }
  return { height: best.height, width: best.width }
}

/** The grid of a crop's cells: places of the patches of each that are there, by row and column of cells. */
export function membersOf(
  { crops, sources }: Pick<VisionSeen, 'crops' | 'sources'>,
  { crop, from, to }: CropRows,
  { height, width }: Cells,
): { readonly across: number; readonly cells: readonly (readonly number[])[] } {
  const { columns, rows } = crops[crop] as Crop
  const across = Math.ceil(columns / width)
  const cells: number[][] = Array.from({ length: Math.ceil(rows / height) * across }, () => [])
  for (let place = from; place < to; place++) {
    const patch = (sources[place] as number) % (rows * columns)
    const [row, column] = [Math.floor(patch / columns), patch % columns]
    cells[Math.floor(row / height) * across + Math.floor(column / width)]?.push(place)
  }
  return { across, cells }
}

/** The one in the middle, which stands for a cell. */
export function middleOf(cell: readonly number[]): number {
  return cell[cell.length >> 1] as number
}

/** The mean of some rows of [rows × size] values. */
export function meanRow(values: ArrayLike<number>, size: number, places: readonly number[]): Float64Array {
  const mean = new Float64Array(size)
  for (const place of places)
    for (let c = 0; c < size; c++) mean[c] = (mean[c] as number) + (values[place * size + c] as number) / places.length
  return mean
}
