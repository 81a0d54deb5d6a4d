// Contextual memory reweaving: rows that leave the cache are set aside and come back, bit for bit, when something like them is read. arXiv 2502.02046
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import type { CacheSeen, Method } from '../method.js'
import { keep, real, whole } from '../options.js'
import { ranked, rankingOf } from '../ranked.js'
import { range, selectRows, topK } from '../select.js'

interface Options {
  readonly of: Method
  readonly window: number
  readonly entries: number
  readonly capture: number
  readonly retrieve: number
  readonly most: number
  readonly span: number
}

/**
 * The paper gives a concept without numbers or code; this is our reading of it. A row's latent state is its value, a linear image of the hidden row that no rotation has touched. Rows that `of` lets go are
 * set aside, as the cache held them, where the variance of their state is at least `capture` of the largest; of more than `entries` a head those with the least go for good.
 * After a prompt (its newest `window` rows) and every so many decode steps (the newest) the states of what was read are held against what is set aside: the rows most like it come
 * back, with the `span` rows on each side that were set aside too, and take the place of as many others. What is set aside takes as much memory as before; attention does not read it.
 */
export function reweavingOver(preset: Method) {
  return defineMethod({
    name: 'contextualMemoryReweaving',
    title: 'sets cache rows aside and brings back those like what is being read, bit for bit',
    paper: '2502.02046',
    acts: 'cache',
    options: {
      keep,
      of: ranked(preset),
      window: whole(32, 'newest rows of a prompt that call rows back', 1),
      entries: whole(1000, 'rows of a head that are set aside at most'),
      capture: real(0.5, 'variance of a row, by the largest, from which it is set aside', 0, 1),
      retrieve: real(0.3, 'cosine from which a row comes back', -1, 1),
      most: whole(50, 'rows of a head that come back at once, and never more than half of its budget'),
      span: whole(4, 'neighbours on each side that come back with a row'),
      every: whole(16, 'decode steps between looks; 0: after prompts alone'),
    },
    ranking: ({ of }) => rankingOf(of),
    looks(shape, { every, of }, grant) {
      const { needs } = rankingOf(of)
      const heads = range(0, shape.kvHeads)
      const layers = allLayers(shape).filter((layer) => heads.some((head) => grant.keep(shape, layer, head) !== 1))
      if (layers.length === 0) return []
      const prompt = { at: 'prompt', layers, needs } as const
      return every > 0 ? [prompt, { at: 'decode', every, layers, needs }] : prompt
    },
    decide(seen, options, grant) {
      if (seen.at !== 'prompt' && seen.at !== 'decode') return null
      const heads = Array.from(range(0, seen.shape.kvHeads), (head) => {
        const all = grant.keep(seen.shape, seen.layer, head) === 1
        return chooseRows(seen, head, all ? Number.MAX_SAFE_INTEGER : grant.rows(seen, head), options)
      })
      if (heads.every(({ back, kept }, head) => back === 0 && kept.length === seen.sources(head).length)) return null
      const keptPerHead = heads.map(({ kept }) => kept)
      return { action: 'evict', layer: seen.layer, keptPerHead, storedPerHead: heads.map(({ stored }) => stored) }
    },
  })
}

function chooseRows(seen: CacheSeen, head: number, budget: number, options: Options) {
  const { protect, score } = rankingOf(options.of)
  const sources = seen.sources(head)
  const aside = seen.stored(head)
  const back = recalled(seen, head, Math.min(options.most, budget >> 1), options)
  const room = Math.min(budget, Math.max(1, budget - back.length))
  const places = selectRows(sources.length, room, protect(sources.length, room), () => score(seen, head, room))
  const kept = Int32Array.from([...Array.from(places, (place) => sources[place] as number), ...back]).sort()
  const stays = new Set(kept)
  const size = seen.shape.headSize
  const values = seen.values(head)
  const others = seen.storedValues(head)
  const states = [
    ...Array.from(sources, (source, i) => ({ source, variance: variance(values, i, size) })),
    ...Array.from(aside, (source, i) => ({ source, variance: variance(others, i, size) })),
  ]
  const largest = states.reduce((most, { variance }) => Math.max(most, variance), 0)
  const held = states.filter((row) => !stays.has(row.source) && row.variance >= options.capture * largest)
  const best = topK(
    Float64Array.from(held, (row) => row.variance),
    options.entries,
  )
  return { back: back.length, kept, stored: Int32Array.from(best, (i) => held[i]?.source as number).sort() }
}

/** Sources of rows set aside that come back: the most alike first, each with its neighbours, until there are `most`. */
function recalled(seen: CacheSeen, head: number, most: number, { retrieve, span, window }: Options): number[] {
  const aside = seen.stored(head)
  if (aside.length === 0 || most === 0) return []
  const size = seen.shape.headSize
  const values = seen.values(head)
  const rows = values.length / size
  const now = range(Math.max(0, rows - (seen.at === 'prompt' ? window : 1)), rows)
  const stored = seen.storedValues(head)
  const alike = Array.from(aside, (source, i) => {
    const cosines = Array.from(now, (row) => cosine(values, row, stored, i, size))
    return { source, cosine: Math.max(...cosines) }
  })
  const found = alike.filter((one) => one.cosine >= retrieve).sort((a, b) => b.cosine - a.cosine || a.source - b.source)
  const back = new Set<number>()
  const there = new Set(aside)
  for (const { source } of found)
    for (const near of range(source - span, source + span + 1)) if (there.has(near) && back.size < most) back.add(near)
  return [...back]
}

function cosine(a: Float32Array, i: number, b: Float32Array, j: number, size: number): number {
  let [ab, aa, bb] = [0, 0, 0]
  for (let c = 0; c < size; c++) {
    const [x, y] = [a[i * size + c] as number, b[j * size + c] as number]
    ab += x * y
    aa += x * x
    bb += y * y
  }
  return aa * bb > 0 ? ab / Math.sqrt(aa * bb) : 0
}

function variance(values: Float32Array, row: number, size: number): number {
  const own = values.subarray(row * size, (row + 1) * size)
  const mean = own.reduce((sum, value) => sum + value, 0) / size
  return own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size
}
