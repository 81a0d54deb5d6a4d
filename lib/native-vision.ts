// The vision tower as TypeScript sees it: what native.ts is for the decoder.
import type { LoadOptions, NativeFile } from './native.js'

/** What a tower is, read from its file. */
export interface VisionConfig {
  /** Pixels of a side of what the tower reads at once: a crop. */
  readonly imageSize: number
  readonly patchSize: number
  /** Patches of a side of a crop. */
  readonly side: number
  /** Blocks that run: up to the one whose output is projected. */
  readonly layers: number
  readonly width: number
  readonly heads: number
  readonly headSize: number
  readonly classToken: boolean
  readonly projector: 'linear' | 'mlp' | 'pixelShuffle'
  /** Patches of a side that the projector joins to one row of the decoder; 1 but for pixelShuffle. */
  readonly pool: number
  /** The decoder's hidden size. */
  readonly outputSize: number
  /** Of red, green and blue: pixels / 255 less the mean, over the deviation. */
  readonly mean: readonly [number, number, number]
  readonly deviation: readonly [number, number, number]
  /** The row that ends each row of a picture in crops (LLaVA 1.6); empty where there is none. */
  readonly newline: Float32Array
}

/** What is to be observed of an attention, over a crop's own rows (the class token's among them, if there is one). */
export interface VisionLook {
  readonly layer: number
  /**
   * class: the class token's probabilities; classLogits: its scaled products before the softmax. received: for each row the mean over the patch rows of the probability
   * that they give it; given: for each patch row the mean over the patch rows of what it gives. All mean over heads, without the class token's row and column, not renormalised.
   * keys: mean over heads. keyCosines: of these keys, [rows × rows] of each crop, 0 with a key of zeros, until another block's are observed. pairs: the whole [rows × rows] of each crop, mean over heads.
   * Of crops that are joined what is said of a class token is the mean over theirs.
   */
  readonly what: 'class' | 'classLogits' | 'received' | 'given' | 'keys' | 'keyCosines' | 'pairs'
}

/**
 * Crops on their way through the tower; each sees itself alone. Rows are patches, by source: crop × side² + row × side + column (after a pixel shuffle: of its smaller grid).
 * Class tokens are rows of their own that nobody may touch.
 */
export interface NativeGlance {
  /** Rows that are left, ascending. */
  rows(): Int32Array
  /** Patches that each row stands for. */
  sizes(): Float32Array
  /** [rows × width], where the work stands; after the projector [rows × outputSize]. */
  hidden(): Float32Array
  /** [crops × width]; empty without class tokens, and after the projector. */
  classHidden(): Float32Array
  /** What was observed: [rows] as they were then, [rows × headSize] for keys, each crop's [its rows × its rows] one after another for pairs and keyCosines. */
  seen(layer: number, what: VisionLook['what']): Float32Array
  /** Makes the work that runs stop soon; it rejects with code ERR_ABORTED. */
  interrupt(): void
  close(): void
}

export type VisionAction =
  | { drop: Int32Array }
  | { merge: Int32Array; weights?: Float32Array; proportional?: boolean }
  | { blend: Int32Array; weights: Float32Array }
  | { join: number }
  | { carry: true }
  | { recall: Int32Array }

/**
 * Places of the work: 2 × layer is before a block's attention, 2 × layer + 1 before its MLP, 2 × layers before the projector, 2 × layers + 1 behind it.
 */
export interface NativeVision {
  readonly config: VisionConfig
  /** Bytes of the packed weights. */
  readonly bytes: number
  readonly fingerprint: string
  /** pixels: [crops × 3 × imageSize × imageSize], normalised, red, green, blue planes. Copied. */
  open(pixels: Float32Array, crops: number): NativeGlance
  /** Runs to a place, off the event loop. One at a time for a tower: the caller queues. */
  advance(glance: NativeGlance, to: number, looks: readonly VisionLook[]): Promise<void>
  /**
   * Rows that go or fold, in place. drop: sources that stay. merge: row i folds into the row of source merge[i] of the same crop (which holds itself): the mean weighted by
   * `weights`, or by sizes where there are none; sizes add up. With `proportional` a row counts in the attentions to come as all the patches that it stands for (log of
   * its size is added to its score). blend: row i has n shares, in the rows of sources blend[i × n …] of its crop, by `weights` of the same shape, from 0 up; rows in which nobody
   * has one go, the others become the weighted mean of what has, and sizes are shared out. join: so many neighbouring crops read each other as one from then on. carry: the mean of
   * each crop's patches (by sizes) is set aside; recall: those that were come back, in the order in which they were set aside, as rows of size 0 under these sources, which are
   * free. ERR_PLAN where a decision does not fit.
   */
  apply(glance: NativeGlance, action: VisionAction): Promise<void>
  /** Cosines of the patches as they stand, each crop's [its rows × its rows] one after another; 0 with a row of zeros. */
  cosines(glance: NativeGlance): Promise<Float32Array>
  close(): void
}

export interface VisionAddon {
  /** The tower and projector of a file: a GGUF of architecture clip, or a folder of safetensors that holds a tower beside the decoder. The file may be closed when it is there. */
  loadVision(
    file: NativeFile,
    options: LoadOptions,
    progress: ((done: number, total: number) => void) | null,
  ): { vision: Promise<NativeVision>; cancel(): void }
  /**
   * Pixels [height × width × 3] of 8 bits to another size, as the processors of the models do it: separable, the filter stretched by the scale where the picture shrinks, each
   * pass rounded to 8 bits with coefficients of 22 bits. box: the part of the picture that is read, [left, top, right, bottom]. The pixels are read where they lie, off the event
   * loop: until it is done they may neither change nor be transferred.
   */
  resample(
    pixels: Uint8Array,
    width: number,
    height: number,
    to: { width: number; height: number; filter: 'bilinear' | 'bicubic' | 'lanczos'; box?: readonly number[] },
  ): Promise<Uint8Array>
}
