// Views of what is seen: read once and remembered, and as it is after a decision.
import { gather, ofPatches, placesOf } from './gather.js'
import type { CacheSeen, Decision, LayerSeen, Question, Seen, VisionSeen, VisionWhat } from './method.js'
import { partnersOf } from './partners.js'

/** Each observation is fetched at most once, whoever asks how often. */
export function remembered<S extends Seen>(seen: S): S
export function remembered(seen: Seen): Seen {
  if (seen.at === 'session') return seen
  if (seen.at === 'vision')
    return patches(seen, { sources: seen.sources, sizes: () => seen.sizes(), read: (values) => values })
  if (seen.at === 'layer') {
    const { at, came, droppable, given, layer, shape, sources, step } = seen
    const known = seen.patch && { patch: seen.patch.bind(seen) }
    const reads = {
      attention: once(() => seen.attention()),
      keys: once(() => seen.keys()),
      partners: once(() => seen.partners()),
      hidden: once(() => seen.hidden()),
      question: once(() => seen.question()),
      sampled: once(() => seen.sampled()),
      rank: once(() => seen.rank()),
      class: once(() => seen.class()),
      embedded: once(() => seen.embedded()),
    }
    return { at, came, droppable, given, layer, shape, sources, step, ...known, ...reads }
  }
  return perHead(seen, (read) => read)
}

/** What is seen after a decode step, as if a prompt had ended there. */
export function asPrompt(seen: CacheSeen): CacheSeen {
  return { ...perHead(seen, (values) => values), at: 'prompt' }
}

/** What is seen once `decision` is carried out: of the rows that are left, with what was observed before it. */
export function after(seen: Seen, decision: Decision): Seen {
  if (seen.at === 'vision' && decision.action === 'dropPatches')
    return fewerPatches(seen, Int32Array.from(decision.kept))
  if (seen.at === 'vision' && decision.action === 'mergePatches')
    return fewerPatches(seen, holders(seen, decision.into), decision.into)
  if (seen.at === 'layer' && decision.action === 'drop') return afterCut(seen, decision.kept)
  if (seen.at === 'layer' && decision.action === 'merge') return afterCut(seen, holders(seen, decision.into))
  if ((seen.at === 'prompt' || seen.at === 'decode') && decision.action === 'evict') {
    const places = onceEach((head) => placesOf(seen.sources(head), decision.keptPerHead[head] ?? []))
    // Rows that come back are not there yet: nobody saw them.
    return perHead(seen, (values, head) => gather(values, places(head), seen.sources(head).length))
  }
  return seen
}

function afterCut(seen: LayerSeen, kept: ArrayLike<number>): LayerSeen {
  const { at, came, given, layer, shape, step } = seen
  const rows = seen.sources.length
  const places = placesOf(seen.sources, kept)
  const free = new Uint8Array(rows)
  for (const place of seen.droppable) free[place] = 1
  const droppable = Int32Array.from(places.keys()).filter((place) => free[places[place] as number] === 1)
  const keys = once(() => gather(seen.keys(), places, rows))
  return {
    at,
    came,
    given,
    layer,
    shape,
    step,
    ...(seen.patch && { patch: seen.patch }),
    sources: gather(seen.sources, places, rows),
    droppable,
    attention: once(() => gather(seen.attention(), places, rows)),
    keys,
    partners: once(() => partnersOf(keys(), droppable, shape.headSize)),
    hidden: once(() => gather(seen.hidden(), places, rows)),
    question: once(() => questionOf(seen.question(), places, rows)),
    sampled: once(() => questionOf(seen.sampled(), places, rows)),
    rank: once(() => gather(seen.rank(), places, rows)),
    class: once(() => gather(seen.class(), places, rows)),
    embedded: once(() => gather(seen.embedded(), places, rows)),
  }
}

/** What is asked, of the rows in `places` alone. */
function questionOf({ asking, attention }: Question, places: Int32Array, rows: number): Question {
  const placeOf = new Map(Array.from(places, (place, i) => [place, i]))
  const lines = [...asking.keys()].filter((line) => placeOf.has(asking[line] as number))
  const left = new Float32Array(lines.length * places.length)
  for (const [i, line] of lines.entries())
    left.set(gather(attention.subarray(line * rows, (line + 1) * rows), places, rows), i * places.length)
  return { asking: Int32Array.from(lines, (line) => placeOf.get(asking[line] as number) as number), attention: left }
}

/** Rows that hold themselves once `into` is carried out. */
function holders({ sources }: LayerSeen | VisionSeen, into: ArrayLike<number>): Int32Array {
  return sources.filter((source, place) => into[place] === source)
}

/** Patches that are left. into: what has folded, where something has. */
function fewerPatches(seen: VisionSeen, sources: Int32Array, into?: ArrayLike<number>): VisionSeen {
  const rows = seen.sources.length
  const places = placesOf(seen.sources, sources)
  const sizes = () => {
    const left = gather(seen.sizes(), places, rows)
    if (into === undefined) return left
    const placeOf = new Map(Array.from(sources, (source, place) => [source, place]))
    left.fill(0)
    for (const [row, size] of seen.sizes().entries()) {
      const place = placeOf.get(into[row] as number) as number
      left[place] = (left[place] as number) + size
    }
    return left
  }
  const read = (values: Float32Array, what?: VisionWhat) =>
    what
      ? ofPatches(what, values, { had: seen.sources, left: sources, crops: seen.crops })
      : gather(values, places, rows)
  return patches(seen, { sources, sizes, read })
}

interface PatchRows {
  readonly sources: Int32Array
  readonly sizes: () => Float32Array
  /** Of all rows those that are left; what: missing for hidden rows. */
  readonly read: (values: Float32Array, what?: VisionWhat) => Float32Array
}

function patches(seen: VisionSeen, { sources, sizes, read }: PatchRows): VisionSeen {
  const { at, crops, given, layer, part, shape, step, vision } = seen
  const observed = new Map<string, Float32Array>()
  return {
    at,
    shape,
    vision,
    layer,
    part,
    step,
    sources,
    crops,
    given,
    ...(seen.place && { place: seen.place.bind(seen) }),
    sizes: once(sizes),
    seen(what, block) {
      const key = `${what} ${block}`
      const known = observed.get(key) ?? read(seen.seen(what, block), what)
      observed.set(key, known)
      return known
    },
    hidden: once(() => read(seen.hidden())),
  }
}

type Read = <A extends Float32Array | Int32Array>(values: A, head: number) => A

function perHead(seen: CacheSeen, read: Read): CacheSeen {
  const { at, layer, safe, shape, step, tokens } = seen
  return {
    at,
    layer,
    safe,
    shape,
    step,
    tokens,
    gone: once(() => seen.gone()),
    sources: onceEach((head) => read(seen.sources(head), head)),
    attention: onceEach((head) => read(seen.attention(head), head)),
    columnSums: onceEach((head) => read(seen.columnSums(head), head)),
    expected: onceEach((head) => read(seen.expected(head), head)),
    keyNorms: onceEach((head) => read(seen.keyNorms(head), head)),
    keys: onceEach((head) => read(seen.keys(head), head)),
    values: onceEach((head) => read(seen.values(head), head)),
    stored: onceEach((head) => seen.stored(head)),
    storedValues: onceEach((head) => seen.storedValues(head)),
  }
}

function once<T>(read: () => T): () => T {
  let held: { value: T } | undefined
  return () => {
    held ??= { value: read() }
    return held.value
  }
}

function onceEach<T>(read: (head: number) => T): (head: number) => T {
  const held = new Map<number, T>()
  return (head) => {
    if (!held.has(head)) held.set(head, read(head))
    return held.get(head) as T
  }
}
