// What a vision tower is, from its file alone.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NativeFile } from '../native.js'
import { storedBytes } from './model-sizes.js'

export interface TowerSizes {
  readonly path: string
  readonly name?: string | undefined
  readonly projector?: string | undefined
  /** Pixels of a side of a crop, and of a patch. */
  readonly imageSize: number
  readonly patchSize: number
  /** Patches of a crop, and rows that the decoder gets of it. */
  readonly patches: number
  readonly rows: number
  readonly layers: number
  readonly width: number
  readonly heads: number
  readonly bytes: number
}

/** Of a GGUF of architecture clip. */
export function towerSizes(path: string, file: NativeFile): TowerSizes {
  const number = (key: string) => Number(file.metadata(`clip.vision.${key}`) ?? 0)
  const text = (key: string) => String(file.metadata(key) ?? '') || undefined
  const patches = (number('image_size') / number('patch_size')) ** 2
  const joined = number('projector.scale_factor') || 1
  return {
    path,
    name: text('general.name'),
    projector: text('clip.projector_type'),
    imageSize: number('image_size'),
    patchSize: number('patch_size'),
    patches,
    rows: patches / joined ** 2,
    layers: number('block_count'),
    width: number('embedding_length'),
    heads: number('attention.head_count'),
    bytes: file.tensors().reduce(
      (sum, { shape, type }) =>
        sum +
        storedBytes(
          type,
          shape.reduce((a, b) => a * b, 1),
        ),
      0,
    ),
  }
}

/** Of a folder whose config.json names one. Its weights are among those of the model. */
export function folderTowerSizes(folder: string): TowerSizes | undefined {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as { vision_config?: unknown }
  const own = config.vision_config as Record<string, number | undefined> | undefined
  if (own === undefined) return undefined
  const { hidden_size: width = 0, image_size: imageSize = 0, num_attention_heads: heads = 0 } = own
  const { num_hidden_layers: layers = 0, patch_size: patchSize = 1 } = own
  const patches = (imageSize / patchSize) ** 2
  const joined = Number((config as { scale_factor?: number }).scale_factor ?? 1)
  return { path: folder, imageSize, patchSize, patches, rows: patches / joined ** 2, layers, width, heads, bytes: 0 }
}
