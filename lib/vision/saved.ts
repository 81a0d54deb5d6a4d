// Pictures of a session as plain data: what is needed to read them again.
import type { Placed } from '../prompt.js'
import { allRows, type LaidCrop, type Layout } from './layout.js'
import { idsOf, type Picture } from './picture.js'
import type { Tower } from './tower.js'

type SavedItem = { readonly text: string } | { readonly rows: readonly number[] }

export interface SavedPicture {
  readonly kind: Picture['kind']
  readonly width: number
  readonly height: number
  readonly boxes: readonly LaidCrop[]
  readonly items: readonly SavedItem[]
  readonly hash: string
  /** Bytes of the crops, as base64. */
  readonly crops: string
  readonly places: readonly number[]
}

export function packPictures(pictures: readonly Placed[]): SavedPicture[] {
  return pictures.map(({ picture: { crops, hash, kind, layout }, places }) => ({
    kind,
    width: layout.width,
    height: layout.height,
    boxes: layout.crops,
    items: layout.items.map((item) => ('rows' in item ? { rows: Array.from(item.rows) } : item)),
    hash,
    crops: Buffer.from(crops.buffer, crops.byteOffset, crops.byteLength).toString('base64'),
    places: Array.from(places),
  }))
}

/** The pictures again; throws where they are none of the tower's. */
export function unpackPictures(saved: unknown, tower: Tower | undefined): Placed[] {
  const size = tower?.grid.size ?? 0
  return (saved as readonly SavedPicture[]).map(({ boxes, crops, hash, height, items, kind, places, width }) => {
    const layout: Layout = {
      width,
      height,
      crops: boxes,
      items: items.map((item) => ('rows' in item ? { rows: Int32Array.from(item.rows) } : { text: item.text })),
    }
    const rows = allRows(layout)
    const bytes = Uint8Array.from(Buffer.from(crops, 'base64'))
    const digest = Buffer.from(hash, 'hex')
    if (digest.length !== 32 || bytes.length !== boxes.length * size * size * 3 || places.length > rows.length)
      throw new RangeError('Expected a picture of this tower')
    return {
      picture: { kind, layout, crops: bytes, hash, rows, ids: idsOf(digest, rows.length) },
      places: Int32Array.from(places),
    }
  })
}
