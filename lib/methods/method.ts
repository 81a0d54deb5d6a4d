// The contracts of a method: what it is, where it looks, what it sees, what it may decide. Built-in methods and those of defineMethod are the same thing.
import type { Budget } from '../budget.js'
import type { Fold, Rule } from '../native.js'

export type { Fold, Rule } from '../native.js'

/** Where a method acts. */
export type Acts = 'prompt' | 'vision' | 'layers' | 'cache' | 'attention' | 'draft' | 'probe'

/** What becomes of rotary positions: survivors keep theirs, or are renumbered without gaps. */
export type Positions = 'keep' | 'repack'

/** The sizes of a model that a method may want to know. */
export interface Shape {
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
  readonly hiddenSize: number
  /** Rows that a layer's attention sees at most, 0 for all. */
  readonly windows: readonly number[]
  /** Keys are normed before they are cached, so that their lengths say little; default false. */
  readonly normedKeys?: boolean
  /** Bytes of one cache row of one KV head, keys and values together, in the session's types: a mean over layers and heads. */
  readonly rowBytes: number
  /** Of quantized types: of a row that stays in float, and what all of those together take more in a head. Default: rowBytes, and 0. */
  readonly newRowBytes?: number
  readonly floatBytes?: number
  /** Missing where the model reads text only: methods that act in the tower then do nothing. */
  readonly vision?: VisionShape
}

/**
 * A place where a method wants to look.
 *   'vision'   while pictures are encoded: before `part` of block `layer` of the tower; the parts 'projector' and 'decoder' come after the last block, whose number is then the
 *              tower's number of blocks. decide() may drop or merge patches.
 *   'session'  once, before anything runs: decide() may skip sub-layers and set standing rules.
 *   'layer'    while a prompt is read, before `layer` (from 1) runs: decide() may drop or merge the call's droppable rows.
 *   'prompt'   at the end of every call of more than one token: decide() may evict rows of the cache layers named.
 *   'decode'   after every `every`-th decode step: the same.
 */
export type Look =
  | { at: 'session' }
  | { at: 'vision'; layer: number; part: VisionPart; needs: readonly VisionNeed[] }
  | { at: 'layer'; layer: number; needs: readonly LayerNeed[] }
  | { at: 'prompt'; layers: readonly number[]; needs: readonly CacheNeed[] }
  | { at: 'decode'; every: number; layers: readonly number[]; needs: readonly CacheNeed[] }

/** What of a tower comes next. */
export type VisionPart = 'attention' | 'mlp' | 'projector' | 'decoder'

/**
 * What is observed of the attention of one block (see VisionLook of native-vision.ts). Before an MLP that is mostly its own block's; hidden rows can always be read. cosines: of the
 * hidden rows as they stand, [its rows × its rows] for each crop; `layer` is the look's own. keyCosines: the same of the keys of the block that attended last, and of no earlier one.
 */
export interface VisionNeed {
  readonly what: VisionWhat
  readonly layer: number
}
export type VisionWhat = 'class' | 'classLogits' | 'received' | 'given' | 'keys' | 'keyCosines' | 'pairs' | 'cosines'

/** The sizes of a vision tower that a method may want to know. */
export interface VisionShape {
  readonly layers: number
  readonly width: number
  readonly heads: number
  readonly headSize: number
  readonly classToken: boolean
  /** Patches of a side that the projector joins; methods that act before it need 1. */
  readonly pool: number
  readonly outputSize: number
}

/** What the tower reads at once: a whole picture, its thumbnail, a tile of it, or a frame of a film. */
export interface Crop {
  readonly kind: 'whole' | 'thumbnail' | 'tile' | 'frame'
  /** Which picture or film of the prompt. */
  readonly image: number
  /** Of a tile: its place in the grid of tiles; of a frame: its number, and 0. */
  readonly row: number
  readonly column: number
  /** Patches, as rows and columns. */
  readonly rows: number
  readonly columns: number
}

/**
 * attention: of the last `rows` rows of the call in the layer before ('before') or, by a probe, in the layer that would run next ('next'). keys: of the layer that would run
 * next. partners: of the droppable rows, by those keys. question: what each row behind the last droppable one looks at in the layer that would run next; sampled: the same of the
 * newest `newest` rows of the call and `others` more by chance. rank: of all rows, PageRank over the attention of that layer, its scores over `temperature`, after so many rounds.
 * embedded: rows as they entered the first layer. class: what the class token of the tower gives each patch in the last block.
 */
export type LayerNeed =
  | { what: 'attention'; rows: number; of: 'before' | 'next' }
  | { what: 'keys' }
  | { what: 'partners' }
  | { what: 'hidden' }
  | { what: 'question' }
  | { what: 'sampled'; newest: number; others: number }
  | { what: 'rank'; temperature: number; rounds: number }
  | { what: 'embedded' }
  | { what: 'class' }

/**
 * A bipartite match: of the droppable rows the even ones (the first, the third, …) are A, the odd ones B. Row i of A finds row partner[i] of B with the most similar key
 * (of equals the lowest); similarity[i] is their cosine, 0 with a row of zeros.
 */
export interface Partners {
  readonly partner: Int32Array
  readonly similarity: Float32Array
}

/** Rows that are asked: their places, ascending, and what they look at, [asking × rows of the call], mean over heads. */
export interface Question {
  readonly asking: Int32Array
  readonly attention: Float32Array
}

/**
 * attention: of the last `rows` rows of the call. columnSums: of all rows, added up over prompt and decode steps; not kept for the [layer, KV head] pairs in `except`. expected: what queries like those of the call would look at from
 * the next `ahead` positions, the session's first `skip` tokens left out. keyNorms: of keys as they are computed; rows of earlier calls as they are stored, as all are without it.
 * Small differences between norms decide: prompts of a session whose methods ask for them run in fine arithmetic. Keys, values and norms can always be read.
 */
export type CacheNeed =
  | { what: 'attention'; rows: number }
  | { what: 'columnSums'; except?: readonly (readonly number[])[] }
  | { what: 'expected'; ahead: number; skip: number }
  | { what: 'keyNorms' }

/** What is seen while the pictures of a prompt are encoded. Rows are patches that are left, by source: crop × patches of a crop + row × columns + column. All may go. */
export interface VisionSeen {
  readonly at: 'vision'
  readonly shape: Shape
  readonly vision: VisionShape
  readonly layer: number
  readonly part: VisionPart
  readonly step: number
  readonly sources: Int32Array
  readonly crops: readonly Crop[]
  /** So many neighbouring crops read each other as one: 1 where nobody has joined them. */
  readonly joined: number
  /** How many patches there were at first (of which `sources` are left). */
  readonly given: number
  /** The place of a patch in session.ids, by which plans name it; missing: sources themselves. */
  place?(source: number): number
  /** [rows]: patches that each row stands for; 0 for rows that came back. */
  sizes(): Float32Array
  /** [rows], [rows × headSize] for keys, each crop's [its rows × its rows] for pairs and cosines: what was observed in a block, of the rows that are left. */
  seen(what: VisionWhat, layer: number): Float32Array
  /** [rows × width]; at 'decoder' [rows × outputSize]. */
  hidden(): Float32Array
}

/** What is seen before a layer. Rows are those of the call that are left, in order; `sources` are their indices into session.ids. */
export interface LayerSeen {
  readonly at: 'layer'
  readonly shape: Shape
  readonly layer: number
  /** Calls of the session before this one: 0 for the first prompt. */
  readonly step: number
  readonly sources: Int32Array
  /** Places in `sources` that may go, ascending. The last row of a call, which speaks next, is never among them. */
  readonly droppable: Int32Array
  /** How many droppable tokens the call was given (of which `droppable` are left). */
  readonly given: number
  /** How many of those entered the first layer: methods of the tower have taken the others. */
  readonly came: number
  /** What is known of droppable rows that are patches: by source; missing for text. */
  patch?(source: number): Patch | undefined
  /** [rows]: probability of each row of the call, mean over query heads, mean over the looked rows. */
  attention(): Float32Array
  /** [rows × headSize], un-rotated, mean over KV heads. */
  keys(): Float32Array
  /** Of the droppable rows, of which there are two at least. */
  partners(): Partners
  /** [rows × hiddenSize]. */
  hidden(): Float32Array
  /** Of the text that follows what may go, its newest rows, 64 at most. */
  question(): Question
  sampled(): Question
  /** [rows]: the root of the mean over query heads of squared ranks. */
  rank(): Float32Array
  /** [rows]: mean over heads; 0 for what is no patch, and without a class token. */
  class(): Float32Array
  /** [rows × hiddenSize], before the first layer; of rows that others have folded into, their own. */
  embedded(): Float32Array
}

/** Where a patch of a prompt comes from: its picture's crop, and its place there. */
export interface Patch {
  readonly crop: Crop
  readonly row: number
  readonly column: number
}

/** What is seen of one layer's cache. Row j of head h is token sources(h)[j]. */
export interface CacheSeen {
  readonly at: 'prompt' | 'decode'
  readonly shape: Shape
  readonly layer: number
  /** Calls of the session before this one: 0 for the first prompt, then the number of the decode step. */
  readonly step: number
  /** Tokens so far, dropped and evicted ones included: what a share is taken of. */
  readonly tokens: number
  /** Tokens whose rows stay in every head as long as its budget has room for them: what `protect` holds. */
  readonly safe?: ReadonlySet<number> | undefined
  /** Tokens of the call that a layer method has dropped on their way through the layers, ascending. */
  gone(): Int32Array
  sources(head: number): Int32Array
  /** [rows]: mean over the group's query heads, summed over the looked rows. */
  attention(head: number): Float32Array
  /** [rows]: the accumulated mass. */
  columnSums(head: number): Float32Array
  /** The mass that rows had when they were evicted, all together. */
  dropped?(head: number): number
  /** [rows]: probability, mean over the group's query heads; 0 for the first `skip` tokens. */
  expected(head: number): Float32Array
  keyNorms(head: number): Float32Array
  /** [rows × headSize], as cached. */
  keys(head: number): Float32Array
  values(head: number): Float32Array
  /** Tokens whose rows are set aside, ascending; with `storedValues` [rows × headSize]. */
  stored(head: number): Int32Array
  storedValues(head: number): Float32Array
}

export interface SessionSeen {
  readonly at: 'session'
  readonly shape: Shape
}

export type Seen = SessionSeen | VisionSeen | LayerSeen | CacheSeen

/**
 * Rows of a head that go and look among rows that stay for the one most like them, keys and values together (the product of both cosines, each 0 where it is negative; of equals the
 * lower one). Where it is `least` alike or more they fold into it: its value becomes the mean, weighted by `mass`. Native finds them before anything is applied; the plan holds the
 * {@link Fold} that comes of it.
 */
export interface Match {
  readonly from: ArrayLike<number>
  readonly into: ArrayLike<number>
  readonly mass: { readonly from: ArrayLike<number>; readonly into: ArrayLike<number> }
  readonly least: number
}

/**
 * Rows that go fold into rows that stay, one {@link Fold} or one {@link Match} a KV head: their values, with `keys` their keys too. With `sizes` the row becomes the mean of what folds, weighted by
 * weights times the tokens that each row holds, and then counts in attention as all of these tokens (log of their number is added to its score).
 */
export interface Folding {
  readonly folds?: readonly Fold[]
  readonly matches?: readonly Match[]
  readonly keys?: boolean | undefined
  readonly sizes?: boolean | undefined
}

/**
 * What a method wants done; checked by plan.ts, carried out by native. kept, into and keptPerHead are sources, ascending. storedPerHead: rows that are set aside from now on instead
 * of going for good; with it keptPerHead may name rows that were set aside before, which come back. coarsePerHead: sources too, rows that are stored in 2 bits from now on. `method`: who decided, where a wrapper passes it on.
 */
export type Decision = { method?: string } & (
  | { action: 'skip'; layer: number; what: 'attention' | 'mlp' | 'block' }
  // what these query heads attend to counts as zero
  | { action: 'skip'; layer: number; what: 'heads'; heads: readonly number[] }
  | { action: 'drop'; layer: number; kept: ArrayLike<number>; positions: Positions; scores?: ArrayLike<number> }
  | { action: 'merge'; layer: number; into: ArrayLike<number>; positions: Positions }
  // rows that are not kept pass this one layer by: all of it, or its attention. They have no cache row there, and come back. weights, of all rows, of a whole layer: times what the MLP
  // adds, of rows that pass it times the row
  | {
      action: 'pass'
      layer: number
      what: 'attention' | 'block'
      kept: ArrayLike<number>
      weights?: ArrayLike<number>
      scores?: ArrayLike<number>
    }
  // of patches while they are encoded; sources of the tower
  | { action: 'dropPatches'; layer: number; kept: ArrayLike<number>; scores?: ArrayLike<number> }
  | {
      action: 'mergePatches'
      layer: number
      into: ArrayLike<number>
      weights?: ArrayLike<number>
      proportional?: boolean
      scores?: ArrayLike<number>
    }
  // [rows × n] shares of each row, see VisionAction of native-vision.ts
  | { action: 'blendPatches'; layer: number; into: ArrayLike<number>; weights: ArrayLike<number> }
  | { action: 'joinCrops'; layer: number; crops: number }
  | { action: 'carryPatches'; layer: number }
  | { action: 'recallPatches'; layer: number; as: ArrayLike<number> }
  | ({ action: 'evict'; layer: number; keptPerHead: readonly ArrayLike<number>[] } & Folding & {
        storedPerHead?: readonly ArrayLike<number>[]
        scores?: readonly ArrayLike<number>[]
      })
  // the others stay in the session's types, and so do all where the layer has a window, a standing rule, or re-packed positions, where it is refused; what is coarse already stays so
  | {
      action: 'coarsen'
      layer: number
      coarsePerHead: readonly ArrayLike<number>[]
      scores?: readonly ArrayLike<number>[]
    }
  | { action: 'rule'; layer: number; rule: Rule }
)

/** The budget of a layer and head, as wrappers change it; undefined keeps the method's own. */
export type KeepOf = (layer: number, head: number) => Budget | undefined

/** How a cache method ranks the rows of a head; wrappers that spread a budget over heads ask for it. */
export interface Ranking {
  readonly needs: readonly CacheNeed[]
  /** [rows]: higher stays. Rows that `protect` guards with the same budget may hold anything. Comparable between heads where the method's paper has them so. */
  score(seen: CacheSeen, head: number, budget: number): ArrayLike<number>
  protect(rows: number, budget: number): { readonly sinks: number; readonly recent: number }
}

/** A method with its options: frozen, free of state, so that one can serve any number of sessions. */
export interface Method {
  readonly name: string
  /** The name with those inside: 'onLayers(snapkv)'. */
  readonly label: string
  readonly acts: Acts
  readonly options: Readonly<Record<string, unknown>>
  /** True where surviving cache rows are renumbered without gaps. */
  readonly repack: boolean
  /** RangeError where an option does not fit the model. */
  looks(shape: Shape): Look[]
  /** Asked only where it looks. */
  decide(seen: Seen): Decision[]
  /** The same method with other budgets by layer and head; missing where it takes no `keep`. */
  readonly withKeep?: (keepOf: KeepOf) => Method
  readonly ranking?: Ranking
}

/** What methods.list() tells of a method. */
export interface MethodInfo {
  readonly name: string
  readonly title: string
  readonly paper: string
  readonly acts: Acts
  readonly options: Readonly<Record<string, { readonly default: unknown; readonly about: string }>>
}
