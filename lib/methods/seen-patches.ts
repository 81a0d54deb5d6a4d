// Views of patches: read once and remembered, and as they are after a decision.
import { asOne, gather, ofPatches, placesOf } from './gather.js'
import type { VisionSeen, VisionWhat } from './method.js'
import { once } from './once.js'
import { type PatchDecision, type PatchRows, rowsAfter } from './patch-decisions.js'

/** What was observed before the decision, of the rows that are left; of rows that come back zeros, until native shows them. */
export function afterPatches(seen: VisionSeen, decision: PatchDecision): VisionSeen {
  const rows = rowsAfter(seen, decision)
  const had = seen.sources
  if (decision.action === 'carryPatches') return patchesSeen(seen, rows, (values) => values)
  if (decision.action === 'joinCrops') return patchesSeen(seen, rows, (values, what) => single(what) ?? values)
  const places = placesOf(had, rows.sources)
  const crops = asOne(seen.crops, seen.joined)
  if (decision.action !== 'recallPatches')
    return patchesSeen(seen, rows, (values, what) =>
      what ? ofPatches(what, values, { had, left: rows.sources, crops }) : gather(values, places, had.length),
    )
  const own = placesOf(rows.sources, had)
  return patchesSeen(seen, rows, (values, what) => {
    single(what)
    const size = had.length > 0 ? values.length / had.length : 0
    const all = new Float32Array(rows.sources.length * size)
    for (const [i, place] of own.entries()) all.set(values.subarray(i * size, (i + 1) * size), place * size)
    return all
  })
}

/** TypeError where rows are seen in pairs, which those that have come or have been joined right here were not. */
function single(what: VisionWhat | undefined): undefined {
  if (what !== 'pairs' && what !== 'cosines' && what !== 'keyCosines') return undefined
  throw new TypeError(
    `Expected \`${what}\` to be asked for at a later look but received a call right after the rows changed`,
  )
}

/** read: of all rows those that are left; what: missing for hidden rows. */
export function patchesSeen(
  seen: VisionSeen,
  { joined, sizes, sources }: PatchRows,
  read: (values: Float32Array, what?: VisionWhat) => Float32Array,
): VisionSeen {
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
    joined,
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
