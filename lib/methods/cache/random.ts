// Random rows: the floor that every method must beat. Seeded; a smaller budget keeps a part of what a larger one does.
import { keepsAll } from '../../budget.js'
import { evict } from '../cache-method.js'
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import { dropTo } from '../layer-method.js'
import { lots } from '../lots.js'
import type { Ranking } from '../method.js'
import { keep, whole, word } from '../options.js'
import { anyPlace, dropPatches } from '../vision-method.js'

export const random = defineMethod({
  name: 'random',
  title: 'keeps rows by chance: the floor that every method must beat',
  acts: ({ acts }) => acts,
  options: {
    keep,
    acts: word('cache', ['cache', 'layers', 'vision'], 'where it drops'),
    layer: whole(2, 'drops before this layer', 1),
    seed: whole(1, 'another seed, other rows', 0, 0xffffffff),
    sinks: whole(4, 'first rows of the cache, which stay'),
    recent: whole(32, 'newest rows of the cache, which stay'),
    positions: word('keep', ['keep', 'repack'], 'rotary positions of what stays'),
  },
  repack: ({ acts, positions }) => acts === 'cache' && positions === 'repack',
  ranking: rank,
  looks(shape, { acts, layer }, grant) {
    if (acts === 'vision')
      return shape.vision && !keepsAll(grant.keep(shape, shape.vision.layers)) ? anyPlace(shape.vision) : []
    if (acts === 'layers') return keepsAll(grant.keep(shape, layer)) ? [] : { at: 'layer', layer }
    const layers = allLayers(shape).filter((one) =>
      Array.from({ length: shape.kvHeads }).some((_, head) => !keepsAll(grant.keep(shape, one, head))),
    )
    return layers.length === 0 ? [] : { at: 'prompt', layers }
  },
  decide(seen, options, grant) {
    if (seen.at === 'vision')
      return dropPatches(seen, grant.rows(seen), () => lots(options.seed, seen.layer, 0, seen.sources))
    if (seen.at !== 'layer') return evict(seen, grant, rank(options))
    return dropTo(seen, grant.rows(seen), () => lots(options.seed, seen.layer, 0, seen.sources), options.positions)
  },
})

function rank({ recent, seed, sinks }: { recent: number; seed: number; sinks: number }): Ranking {
  return {
    needs: [],
    score: (seen, head) => lots(seed, seen.layer, head, seen.sources(head)),
    protect: () => ({ sinks, recent }),
  }
}
