// What became of each token of a run, from its plan: where it stopped being a row of its own, and what of it the caches hold.
import type { PlanEntry } from '../plan.js'
import type { Run, RunCrop } from './run.js'

/** Stops are what a token passes: the blocks of the tower and the projector, where there is one, then the decoder's layers. */
export interface Fates {
  /** [tokens]: the first stop that a token does not reach as a row of its own; the number of stops where it reaches all. */
  readonly gone: readonly number[]
  /** Tokens that merged, and the token that they merged into at that stop. */
  readonly into: Readonly<Record<number, number>>
  /** By layer, one letter a token: KV heads that hold it once all was decided. null where nothing was evicted; tokens beyond the letters are held by all. */
  readonly held: readonly (string | null)[]
  readonly heads: number
  /** By stop, one letter a token: its rank among the scores of a decision there, '-' where it has none. */
  readonly scores: Readonly<Record<number, string>>
  /** By layer: what does not run, and what is evicted at every decode step. */
  readonly notes: Readonly<Record<number, string>>
}

export const LETTERS = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'

/** Stops before the decoder's first layer. */
export function towerStops({ model, crops }: Pick<Run, 'model' | 'crops'>): number {
  return crops.length > 0 && model.tower ? model.tower + 1 : 0
}

export function stopsOf(run: Pick<Run, 'model' | 'crops'>): number {
  return towerStops(run) + run.model.layers
}

/** Where a decision shows: what goes before an MLP or behind the projector has still run in the part before it. */
export function stopOf({ layer, part, phase }: PlanEntry, tower: number): number {
  if (phase !== 'vision') return tower + layer
  return Math.min(tower, layer + (part === 'mlp' || part === 'decoder' ? 1 : 0))
}

export function fatesOf(run: Run): Fates {
  const stops = stopsOf(run)
  const gone = new Array<number>(run.tokens.length).fill(stops)
  const made: Made = {
    gone,
    into: {},
    held: new Array<string | null>(run.model.layers).fill(null),
    scores: {},
    notes: {},
    lost: new Set(),
    back: new Set(),
  }
  for (const entry of run.plan) {
    if (entry.action === 'drop' || entry.action === 'merge' || entry.action === 'blend') cut(entry, run, made)
    for (const source of entry.as ?? []) made.back.add(source)
    if (entry.keptPerHead) evict(entry, run, made)
    if (entry.action === 'pass') passBy(entry, run, made)
    note(entry, made)
  }
  const { back: _, lost: __, ...fates } = made
  return { ...fates, heads: Math.min(run.model.kvHeads, LETTERS.length - 1) }
}

interface Made {
  readonly gone: number[]
  readonly into: Record<number, number>
  readonly held: (string | null)[]
  readonly scores: Record<number, string>
  readonly notes: Record<number, string>
  /** Patches without a place in session.ids that are gone, as "picture name". */
  readonly lost: Set<string>
  /** Patches in whose place a row came back that stands for none. */
  readonly back: Set<number>
}

/** Rows of the call that a decision was about, in its order; of the tower, those of one picture. */
function rowsAt(entry: PlanEntry, stop: number, { crops, prompt }: Run, { back, gone, lost }: Made): Rows {
  const { action, into, kept = [], phase, step } = entry
  const named = action === 'drop' ? kept : (into ?? [])
  if (phase === 'vision') {
    const known = named.find((source) => source >= 0)
    const image = crops.find(({ sources }) => sources.includes(known ?? 0))?.image ?? 0
    const all = crops.filter((crop) => crop.image === image).flatMap(({ sources }) => sources)
    const left = (source: number) =>
      source < 0 ? !lost.has(`${image} ${source}`) : (gone[source] as number) > stop || back.has(source)
    return { image, rows: all.filter(left) }
  }
  // A later call's tokens follow those of the calls before; its first and last rows are never droppable alone.
  const [from, to] = step === 0 ? [0, prompt] : [named[0] ?? 0, (named.at(-1) ?? -1) + 1]
  const rows: number[] = []
  for (let source = from; source < to; source++) if ((gone[source] ?? 0) > stop) rows.push(source)
  return { image: 0, rows }
}

interface Rows {
  readonly image: number
  readonly rows: readonly number[]
}

function patchesOf(crops: readonly RunCrop[]): number[] {
  return crops.flatMap(({ sources }) => sources.filter((source) => source >= 0))
}

/** Each picture has decisions of its own. */
function rate(entry: PlanEntry, rows: readonly number[], run: Run, { scores }: Made): void {
  if (!entry.scores) return
  const stop = stopOf(entry, towerStops(run))
  const letters = ranks(entry.scores, scored(entry, rows, run), run.tokens.length)
  scores[stop] = letters.replaceAll(/-/g, (none, at: number) => scores[stop]?.[at] ?? none)
}

/** Rows that pass a layer by have none in its cache. */
function passBy(entry: PlanEntry, run: Run, made: Made): void {
  const { kept = [], layer } = entry
  rate(entry, rowsAt(entry, towerStops(run) + layer, run, made).rows, run, made)
  const { scores: _, ...held } = entry
  evict({ ...held, keptPerHead: new Array<number[]>(run.model.kvHeads).fill(kept) }, run, made)
}

function cut(entry: PlanEntry, run: Run, made: Made): void {
  const stop = stopOf(entry, towerStops(run))
  const { image, rows } = rowsAt(entry, stop, run, made)
  rate(entry, rows, run, made)
  const kept = new Set(entry.kept)
  const into = entry.into && holdersOf(entry, rows)
  for (const [i, source] of rows.entries()) {
    const target = into ? (into[i] ?? source) : kept.has(source) ? source : undefined
    if (target === source || (made.back.delete(source) && source >= 0)) continue
    if (source < 0) made.lost.add(`${image} ${source}`)
    else made.gone[source] = stop
    if (target !== undefined && source >= 0) made.into[source] = target
  }
}

/** For each row the one that holds it, or the most of it; a row in which others have shares holds itself. */
function holdersOf({ action, into = [], weights = [] }: PlanEntry, rows: readonly number[]): readonly number[] {
  if (action !== 'blend') return into
  const each = into.length / Math.max(1, rows.length)
  const shares = (row: number) => weights.slice(row * each, (row + 1) * each)
  const held = new Set(into.filter((_, i) => (weights[i] as number) > 0))
  return rows.map((source, row) => {
    if (held.has(source)) return source
    const own = shares(row)
    return into[row * each + own.indexOf(Math.max(...own))] ?? source
  })
}

/** The rows that a decision's scores are of: all, the patches, or a span of text, which is the one whose best rows were kept. */
function scored({ kept = [], scores = [] }: PlanEntry, rows: readonly number[], { crops }: Run): readonly number[] {
  if (scores.length === rows.length) return rows
  const patches = new Set(patchesOf(crops))
  const some = rows.filter((source) => patches.has(source))
  if (scores.length === some.length) return some
  const stay = new Set(kept)
  for (let from = 0; from + scores.length <= rows.length; from++) {
    const span = rows.slice(from, from + scores.length)
    if (explains(span, scores, stay, rows.length - kept.length)) return span
  }
  return []
}

/** Whether all that went is of this span, and scored no more than what stayed. */
function explains(span: readonly number[], scores: readonly number[], stay: Set<number>, dropped: number): boolean {
  let best = Number.NEGATIVE_INFINITY
  let worst = Number.POSITIVE_INFINITY
  let count = 0
  for (const [i, source] of span.entries()) {
    const score = scores[i] as number
    if (stay.has(source)) worst = Math.min(worst, score)
    else {
      best = Math.max(best, score)
      count++
    }
  }
  return count === dropped && best <= worst
}

function evict({ keptPerHead = [], layer, scores }: PlanEntry, run: Run, made: Made): void {
  const known = Math.max(0, ...keptPerHead.map((kept) => (kept.at(-1) ?? -1) + 1))
  const counts = new Array<number>(known).fill(0)
  for (const kept of keptPerHead) for (const source of kept) counts[source]!++
  const scale = Math.max(1, keptPerHead.length / (LETTERS.length - 1))
  const stop = towerStops(run) + layer
  if (scores) {
    const rows = made.gone.flatMap((at, source) => (at > stop && source < known ? [source] : []))
    const heads = keptPerHead.length
    // Of the first decision on a layer, whose heads hold the same rows; the newest rows may stay without a score.
    if (made.held[layer] === null && scores.length % heads === 0 && scores.length <= rows.length * heads)
      made.scores[stop] = ranks(meanOver(scores, heads), rows, run.tokens.length)
  }
  made.held[layer] = counts.map((count) => LETTERS[Math.round(count / scale)]).join('')
}

/** [heads × rows] → [rows] */
function meanOver(scores: readonly number[], heads: number): number[] {
  const rows = scores.length / heads
  return Array.from({ length: rows }, (_, row) => {
    let sum = 0
    for (let head = 0; head < heads; head++) sum += scores[head * rows + row] as number
    return sum / heads
  })
}

/** Ranks are what methods choose by; the largest score is the last letter. Equal scores share one. */
function ranks(scores: readonly number[], rows: readonly number[], tokens: number): string {
  const letters = new Array<string>(tokens).fill('-')
  const order = [...new Set(scores)].sort((a, b) => a - b)
  const place = new Map(order.map((score, i) => [score, order.length < 2 ? 1 : i / (order.length - 1)]))
  for (const [i, source] of rows.slice(0, scores.length).entries())
    if (source >= 0)
      letters[source] = LETTERS[Math.round((place.get(scores[i] as number) as number) * (LETTERS.length - 1))] as string
  return letters.join('')
}

function note(entry: PlanEntry, { notes }: Made): void {
  const { layer } = entry
  if (entry.phase === 'vision') return
  for (const said of saidOf(entry))
    if (!notes[layer]?.includes(said)) notes[layer] = notes[layer] ? `${notes[layer]}; ${said}` : said
}

/** What happens in a layer beside rows that go. */
function* saidOf(entry: PlanEntry): Generator<string> {
  const { action, folds, heads, kv, rule, storedPerHead, what } = entry
  if (action === 'pass') yield `${entry.before - entry.after} rows pass ${what === 'block' ? 'it' : 'its attention'} by`
  if (action === 'skip' && what === 'heads') yield `its heads ${heads?.join(', ')} are skipped`
  else if (action === 'skip') yield `its ${what === 'block' ? 'whole block' : what} is skipped`
  if (action === 'sparse') yield 'its attention leaves some rows out'
  if (action === 'exit') yield 'layers from here on are left out'
  if (rule) yield 'rows are evicted at every decode step too'
  if (folds) yield 'rows that go fold into rows that stay'
  if (storedPerHead) yield 'rows that go are set aside, and may come back'
  if (kv)
    yield `${heads ? `KV heads ${heads.join(', ')} store` : 'it stores'} keys in ${kv.keys}, values in ${kv.values}`
}

/** Tokens of the prompt that run as rows of their own at a stop. */
export function runningAt({ gone }: Fates, stop: number, prompt: number): number {
  let count = 0
  for (let source = 0; source < prompt; source++) if ((gone[source] as number) > stop) count++
  return count
}

/** Share of a layer's cache that is left, over the prompt's tokens and heads; 1 less what was dropped where nothing was evicted. */
export function heldAt(fates: Fates, layer: number, stop: number, prompt: number): number {
  const letters = fates.held[layer]
  let sum = 0
  for (let source = 0; source < prompt; source++) {
    if ((fates.gone[source] as number) <= stop) continue
    const letter = letters?.[source]
    sum += letter === undefined ? 1 : LETTERS.indexOf(letter) / fates.heads
  }
  return prompt === 0 ? 1 : sum / prompt
}
