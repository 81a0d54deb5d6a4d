// Heads that are dormant on a text add next to nothing to it: named ones give nothing at all. arXiv 2410.13835
import { rangeError } from '../../errors.js'
import { defineMethod } from '../define.js'
import type { Shape } from '../method.js'
import { headList, word } from '../options.js'

/**
 * What a head attends to counts as zero before the output projection. A KV head is all query heads that read it: nothing is attended to for it then, but its rows stay in the cache,
 * for `perHead` to take. Which heads are dormant hangs on the text: see `activeDormantHeads`.
 */
export const skipHeads = defineMethod({
  name: 'skipHeads',
  title: 'takes what chosen heads attend to as zero',
  paper: '2410.13835',
  acts: 'layers',
  options: {
    heads: headList('heads that are skipped, as [layer, head]'),
    what: word('kv', ['kv', 'query'], 'which heads are counted'),
  },
  looks(shape, { heads, what }) {
    const most = what === 'kv' ? shape.kvHeads : shape.heads
    for (const [layer = 0, head = 0] of heads) {
      if (layer >= shape.layers) throw rangeError(`a layer from 0 to ${shape.layers - 1}`, 'heads', layer)
      if (head >= most) throw rangeError(`a head from 0 to ${most - 1}`, 'heads', head)
    }
    return heads.length === 0 ? [] : { at: 'session' }
  },
  decide({ shape }, { heads, what }) {
    const layers = [...new Set(heads.map(([layer = 0]) => layer))].sort((a, b) => a - b)
    return layers.map((layer) => {
      const named = heads.filter(([at]) => at === layer).flatMap(([, head = 0]) => queryHeads(shape, head, what))
      return { action: 'skip', layer, what: 'heads', heads: [...new Set(named)].sort((a, b) => a - b) }
    })
  },
})

function queryHeads({ heads, kvHeads }: Shape, head: number, what: 'kv' | 'query'): number[] {
  if (what === 'query') return [head]
  const group = heads / kvHeads
  return Array.from({ length: group }, (_, i) => head * group + i)
}
