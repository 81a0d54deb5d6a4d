// Contextual memory reweaving: rows that leave the cache are set aside and come back, bit for bit, when something like them is read. arXiv 2502.02046
import { defineMethod } from '../define.js'
import { allLayers } from '../grant.js'
import type { CacheSeen, Method } from '../method.js'
import { keep, real, whole } from '../options.js'
import { ranked, rankingOf } from '../ranked.js'
import { range, selectRows, topK } from '../select.js'
import { cosines, variances } from '../states.js'

interface Options {
  readonly of: Method
  readonly window: number
  readonly entries: number
  readonly capture: number
  readonly retrieve: number
  readonly most: number
  readonly phrase: number
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
      capture: real(0, 'variance of a row, by the largest, from which it is set aside', 0, 1),
      retrieve: real(0.3, 'cosine from which a row comes back', -1, 1),
      most: whole(50, 'rows of a head that come back at once, and never more than half of its budget'),
      phrase: whole(4, 'rows in a row whose mean cosine counts, so that no common word calls back alone', 1),
      span: whole(8, 'neighbours on each side that come back with a row'),
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
      const alike = alikeTokens(seen, options)
      const heads = Array.from(range(0, seen.shape.kvHeads), (head) => {
        const all = grant.keep(seen.shape, seen.layer, head) === 1
        return chooseRows(seen, head, all ? Number.MAX_SAFE_INTEGER : grant.rows(seen, head), alike, options)
      })
      if (heads.every(({ back, kept }, head) => back === 0 && kept.length === seen.sources(head).length)) return null
      const keptPerHead = heads.map(({ kept }) => kept)
      return { action: 'evict', layer: seen.layer, keptPerHead, storedPerHead: heads.map(({ stored }) => stored) }
    },
  })
}

function chooseRows(seen: CacheSeen, head: number, budget: number, alike: readonly number[], options: Options) {
  const { protect, score } = rankingOf(options.of)
  const sources = seen.sources(head)
  const back = recalled(seen.stored(head), alike, Math.min(options.most, budget >> 1), options.span)
  const room = Math.min(budget, Math.max(1, budget - back.length))
  const places = selectRows(sources.length, room, protect(sources.length, room), () => score(seen, head, room))
  const kept = Int32Array.from([...Array.from(places, (place) => sources[place] as number), ...back]).sort()
  const stays = new Set(kept)
  const { headSize } = seen.shape
  const rows = [...sources, ...seen.stored(head)]
  const spread = [...variances(seen.values(head), headSize), ...variances(seen.storedValues(head), headSize)]
  const least = options.capture * spread.reduce((most, value) => Math.max(most, value), 0)
  const held = range(0, rows.length).filter((i) => !stays.has(rows[i] as number) && (spread[i] as number) >= least)
  const best = topK(
    Float64Array.from(held, (i) => spread[i] as number),
    options.entries,
  )
  return { back: back.length, kept, stored: Int32Array.from(best, (i) => rows[held[i] as number] as number).sort() }
}

/** Tokens with rows set aside that are like what was read now, the most alike first: a mean over the heads that have them. */
function alikeTokens(seen: CacheSeen, { phrase, retrieve, window }: Options): number[] {
  const size = seen.shape.headSize
  const found = new Map<number, number[]>()
  for (let head = 0; head < seen.shape.kvHeads; head++) {
    const aside = seen.stored(head)
    if (aside.length === 0) continue
    const values = seen.values(head)
    const now = values.subarray(Math.max(0, values.length - size * (seen.at === 'prompt' ? window : phrase)))
    const alike = likeness(aside, cosines(seen.storedValues(head), now, size), phrase, seen.at === 'prompt')
    for (const [i, token] of aside.entries()) found.set(token, [...(found.get(token) ?? []), alike[i] as number])
  }
  const mean = (all: readonly number[]) => all.reduce((sum, value) => sum + value, 0) / all.length
  const means = [...found].map(([token, all]) => [token, mean(all)] as const).filter(([, value]) => value >= retrieve)
  return means.sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([token]) => token)
}

/** Sources of rows that come back: of these tokens, each with its neighbours, until there are `most`. */
function recalled(aside: Int32Array, tokens: readonly number[], most: number, span: number): number[] {
  const back = new Set<number>()
  const there = new Set(aside)
  for (const token of tokens) {
    if (back.size >= most) break
    for (const near of range(token - span, token + span + 1)) if (there.has(near) && back.size < most) back.add(near)
  }
  return [...back]
}

/** [rows]: the largest mean cosine of a row and those before it with a row read now and those before that; of the newest alone where not `all`. */
function likeness(sources: Int32Array, cosines: Float64Array, phrase: number, all: boolean): Float64Array {
  const n = cosines.length / sources.length
  return Float64Array.from(sources, (source, i) => {
    let most = -1
    for (let j = all ? 0 : n - 1; j < n; j++) {
      let sum = 0
      for (let o = 0; o < phrase && o <= j && sources[i - o] === source - o; o++)
        sum += cosines[(i - o) * n + j - o] as number
      most = Math.max(most, sum / phrase)
    }
    return most
  })
}
