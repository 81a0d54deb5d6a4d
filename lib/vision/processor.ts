// How a model wants its pictures: read from the keys of its mmproj, or from the preprocessor_config.json of its folder.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TokensieveError } from '../errors.js'
import type { NativeFile } from '../native.js'
import type { VisionConfig } from '../native-vision.js'
import { anyres, type Resolution } from './anyres.js'
import type { Grid, Plan } from './layout.js'
import type { Filter } from './pixels.js'
import { tiles } from './tiles.js'
import { centred, padded, pressed } from './whole.js'

/** What becomes of a picture: pressed into a square, cut to its middle, padded, in tiles of the best of some resolutions, or in as many tiles as it fills. */
export type Processor = { readonly filter: Filter } & (
  | { readonly kind: 'square' }
  | { readonly kind: 'crop'; readonly shortest: number }
  | { readonly kind: 'pad'; readonly colour: readonly number[] }
  | { readonly kind: 'anyres'; readonly resolutions: readonly Resolution[] }
  | { readonly kind: 'tiles'; readonly longest: number; readonly split: boolean }
)

export interface Plans {
  readonly image: Plan
  /** One frame of a film: a single crop. */
  readonly frame: Plan
}

export function gridOf({ imageSize, pool, side }: VisionConfig): Grid {
  return { size: imageSize, side, rows: side / pool }
}

export function plansOf(processor: Processor, grid: Grid): Plans {
  if (processor.kind === 'anyres') return { image: anyres(grid, processor.resolutions), frame: pressed(grid) }
  if (processor.kind === 'tiles')
    return { image: tiles(grid, processor.longest, processor.split), frame: tiles(grid, processor.longest, false) }
  const plan =
    processor.kind === 'crop'
      ? centred(grid, processor.shortest)
      : processor.kind === 'pad'
        ? padded(grid, processor.colour)
        : pressed(grid)
  return { image: plan, frame: plan }
}

/** The colour that pads: the mean. */
function ground({ mean }: Pick<VisionConfig, 'mean'>): number[] {
  return mean.map((value) => Math.trunc(value * 255))
}

export function processorOfGguf(file: NativeFile, config: VisionConfig): Processor {
  const key = (name: string) => file.metadata(`clip.vision.${name}`)
  const pinpoints = key('image_grid_pinpoints')
  if (pinpoints instanceof Float64Array && pinpoints.length > 0) {
    const pairs = Array.from({ length: pinpoints.length >> 1 }, (_, i) => [pinpoints[2 * i], pinpoints[2 * i + 1]])
    return { kind: 'anyres', filter: 'bicubic', resolutions: checkResolutions(pairs, config) }
  }
  if (file.metadata('clip.projector_type') === 'idefics3') {
    const longest = key('preproc_image_size')
    const fits = typeof longest === 'number' && longest >= config.imageSize
    return { kind: 'tiles', filter: 'lanczos', longest: fits ? longest : 4 * config.imageSize, split: true }
  }
  const ratio = key('image_aspect_ratio')
  if (ratio === 'square') return { kind: 'square', filter: 'bicubic' }
  if (ratio === 'crop') return { kind: 'crop', filter: 'bicubic', shortest: config.imageSize }
  return { kind: 'pad', filter: 'bicubic', colour: ground(config) }
}

function checkResolutions(pairs: unknown, { imageSize }: VisionConfig): Resolution[] {
  const fits = (length: unknown) =>
    typeof length === 'number' && length >= imageSize && length <= 64 * imageSize && length % imageSize === 0
  if (Array.isArray(pairs) && pairs.length > 0 && pairs.every((pair) => Array.isArray(pair) && pair.length === 2))
    if (pairs.every(([h, w]) => fits(h) && fits(w))) return pairs as unknown as Resolution[]
  throw new TokensieveError(
    'ERR_FILE_FORMAT',
    `[vision] expected image_grid_pinpoints in multiples of ${imageSize} pixels, the side of a tile`,
  )
}

interface Json {
  readonly [key: string]: unknown
}

/** The processor of a folder, and the mean and deviation that it names. */
export async function processorOfFolder(
  folder: string,
  config: VisionConfig,
): Promise<{ processor: Processor; mean?: readonly number[]; deviation?: readonly number[] }> {
  const own = (await readJson(join(folder, 'preprocessor_config.json'))) ?? {}
  const model = (await readJson(join(folder, 'config.json'))) ?? {}
  const colours = { ...threeOf(own.image_mean, 'mean'), ...threeOf(own.image_std, 'deviation') }
  return { processor: processorOf(own, model, { ...config, ...(colours as Partial<VisionConfig>) }), ...colours }
}

function processorOf(own: Json, model: Json, config: VisionConfig): Processor {
  const type = String(own.image_processor_type ?? own.processor_class ?? '').replace(/Fast$/, '')
  const edge = (value: unknown, name: string) => (value as Json | undefined)?.[name]
  if (/Idefics3|SmolVLM/.test(type)) {
    const longest = edge(own.size, 'longest_edge')
    const split = own.do_image_splitting !== false
    const tall = typeof longest === 'number' ? longest : 4 * config.imageSize
    return { kind: 'tiles', filter: filterOf(own.resample, 'lanczos'), longest: tall, split }
  }
  const filter = filterOf(own.resample, 'bicubic')
  const pinpoints = own.image_grid_pinpoints ?? model.image_grid_pinpoints
  if (/LlavaNext/.test(type) || model.model_type === 'llava_next')
    return { kind: 'anyres', filter, resolutions: checkResolutions(pinpoints, config) }
  if (own.do_pad === true) return { kind: 'pad', filter, colour: ground(config) }
  const shortest = typeof own.size === 'number' ? own.size : edge(own.size, 'shortest_edge')
  if (typeof shortest === 'number' && own.do_center_crop !== false)
    return { kind: 'crop', filter, shortest: Math.max(1, Math.trunc(shortest)) }
  return { kind: 'square', filter }
}

/** As Pillow numbers them. */
function filterOf(resample: unknown, otherwise: Filter): Filter {
  if (resample === undefined) return otherwise
  const filter = ({ 1: 'lanczos', 2: 'bilinear', 3: 'bicubic' } as const)[resample as 1]
  if (filter === undefined)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `[vision] expected the resampling 1 (Lanczos), 2 (bilinear) or 3 (bicubic), but the model asks for ${JSON.stringify(resample)}`,
    )
  return filter
}

function threeOf(value: unknown, name: string): { [name: string]: readonly number[] } {
  const fits = Array.isArray(value) && value.length === 3 && value.every((one) => Number.isFinite(one))
  return fits ? { [name]: value as number[] } : {}
}

export async function readJson(path: string): Promise<Json | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'))
    return typeof value === 'object' && value !== null ? (value as Json) : undefined
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new TokensieveError('ERR_FILE_FORMAT', `[vision] expected JSON in ${path}: ${(cause as Error).message}`, {
      cause,
    })
  }
}
