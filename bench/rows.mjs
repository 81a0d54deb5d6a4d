// From lines of both sides to rows of the table: the median of ours, the best median of the peer's, both as shares of what
// the machine allows, their ratio, and the median of the ratios of the rounds. Nothing here measures.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const { bytes, markdownTable, median, number } = require('../dist/cli/format.js')
const { decodeSeconds, prefillSeconds } = require('../dist/cli/bench/roofline.js')
const { percent } = require('../dist/cli/bench/report.js')

/** Collects the lines of processes: `who` is 'ours' or 'peer', what has the same `round` ran side by side. */
export class Rows {
  #rows = new Map()
  #peaks = new Map()

  note(model, who, lines, round) {
    for (const { best, kv, rate, tokens, what } of lines) {
      const key = `${model} ${what} ${kv} ${tokens}`
      const row = this.#rows.get(key) ?? {
        model,
        what,
        kv,
        tokens,
        ours: [],
        peer: [],
        bests: { ours: 0, peer: 0 },
        rounds: new Map(),
      }
      row[who].push(rate)
      const pair = row.rounds.get(round) ?? { ours: 0, peer: 0 }
      pair[who] = Math.max(pair[who], rate)
      row.rounds.set(round, pair)
      row.bests[who] = Math.max(row.bests[who], best)
      this.#rows.set(key, row)
    }
    const measured = lines.filter(({ what }) => what !== 'start')
    if (measured.length === 0) return
    const { kv } = measured[0]
    const key = `${model} ${kv}`
    const peaks = this.#peaks.get(key) ?? { model, kv, ours: [], peer: [] }
    peaks[who].push(Math.max(...measured.map(({ peak }) => peak)))
    this.#peaks.set(key, peaks)
  }

  /** works: of each model; rates: of the machine. */
  finished(works, rates) {
    const order = ['prefill', 'decode', 'start']
    const kvs = [...new Set([...this.#rows.values()].map(({ kv }) => kv))]
    const place = ({ kv, what }) => order.indexOf(what) * kvs.length + kvs.indexOf(kv)
    const all = [...this.#rows.values()].sort((a, b) => place(a) - place(b) || a.tokens - b.tokens)
    const memory = [...this.#peaks.values()].filter(({ ours, peer }) => ours.length > 0 && peer.length > 0)
    const models = [...new Set(all.map(({ model }) => model))]
    return models.flatMap((model) => [
      ...all.filter((row) => row.model === model).map((row) => finishedRow(row, works.get(model), rates)),
      ...memory.filter((row) => row.model === model).map(memoryRow),
    ])
  }
}

function finishedRow({ bests, kv, model, ours, peer, rounds, tokens, what }, work, rates) {
  const side = (rate, best) => ({ rate, best, ...(limit && { share: rate / limit }) })
  const limit = what === 'start' ? undefined : limitOf(what, tokens, kv, work, rates)
  const mine = side(median(ours), bests.ours)
  const theirs = side(what === 'start' ? median(peer) : Math.max(...peer), bests.peer)
  return {
    model,
    what,
    kv,
    tokens,
    limit,
    ours: mine,
    peer: theirs,
    ratio: mine.rate / theirs.rate,
    paired: median([...rounds.values()].map((pair) => pair.ours / pair.peer)),
    all: { ours, peer },
  }
}

/** Tokens a second. */
export function limitOf(what, tokens, kv, work, rates) {
  const [keys, values = keys] = kv.split('/')
  if (what === 'prefill') return tokens / prefillSeconds(work, () => tokens, rates)
  return 1 / decodeSeconds(work, () => tokens, { keys, values }, rates)
}

function memoryRow({ kv, model, ours, peer }) {
  const [mine, theirs] = [median(ours), Math.min(...peer)]
  return { model, what: 'memory', kv, ours: { bytes: mine }, peer: { bytes: theirs }, ratio: theirs / mine }
}

const TITLES = { prefill: 'prefill', decode: 'decode', start: 'first token after the start', memory: 'peak memory' }

export function table(rows, peer) {
  const right = (title) => ({ title, right: true })
  const several = new Set(rows.map(({ model }) => model)).size > 1
  const columns = [
    ...(several ? [{ title: 'model' }] : []),
    ...[{ title: '' }, { title: 'cache' }, right('tokens')],
    ...[right('tokensieve'), right('best'), right('of limit')],
    ...[right(peer), right('best'), right('of limit'), right('ratio'), right('by round')],
  ]
  const lines = rows.map((row) => [
    ...(several ? [row.model] : []),
    ...[TITLES[row.what], row.what === 'start' ? '' : row.kv, row.limit ? number(row.tokens) : ''],
    ...[...sideOf(row.what, row.ours), ...sideOf(row.what, row.peer), ...[row.ratio, row.paired].map(times)],
  ])
  return markdownTable(columns, lines)
}

const times = (factor) => (factor === undefined ? '' : `${factor.toFixed(2)} ×`)

function sideOf(what, { best, bytes: size, rate, share }) {
  if (what === 'memory') return [bytes(size), '', '']
  if (what === 'start') return [`${number(1000 / rate)} ms`, `${number(1000 / best)} ms`, '']
  return [`${number(rate)}/s`, `${number(best)}/s`, percent(share)]
}
