// What methods see before a layer of the decoder: observed by the layer that ran, or probed in the one that would run next.
import type { CallContext } from './call.js'
import { gather, placesOf } from './methods/gather.js'
import type { LayerSeen, Partners, Question } from './methods/index.js'
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

/** Rows that may go are those of `droppable`, by source. */
export async function seenBefore(
  context: CallContext,
  layer: number,
  droppable: ReadonlySet<number>,
  { embedded, probed }: Known,
): Promise<LayerSeen> {
  const { native, shape, step } = context
  const sources = native.rows()
  const places = Int32Array.from(sources.keys()).filter((place) => droppable.has(sources[place] as number))
  let last = -1
  for (const source of droppable) last = Math.max(last, source)
  const { attention, keys, partners, question } = await observe(context, layer, { sources, places, last }, probed)
  return {
    at: 'layer',
    shape,
    layer,
    step,
    sources,
    droppable: places,
    given: droppable.size,
    ...(context.patch && { patch: context.patch }),
    attention: () => attention ?? notAsked('attention'),
    keys: () => keys ?? notAsked('keys'),
    partners: () => partners ?? notAsked('partners'),
    hidden: () => native.hidden(),
    question: () => question ?? notAsked('question'),
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
}

async function observe(
  context: CallContext,
  layer: number,
  rows: CallRows,
  probed: Float32Array | undefined,
): Promise<Observed> {
  const { native, scheduler, schedule, shape } = context
  const { places, sources } = rows
  const seen: Observed = {}
  for (const need of schedule.layerNeeds(layer)) {
    if (need.what === 'keys') seen.keys = await scheduler.job((m) => m.probeKeys(native, layer))
    if (need.what === 'partners' && places.length > 1)
      seen.partners = await scheduler.job((m) => m.probePartners(native, layer, places))
    if (need.what === 'question') seen.question = await ask(context, layer, rows)
    if (need.what !== 'attention') continue
    let attention = probed
    if (need.of === 'next') attention = await scheduler.job((m) => m.probe(native, layer, need.rows))
    else attention ??= meanOverHeads(native, layer - 1, shape.kvHeads, sources.length)
    const looked = Math.min(need.rows, sources.length)
    seen.attention = attention.map((mass) => mass / looked)
  }
  return seen
}

/** Rows that ask at most: a page of text behind a picture is not asked word by word. */
const ASKING = 64

async function ask(
  { native, scheduler, shape }: CallContext,
  layer: number,
  { last, sources }: CallRows,
): Promise<Question> {
  const behind = Int32Array.from(sources.keys()).filter((place) => (sources[place] as number) > last)
  const asking = behind.slice(-ASKING)
  const all = await scheduler.job((m) => m.probeRows(native, layer, asking))
  const rows = sources.length
  const tokens = all.length / (asking.length * shape.heads)
  const attention = new Float32Array(asking.length * rows)
  for (let line = 0; line < asking.length * shape.heads; line++) {
    const to = Math.floor(line / shape.heads) * rows
    for (let place = 0; place < rows; place++)
      attention[to + place] =
        (attention[to + place] as number) + (all[line * tokens + (sources[place] as number)] as number) / shape.heads
  }
  return { asking, attention }
}

function notAsked(what: string): never {
  throw new TypeError(`Expected \`${what}\` among the needs of the look but received a call for it`)
}

/** Attention of a layer's cache rows that are rows of the call: the newest of each head. */
function meanOverHeads(native: NativeSession, layer: number, kvHeads: number, rows: number): Float32Array {
  const mean = new Float32Array(rows)
  for (let head = 0; head < kvHeads; head++) {
    const mass = native.attention(layer, head)
    const first = mass.length - rows
    for (let i = 0; i < rows; i++) mean[i] = (mean[i] as number) + (mass[first + i] as number) / kvHeads
  }
  return mean
}
