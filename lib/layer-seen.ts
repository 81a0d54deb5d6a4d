// What methods see before a layer of the decoder: observed by the layer that ran, or probed in the one that would run next.
import type { CallContext } from './call.js'
import { gather, placesOf } from './methods/gather.js'
import type { LayerSeen, Partners, Question } from './methods/index.js'
import { lots } from './methods/lots.js'
import { topK } from './methods/select.js'
import type { NativeSession } from './native.js'

/** Rows as they enter the first layer, by source. */
export interface Embedded {
  readonly sources: Int32Array
  readonly hidden: Float32Array
}

export interface Known {
  /** Attention of the layer before, where it was probed. */
  readonly probed: Float32Array | undefined
  readonly embedded: Embedded | undefined
}

/** Rows that may go are those of `droppable`, by source, ascending. */
export async function seenBefore(
  context: CallContext,
  layer: number,
  droppable: Int32Array,
  { embedded, probed }: Known,
): Promise<LayerSeen> {
  const { native, shape, step } = context
  const sources = native.rows()
  const places = placesOf(sources, droppable)
  const last = droppable[droppable.length - 1] ?? -1
  const gone = context.sight.gone.map((place) => place + context.before).sort((a, b) => a - b)
  const seen = await observe(context, layer, { sources, places, last }, probed)
  return {
    at: 'layer',
    shape,
    layer,
    step,
    sources,
    droppable: places,
    given: droppable.length,
    came: droppable.length - placesOf(droppable, gone).length,
    ...(context.patch && { patch: context.patch }),
    attention: () => seen.attention ?? notAsked('attention'),
    keys: () => seen.keys ?? notAsked('keys'),
    partners: () => seen.partners ?? notAsked('partners'),
    hidden: () => native.hidden(),
    question: () => seen.question ?? notAsked('question'),
    sampled: () => seen.sampled ?? notAsked('sampled'),
    rank: () => seen.rank ?? notAsked('rank'),
    class: () => seen.class ?? notAsked('class'),
    embedded: () =>
      embedded
        ? gather(embedded.hidden, placesOf(embedded.sources, sources), embedded.sources.length)
        : notAsked('embedded'),
  }
}

interface CallRows {
  readonly sources: Int32Array
  /** Those that may go. */
  readonly places: Int32Array
  /** The last source that might have gone at first. */
  readonly last: number
}

interface Observed {
  attention?: Float32Array
  keys?: Float32Array
  partners?: Partners
  question?: Question
  sampled?: Question
  rank?: Float32Array
  class?: Float32Array
}

async function observe(
  context: CallContext,
  layer: number,
  rows: CallRows,
  probed: Float32Array | undefined,
): Promise<Observed> {
  const { before, native, scheduler, schedule, shape, sight, step } = context
  const { places, sources } = rows
  const seen: Observed = {}
  for (const need of schedule.layerNeeds(layer)) {
    if (need.what === 'keys') seen.keys = await scheduler.job((m) => m.probeKeys(native, layer))
    if (need.what === 'partners' && places.length > 1)
      seen.partners = await scheduler.job((m) => m.probePartners(native, layer, places))
    if (need.what === 'question') seen.question = await ask(context, layer, textBehind(rows))
    if (need.what === 'sampled') seen.sampled = await ask(context, layer, drawn(sources, need, [step, layer]))
    if (need.what === 'rank')
      seen.rank = await scheduler.job((m) => m.probeRank(native, layer, need.temperature, need.rounds))
    if (need.what === 'class')
      seen.class = Float32Array.from(sources, (source) => sight.looked?.get(source - before) ?? 0)
    if (need.what !== 'attention') continue
    let attention = probed
    if (need.of === 'next') attention = await scheduler.job((m) => m.probe(native, layer, need.rows))
    else attention ??= meanOverHeads(native, layer - 1, shape.kvHeads, sources)
    const looked = Math.min(need.rows, sources.length)
    seen.attention = attention.map((mass) => mass / looked)
  }
  return seen
}

/** Rows that ask at most: a page of text behind a picture is not asked word by word. */
const ASKING = 64

function textBehind({ last, sources }: CallRows): Int32Array {
  return Int32Array.from(sources.keys())
    .filter((place) => (sources[place] as number) > last)
    .slice(-ASKING)
}

/** Places of the newest rows and of others by chance, the same in every run. */
function drawn(
  sources: Int32Array,
  { newest, others }: { newest: number; others: number },
  [step, layer]: readonly [number, number],
): Int32Array {
  const first = Math.max(0, sources.length - newest)
  const chances = lots(step, layer, 0, sources.subarray(0, first))
  const some = Int32Array.from(topK(chances, Math.min(others, first))).sort()
  return Int32Array.from([...some, ...Array.from({ length: sources.length - first }, (_, i) => first + i)])
}

async function ask({ native, scheduler }: CallContext, layer: number, asking: Int32Array): Promise<Question> {
  return { asking, attention: await scheduler.job((m) => m.probeMeans(native, layer, asking)) }
}

function notAsked(what: string): never {
  throw new TypeError(`Expected \`${what}\` among the needs of the look but received a call for it`)
}

/** Attention of a layer's cache rows that are rows of the call; those that passed it by have none. */
function meanOverHeads(native: NativeSession, layer: number, kvHeads: number, rows: Int32Array): Float32Array {
  const mean = new Float32Array(rows.length)
  for (let head = 0; head < kvHeads; head++) {
    const mass = native.attention(layer, head)
    const held = native.cacheSources(layer, head)
    for (let i = rows.length - 1, at = held.length - 1; i >= 0 && at >= 0; i--) {
      if (held[at] === rows[i]) mean[i] = (mean[i] as number) + (mass[at--] as number) / kvHeads
    }
  }
  return mean
}
