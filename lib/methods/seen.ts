// Views of what is seen: read once and remembered, and as it is after a decision.
import type { CacheSeen, Decision, LayerSeen, Seen } from './method.js'
import { partnersOf } from './partners.js'

/** Each observation is fetched at most once, whoever asks how often. */
export function remembered<S extends Seen>(seen: S): S
export function remembered(seen: Seen): Seen {
  if (seen.at === 'session') return seen
  if (seen.at === 'layer') {
    const { at, droppable, given, layer, shape, sources, step } = seen
    const reads = {
      attention: once(() => seen.attention()),
      keys: once(() => seen.keys()),
      partners: once(() => seen.partners()),
      hidden: once(() => seen.hidden()),
    }
    return { at, droppable, given, layer, shape, sources, step, ...reads }
  }
  return perHead(seen, (read) => read)
}

/** What is seen after a decode step, as if a prompt had ended there. */
export function asPrompt(seen: CacheSeen): CacheSeen {
  return { ...perHead(seen, (values) => values), at: 'prompt' }
}

/** What is seen once `decision` is carried out: of the rows that are left, with what was observed before it. */
export function after(seen: Seen, decision: Decision): Seen {
  if (seen.at === 'layer' && decision.action === 'drop') return afterCut(seen, decision.kept)
  if (seen.at === 'layer' && decision.action === 'merge') return afterCut(seen, holders(seen, decision.into))
  if ((seen.at === 'prompt' || seen.at === 'decode') && decision.action === 'evict') {
    const places = onceEach((head) => placesOf(seen.sources(head), decision.keptPerHead[head] ?? []))
    return perHead(seen, (values, head) => gather(values, places(head), seen.sources(head).length))
  }
  return seen
}

function afterCut(seen: LayerSeen, kept: ArrayLike<number>): LayerSeen {
  const { at, given, layer, shape, step } = seen
  const rows = seen.sources.length
  const places = placesOf(seen.sources, kept)
  const free = new Uint8Array(rows)
  for (const place of seen.droppable) free[place] = 1
  const droppable = Int32Array.from(places.keys()).filter((place) => free[places[place] as number] === 1)
  const keys = once(() => gather(seen.keys(), places, rows))
  return {
    at,
    given,
    layer,
    shape,
    step,
    sources: gather(seen.sources, places, rows),
    droppable,
    attention: once(() => gather(seen.attention(), places, rows)),
    keys,
    partners: once(() => partnersOf(keys(), droppable, shape.headSize)),
    hidden: once(() => gather(seen.hidden(), places, rows)),
  }
}

/** Rows that hold themselves once `into` is carried out. */
function holders({ sources }: LayerSeen, into: ArrayLike<number>): Int32Array {
  return sources.filter((source, place) => into[place] === source)
}

type Read = <A extends Float32Array | Int32Array>(values: A, head: number) => A

function perHead(seen: CacheSeen, read: Read): CacheSeen {
  const { at, layer, shape, step, tokens } = seen
  return {
    at,
    layer,
    shape,
    step,
    tokens,
    sources: onceEach((head) => read(seen.sources(head), head)),
    attention: onceEach((head) => read(seen.attention(head), head)),
    columnSums: onceEach((head) => read(seen.columnSums(head), head)),
    expected: onceEach((head) => read(seen.expected(head), head)),
    keyNorms: onceEach((head) => read(seen.keyNorms(head), head)),
    keys: onceEach((head) => read(seen.keys(head), head)),
    values: onceEach((head) => read(seen.values(head), head)),
  }
}

/** Places of `kept` in `sources`, both ascending. */
function placesOf(sources: Int32Array, kept: ArrayLike<number>): Int32Array {
  const places = new Int32Array(kept.length)
  for (let i = 0, place = 0; i < kept.length; i++, place++) {
    while (place < sources.length && sources[place] !== kept[i]) place++
    places[i] = place
  }
  return places
}

/** Lines of [rows × size] values, whatever the size. */
function gather<A extends Float32Array | Int32Array>(values: A, places: Int32Array, rows: number): A {
  const size = rows > 0 ? values.length / rows : 0
  const kept = values.slice(0, places.length * size) as A
  for (let i = 0; i < places.length; i++) {
    const from = (places[i] as number) * size
    if (size === 1) kept[i] = values[from] as number
    else kept.set(values.subarray(from, from + size), i * size)
  }
  return kept
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
