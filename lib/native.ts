// The addon as TypeScript sees it. The only file that loads it; everything numeric crosses here as typed arrays, in coarse calls.
import { loadAddon, packageRoot } from '../native/load.cjs'
import { fromNative } from './errors.js'
import type { NativeKernels } from './native-kernels.js'
import type { VisionAddon } from './native-vision.js'
import type { PackedStrings } from './tokenizer/index.js'

export type DType = 'f32' | 'f16' | 'bf16' | 'q8_0' | 'q4_0' | 'kivi4' | 'kivi2'

/** What a model is, read from its file. */
export interface ModelConfig {
  readonly architecture: string
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
  readonly hiddenSize: number
  readonly feedForwardSize: number
  readonly vocabularySize: number
  readonly contextLength: number
  /** Rows that a layer's attention sees at most, 0 for all; one entry a layer. */
  readonly windows: readonly number[]
  /** Keys are normed (QK norm): their lengths say little. */
  readonly normedKeys: boolean
  readonly name?: string
}

export interface LoadOptions {
  threads: number
  /** Name of a backend of the processor, or 'auto'. */
  isa: string
  /** Whether greedy steps may find their token without all of the head (kernels/screen.h): never another token. Default true. */
  screen?: boolean
  /** 'fit', or layers [from, to) and their card (to -1: the last layer; card -1: the processor). Absent, and for towers: the processor. */
  placement?: 'fit' | NativePlacement[]
}

export interface NativePlacement {
  from: number
  to: number
  card: number
}

/** How the rows of a KV head are stored. */
export interface HeadKv {
  keys: DType
  values: DType
  /** Of quantized types: rows that stay in finer ones (see KvOptions of kv.ts). */
  sinks: number
  recent: number
  residual: number
  /** What is not quantized yet; default f16. */
  fresh?: 'f16' | 'q8_0'
  /** The cache holds keys or values after a Hadamard transform; what this interface gives of it is as without. */
  hadamardKeys: boolean
  hadamardValues: boolean
}

export interface SessionOptions {
  contextLength: number
  /** Ways to store rows, and [layers × kvHeads] which of them each KV head has; empty: all the first. */
  kv: HeadKv[]
  kvOf: Int32Array
  /** Layers whose attention (no cache is held then) or MLP does not run. */
  skipAttention: Int32Array
  skipMlp: Int32Array
  /** Query heads that give nothing, as layer × heads + head. */
  skipHeads?: Int32Array
  /** Keys are stored un-rotated and rotated by their slot when read: cache methods with positions 'repack'. */
  repack: boolean
  /** Where activations are rounded finely: in the layers, for calls of more than one token, or everywhere. */
  fine?: 'prompts' | 'all'
}

/** What native keeps of a layer's attention while a call runs; added up over the chunks of a prompt. */
export interface Look {
  layer: number
  /** Probabilities of the last `rows` rows of the call (all where rows is larger), summed over those rows, one line a query head. */
  attention?: { rows: number }
  /** Attention mass over all rows of the call, kept with the cache rows and added to at decode: what H2O needs; not in the KV heads `unsummed`. */
  columnSums?: boolean
  unsummed?: Int32Array
  /** What queries distributed like those of the call would give each cache row from the next `ahead` positions; the session's first `skip` tokens are no part of it. */
  expected?: { ahead: number; skip: number }
  /** Norms of the call's keys as they come, before they are rotated and stored. */
  keyNorms?: boolean
}

/**
 * A rule that native applies after every decode step, by itself. The budget of a head is `tokens` rows; where that is 0, `share` of the tokens so far that the layer may hold
 * (all, or its window), rounded up, at least 1.
 *   window: the newest row stays first, then the first `sinks`, then the newer ones
 *   mass: the newest rows stay (`recent` is their share of the budget, rounded up), of the others the one with the least accumulated mass goes; of equals the lower stays
 * maxDropped: of all attention that a head's rows have gathered, the share that may go with those that went; a row that would make it more stays, beyond the budget. Default 1.
 */
export type Rule = { tokens: number; share: number; maxDropped?: number } & (
  | { kind: 'window'; sinks: number }
  | { kind: 'mass'; recent: number }
)

export interface NativeStats {
  bytes: number
  /** The most that `bytes` was after a stage call. */
  peakBytes: number
  /** Of `bytes`: rows that are set aside. */
  storedBytes: number
  layers: { rows: number[]; bytes: number }[]
}

/** Rows of a head that fold into others, by source: each adds weights[i] times row from[i] to row into[i], which keeps 1 of itself, or what an entry with from = into says. */
export interface Fold<I = ArrayLike<number>, W = ArrayLike<number>> {
  readonly from: I
  readonly into: I
  readonly weights: W
}

/**
 * What a plan does to a session. drop: sources of the rows that go on. merge: row i of the call folds into the row of source merge[i] (which holds itself); the mean is weighted by
 * sizes. pass: sources of the rows that take part in the layer where the call stands; the others pass it by, with `mlp` its attention alone; weights, of all rows, without `mlp`: times
 * what the MLP adds to those that take part, times the others. repack renumbers the positions of what is left. evict: sources that stay, a KV head each; before the others go, `folds` (one a head) adds them to those in double, values
 * and, with `keys`, keys too; with `sizes` they become means instead, weighted by weights times the tokens that rows hold, and count in attention by the sum of those. stored, where given:
 * sources that are set aside afterwards, a KV head each; `evict` may then name rows that were, which come back. coarse: sources of rows that are stored in 2 bits from now on, a KV head each, after all evictions; tokens without a row are passed over. commit ends the call, so that the memory of what was evicted is given back off the event loop too.
 */
export type Action =
  | { drop: Int32Array; repack: boolean }
  | { merge: Int32Array; repack: boolean }
  | { pass: Int32Array; mlp: boolean; weights?: Float32Array }
  | {
      layer: number
      evict: Int32Array[]
      stored?: Int32Array[]
      folds?: Fold<Int32Array, Float32Array>[]
      keys?: boolean
      sizes?: boolean
    }
  | { coarse: { layer: number; sources: Int32Array[] }[] }
  | { commit: true }

export interface SamplerOptions {
  temperature: number
  topK: number
  topP: number
  minP: number
  repeatPenalty: number
  seed: number
}

/** Rows of one session that a stage call takes at most (kStageRows). */
export const STAGE_ROWS = 512

/** Rows that stand where ids have none of their own: places in the call's ids, ascending, and [places × hiddenSize]. */
export interface Features {
  readonly places: Int32Array
  readonly rows: Float32Array
}

/** One session's part of a stage call. */
export interface Advance {
  session: NativeSession
  /** Layers [from, to). from 0 embeds first; to 0 does no more than that. */
  from: number
  to: number
  /** Rows [begin, end) of the call's rows as they are now (dropped ones are gone). At most 512. */
  begin: number
  end: number
  /** What is wanted where `to` is the last layer and `end` the last row. */
  head?: {
    /** 'last': the logits of the last row; 'all': of rows [begin, end); 'scores': log-probability of each row's own id given what came before it (NaN where that is not known). */
    logits: 'none' | 'last' | 'all' | 'scores'
    /** Samples a token from the last row's logits. */
    sampler?: NativeSampler
    /** Ids that the repeat penalty sees. */
    recent?: Int32Array
    /** Also the log-probability of the sampled token. */
    logprob?: boolean
  }
}

export interface Advanced {
  logits?: Float32Array
  token?: number
  logprob?: number
  /** Why this session's part failed; nothing else is there then. The others have gone on. */
  error?: Error
}

export interface NativeSampler {
  readonly kind: 'sampler'
}

/**
 * One session. A call (prompt or decode step) is begin, then stage calls, then commit; or rollback, after which nothing has happened.
 * Sources are indices into the session's ids; rows of a call are in order of source.
 */
export interface NativeSession {
  /**
   * Starts a call with these ids; their sources follow the last one. ERR_CONTEXT_FULL where they do not fit. An id below 0 is a patch: it needs a row of `features`, unless a drop
   * takes it away before the call is embedded; its score is NaN.
   */
  begin(ids: Int32Array, looks: Look[], features?: Features): void
  /** The same without looks, for a call that will be taken back in any case. */
  peek(ids: Int32Array, features?: Features): void
  /** Whether the row that the newest token left is known: what a score of the next token needs. */
  knowsLast(): boolean
  /** Rows of the call that are left, by source. */
  rows(): Int32Array
  /** Hidden rows [n × hiddenSize] that enter the layer where the call stands. */
  hidden(): Float32Array
  /** What was looked at in a layer: [rows of that head's cache], mean over the group, summed over the looked rows; empty where nobody looked. */
  attention(layer: number, kvHead: number): Float32Array
  /** What is expected of a layer: [rows of that head's cache], mean over the group; empty where nobody asked, or before the call's last row. */
  expected(layer: number, kvHead: number): Float32Array
  commit(): void
  rollback(): void
  /** Makes the stage call that runs stop soon; it rejects with code ERR_ABORTED. */
  interrupt(): void

  /** Rows of the KV head that holds the most. */
  liveRows(): number
  /** Cache of a layer. A head's rows are in order of source. */
  cacheRows(layer: number, head: number): number
  cacheSources(layer: number, head: number): Int32Array
  cacheMass(layer: number, head: number): Float32Array
  /** The mass of rows that were evicted, of those whose mass was kept. */
  cacheDropped(layer: number, head: number): number
  cacheKeys(layer: number, head: number): Float32Array
  cacheValues(layer: number, head: number): Float32Array
  /** Of the call's rows as they came where a look asks for that, of all others as stored. */
  cacheKeyNorms(layer: number, head: number): Float32Array
  /** Rows that are set aside, in order of source. */
  storedSources(layer: number, head: number): Int32Array
  storedValues(layer: number, head: number): Float32Array
  setRule(layer: number, rule: Rule | null): void

  truncate(tokens: number): void
  reset(): void
  /** At the end of a call, before it is committed: as if it were done, with the rows that sliding layers then give up. */
  fork(): NativeSession
  /** So many of the first tokens have a row in every head of every layer, as a prompt of any length would have stored them. */
  firstRows(): number
  /** Makes this empty session begin with the first tokens of another one of the same options (contextLength aside), whose rows are shared until one of the two changes them. All of its tokens: as its fork, rules aside. */
  take(from: NativeSession, tokens: number): void
  /** Memory of its free pages goes back to the system, unless a call is under way. */
  giveBack(): void
  /** Live, while a stage call runs too. */
  stats(): NativeStats
  close(): void
}

/** A model file that is open for reading. */
export interface NativeFile {
  readonly bytes: number
  readonly fingerprint: string
  /** A value of the file; numbers of arrays come as Float64Array, strings of arrays packed. */
  metadata(key: string): string | number | boolean | PackedStrings | Float64Array | undefined
  metadataKeys(): string[]
  tensors(): { name: string; type: string; shape: number[] }[]
  close(): void
}

export interface NativeModel {
  readonly config: ModelConfig
  /** Bytes of the packed weights. */
  readonly bytes: number
  readonly isa: string
  readonly stages: { from: number; to: number; device: string; why?: string }[]
  readonly fingerprint: string
  /** Bytes of one cache row of one KV head, both sides. */
  rowBytes(keys: DType, values: DType): number
  session(options: SessionOptions): NativeSession
  restore(options: SessionOptions, saved: Uint8Array): Promise<NativeSession>
  sampler(options: SamplerOptions): NativeSampler
  /** One stage call for a batch of sessions, off the event loop. One at a time: the scheduler queues. */
  advance(batch: Advance[]): Promise<Advanced[]>
  /** Carries out decisions of methods, in order; a rollback takes those of a prompt back. ERR_PLAN where one does not fit. */
  apply(session: NativeSession, actions: Action[]): Promise<void>
  /** The head for the newest row of a session where no call is under way; nothing runs. knowsLast says whether that row is there. */
  speak(session: NativeSession, head: NonNullable<Advance['head']>): Promise<Advanced>
  save(session: NativeSession): Promise<Uint8Array>
  /**
   * Attention of the last `rows` rows of the call in the layer that would run next (its own norm and projections of the hidden rows as they stand):
   * [rows of the call], mean over heads, summed over the looked rows; the softmax runs over the cache's rows too. Nothing changes.
   */
  probe(session: NativeSession, layer: number, rows: number): Promise<Float32Array>
  /** Un-rotated keys of the call's rows in the layer that would run next, mean over KV heads: [rows × headSize]. */
  probeKeys(session: NativeSession, layer: number): Promise<Float32Array>
  /** Of the call's rows in these places, two at least, by their probeKeys: the even ones of the list find their partners among the odd ones, each by its number there. */
  probePartners(
    session: NativeSession,
    layer: number,
    places: Int32Array,
  ): Promise<{ partner: Int32Array; similarity: Float32Array }>
  /** Of rows of a layer's cache, by source, one entry a KV head: for each of `from` the place in `into` of the row most like it (kernels/partners.h, keys and values); ERR_PLAN where one is not there. */
  match(
    session: NativeSession,
    wanted: { layer: number; heads: { from: Int32Array; into: Int32Array }[] }[],
  ): Promise<{ partner: Int32Array; similarity: Float32Array }[][]>
  /** Probabilities [rows × heads × tokens so far and of the call], by source (0 where there is no row), of the given rows (places in the call's rows) in the layer that would run next. */
  probeRows(session: NativeSession, layer: number, rows: Int32Array): Promise<Float32Array>
  /** The same of the call's rows alone, mean over heads: [rows × rows of the call]. */
  probeMeans(session: NativeSession, layer: number, rows: Int32Array): Promise<Float32Array>
  /**
   * PageRank over the attention that all rows of the call would give each other in the layer that would run next, its scores over a temperature: in each query head d <- d M, so many
   * times, from all equal; [rows of the call], the root of the mean of the heads' squares.
   */
  probeRank(session: NativeSession, layer: number, temperature: number, rounds: number): Promise<Float32Array>
  close(): void
}

/** What ran since start. events: 9 numbers each: kind (call, layer, kernel, work, wait), place in names, thread, layer, begin and end in milliseconds since start, threads, rows, columns. */
export interface Recording {
  /** Milliseconds from start to stop. */
  time: number
  /** Events that did not fit. */
  lost: number
  names: string[]
  events: Float64Array
}

export interface NativeTrace {
  /** False where another recording is under way. */
  start(): boolean
  stop(): Recording
}

export interface Addon extends VisionAddon {
  /** progress is called from the event loop with done and total bytes. */
  open(path: string): Promise<NativeFile>
  /** The file may be closed when the model is there. */
  load(
    file: NativeFile,
    options: LoadOptions,
    progress: ((done: number, total: number) => void) | null,
  ): { model: Promise<NativeModel>; cancel(): void }
  /** Places of a hash table over strings, or over those whose type says that they are words (native/engine/vocabulary.h). */
  byteTable(strings: PackedStrings, types: Uint8Array | null): Int32Array
  /** What written tokens stand for, and which bytes stand before a space inside a word. */
  pieces(written: PackedStrings, types: Uint8Array, byteLevel: boolean): PackedStrings & { glue: Uint8Array }
  /** Cards that layers can be placed on: "cuda:0", its name and the bytes that are free on it. */
  devices(): { device: string; name: string; free: number }[]
  /** '' where a card computes what the reference does, else in plain words what it does otherwise; found out once a process. */
  checkDevice(card: number): Promise<string>
  physicalCores(): number
  /** Memory that the caches of the process hold, shared rows once. */
  cacheBytes(): number
  readonly kernels: NativeKernels
  readonly trace: NativeTrace
}

export { packageRoot }

let addon: Addon | undefined

/** Loads the addon on first use, so that importing the package costs nothing and a missing binary is an error where it matters. */
export function native(): Addon {
  try {
    addon ??= loadAddon() as Addon
  } catch (error) {
    throw fromNative(error)
  }
  return addon
}
