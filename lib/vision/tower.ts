// The vision tower of a model: what its sessions share of it.
import { TokensieveError } from '../errors.js'
import type { VisionShape } from '../methods/method.js'
import { type NativeFile, native } from '../native.js'
import type { NativeVision, VisionConfig } from '../native-vision.js'
import type { Tokenizer } from '../tokenizer/index.js'
import { Encodings } from './cache.js'
import type { Grid } from './layout.js'
import { type Resize, resizer } from './pixels.js'
import { gridOf, type Plans, plansOf, processorOfFolder, processorOfGguf, readJson } from './processor.js'

export interface Tower {
  readonly native: NativeVision
  readonly config: VisionConfig
  readonly shape: VisionShape
  readonly grid: Grid
  readonly plans: Plans
  readonly resize: Resize
  readonly encodings: Encodings
  /** What a chat template writes where a picture belongs. */
  readonly placeholder: string
  /** The template takes content in parts and writes the placeholder for those that are pictures. */
  readonly inTemplate: boolean
}

/** made: from this file, a GGUF, or a folder. */
export async function towerOf(
  made: NativeVision,
  file: NativeFile,
  folder: string | undefined,
  tokenizer: Tokenizer,
): Promise<Tower> {
  const own = freeze(made.config)
  const { processor, ...colours } =
    folder === undefined ? { processor: processorOfGguf(file, own) } : await processorOfFolder(folder, own)
  const config = freeze({ ...own, ...colours } as VisionConfig)
  const grid = gridOf(config)
  const placeholder = folder === undefined ? PLACEHOLDER : await placeholderOf(folder, tokenizer)
  return {
    native: made,
    config,
    shape: shapeOf(config),
    grid,
    plans: plansOf(processor, grid),
    resize: resizer((...given) => native().resample(...given), processor.filter),
    encodings: new Encodings(),
    placeholder,
    inTemplate: takesPictures(tokenizer, placeholder),
  }
}

/** ERR_FILE_FORMAT where the tower was made for another decoder. */
export function checkFit({ outputSize }: VisionConfig, hiddenSize: number): void {
  if (outputSize === hiddenSize) return
  throw new TokensieveError(
    'ERR_FILE_FORMAT',
    `[vision] expected a projector that gives rows of ${hiddenSize} numbers, as the model reads, but its rows have ${outputSize}`,
  )
}

function freeze(config: VisionConfig): VisionConfig {
  return Object.freeze({
    ...config,
    mean: Object.freeze([...config.mean]) as VisionConfig['mean'],
    deviation: Object.freeze([...config.deviation]) as VisionConfig['deviation'],
  })
}

function shapeOf({ classToken, headSize, heads, layers, outputSize, pool, width }: VisionConfig): VisionShape {
  return Object.freeze({ classToken, headSize, heads, layers, outputSize, pool, width })
}

const PLACEHOLDER = '<image>'

async function placeholderOf(folder: string, tokenizer: Tokenizer): Promise<string> {
  const config = await readJson(`${folder}/tokenizer_config.json`)
  const named = config?.image_token
  if (typeof named === 'string' && named !== '') return named
  const model = await readJson(`${folder}/config.json`)
  const id = model?.image_token_index ?? model?.image_token_id
  const known = typeof id === 'number' && id >= 0 && id < tokenizer.vocabularySize
  return (known && tokenizer.decode([id], { special: true })) || PLACEHOLDER
}

/** What the template makes of a picture is seen by giving it one. */
function takesPictures(tokenizer: Tokenizer, placeholder: string): boolean {
  const text = '\uFDD3'
  try {
    const said = tokenizer.chat([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text }] }])
    return said.split(placeholder).length === 2 && said.split(text).length === 2
  } catch {
    return false // it has none, or takes strings alone
  }
}
