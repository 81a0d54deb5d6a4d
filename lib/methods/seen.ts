// Views of what is seen: read once and remembered, and as it is after a decision.
import { gather, placesOf } from './gather.js'
import type { CacheSeen, Decision, LayerSeen, Question, Seen } from './method.js'
import { once, onceEach } from './once.js'
import { partnersOf } from './partners.js'
import { isOfPatches } from './patch-decisions.js'
import { afterPatches, patchesSeen } from './seen-patches.js'

/** Each observation is fetched at most once, whoever asks how often. */
export function remembered<S extends Seen>(seen: S): S
export function remembered(seen: Seen): Seen {
  if (seen.at === 'session') return seen
  if (seen.at === 'vision') return patchesSeen(seen, { ...seen, sizes: () => seen.sizes() }, (values) => values)
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
  if (seen.at === 'vision' && isOfPatches(decision)) return afterPatches(seen, decision)
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
function holders({ sources }: LayerSeen, into: ArrayLike<number>): Int32Array {
  return sources.filter((source, place) => into[place] === source)
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
    dropped: (head) => seen.dropped?.(head) ?? 0,
    expected: onceEach((head) => read(seen.expected(head), head)),
    keyNorms: onceEach((head) => read(seen.keyNorms(head), head)),
    keys: onceEach((head) => read(seen.keys(head), head)),
    values: onceEach((head) => read(seen.values(head), head)),
    stored: onceEach((head) => seen.stored(head)),
    storedValues: onceEach((head) => seen.storedValues(head)),
  }
}
