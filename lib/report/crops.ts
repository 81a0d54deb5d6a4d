// What the tower read of a session's pictures, as a page shows it.
import type { Crop } from '../methods/method.js'
import { pngUrl } from './png.js'
import type { RunCrop } from './run.js'

/** A picture or film among the ids of a session. */
export interface PlacedPicture {
  readonly picture: {
    readonly layout: { readonly crops: readonly Omit<Crop, 'image'>[] }
    /** [crops × size × size × 3] */
    readonly crops: Uint8Array
    /** What its rows are: patches behind the projector, crop after crop, or below 0 what belongs to none. */
    readonly rows: Int32Array
  }
  /** The places of its rows in session.ids. */
  readonly places: Int32Array
}

/** size: pixels of a side of a crop. rows: patches of a side, behind the projector. */
export function cropsOf(
  pictures: readonly PlacedPicture[],
  { rows: side, size }: { rows: number; size: number },
): RunCrop[] {
  return pictures.flatMap(({ picture, places }, image) => {
    const { crops, layout, rows } = picture
    const placeOf = new Map(Array.from(places, (place, row) => [rows[row] as number, place]))
    return layout.crops.map(({ column, kind, row }, crop) => {
      const first = crop * side * side
      const sources = Array.from({ length: side * side }, (_, i) => placeOf.get(first + i) ?? -1 - first - i)
      const data = crops.subarray(crop * size * size * 3, (crop + 1) * size * size * 3)
      const about = { kind, image, row, column, rows: side, columns: side }
      return { ...about, sources, picture: pngUrl({ data, width: size, height: size }) }
    })
  })
}
