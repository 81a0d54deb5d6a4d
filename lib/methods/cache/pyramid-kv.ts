// PyramidKV: SnapKV with more rows in the lower layers and fewer in the upper ones. arXiv 2406.02069
import { apportion } from '../../budget.js'
import { cacheMethod, type HeadRows } from '../cache-method.js'
import { allLayers } from '../grant.js'
import type { CacheSeen, Method, Shape } from '../method.js'
import { whole } from '../options.js'
import { ranked, rankingOf } from '../ranked.js'

/** PyramidKV over a method that gives the scores where none is named. */
export function pyramidKvOver(preset: Method) {
  return cacheMethod({
    name: 'pyramidKv',
    title: 'gives the lower layers more of the cache budget than the upper ones',
    paper: '2406.02069',
    options: {
      of: ranked(preset),
      beta: whole(20, 'the last layer gets 1 / beta of an even budget beside the protected rows', 1),
    },
    needs: ({ of }) => [...rankingOf(of).needs],
    score: (seen, head, { of }, budget) => rankingOf(of).score(seen, head, budget),
    protect: ({ of }, budget, rows) => rankingOf(of).protect(rows, budget),
    allocate: (heads, { beta }, seen) => heads.map((head) => layerBudget(head, seen, beta)),
  })
}

/** Layers of full attention, among which the pyramid stands; sliding ones keep an even budget. */
function fullLayers({ windows, ...shape }: Shape): number[] {
  return allLayers({ windows, ...shape }).filter((layer) => (windows[layer] ?? 0) === 0)
}

function layerBudget({ budget, rows, safe }: HeadRows, { layer, shape, tokens }: CacheSeen, beta: number): number {
  const layers = fullLayers(shape)
  const at = layers.indexOf(layer)
  const guarded = safe.sinks + safe.recent
  if (at < 0 || budget === rows || budget <= guarded) return budget
  return guarded + (pyramid(budget - guarded, { tokens, guarded, layers: layers.length, beta })[at] as number)
}

interface Base {
  readonly tokens: number
  readonly guarded: number
  readonly layers: number
  readonly beta: number
}

/**
 * Rows of each layer beside its `guarded` ones, where an even budget would be `even`: from most to least in even steps, `layers · even` in all. (The reference rounds the step
 * down and so keeps up to layers² / 2 rows more.) Where even budgets are more than half of the tokens, all layers have them.
 */
export function pyramid(even: number, { beta, guarded, layers, tokens }: Base): number[] {
  if (layers === 1 || tokens < 2 * even) return Array(layers).fill(even)
  const most = Math.min(2 * even - even / beta, tokens - guarded)
  const least = 2 * even - most
  const ideals = Array.from({ length: layers }, (_, layer) => most - (layer * (most - least)) / (layers - 1))
  return apportion(ideals, layers * even, Array(layers).fill(tokens))
}
