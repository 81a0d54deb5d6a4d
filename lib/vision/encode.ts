// Pictures through the tower: in batches of crops where nobody looks, else stopped where methods do, who drop and merge patches on the way.
import { freemem } from 'node:os'
import { TokensieveError } from '../errors.js'
import { asOne, ofPatches } from '../methods/gather.js'
import type { Decided, Schedule, Shape } from '../methods/index.js'
import type { Crop, Look, Method, VisionNeed, VisionSeen, VisionWhat } from '../methods/method.js'
import { type VisionStop, visionPlace } from '../methods/tower.js'
import type { NativeGlance, NativeVision, VisionAction, VisionLook } from '../native-vision.js'
import type { PlanEntry } from '../plan.js'
import type { Scheduler } from '../scheduler.js'
import type { Encoded, Watch } from './cache.js'
import { NEWLINE } from './layout.js'
import type { Picture } from './picture.js'
import { normalise } from './pixels.js'
import type { Tower } from './tower.js'

/** What encoding is done for. */
export interface Encoding {
  readonly tower: Tower
  readonly scheduler: Scheduler
  readonly shape: Shape
  /** Missing: nobody looks. */
  readonly schedule?: Schedule
  readonly step: number
  readonly trace: boolean
  /** Which picture of the prompt it is. */
  readonly image: number
  /** The place in session.ids of a row of the picture; undefined where it is not among them. */
  place(row: number): number | undefined
  /** Throws where the call has to end. */
  check(): void
  /** Told what runs, so that it can be interrupted; and that it is over. */
  running(work: Pick<NativeGlance, 'interrupt'> | undefined): void
  /** Milliseconds that methods took. */
  decided(time: number): void
}

/** Rows of the tower that one piece of work has, so that others' tokens do not wait for long. */
const BATCH = 2048

/** Methods whose looks go into the tower, or that ask in the decoder what was seen there. */
export function watchers({ schedule, shape }: Pick<Encoding, 'schedule' | 'shape'>): readonly Method[] {
  if (!schedule || (schedule.vision.length === 0 && !schedule.asksClass)) return []
  const watches = (look: Look) =>
    look.at === 'vision' || (look.at === 'layer' && look.needs.some(({ what }) => what === 'class'))
  return schedule.methods.filter((method) => method.looks(shape).some(watches))
}

/** A picture's rows; from the cache where they are known, or will be since another session encodes it at this moment. */
export async function encode(picture: Picture, work: Encoding): Promise<Encoded> {
  const { encodings } = work.tower
  const watch = { methods: watchers(work), trace: work.trace, step: work.step }
  for (;;) {
    const known = encodings.find(picture.hash, watch)
    if (known)
      return { ...known, plan: named(known.plan, (row) => work.place(row) ?? -1 - (picture.rows[row] as number)) }
    const awaited = encodings.awaited(picture.hash, watch)
    if (!awaited) return encodings.making(picture.hash, watch, () => encodeNew(picture, work, watch))
    await waitFor(awaited, work)
  }
}

/** Until it settles, or the call has to end. */
async function waitFor(awaited: Promise<unknown>, { check, running }: Encoding): Promise<void> {
  check()
  let interrupt = () => {}
  const interrupted = new Promise<void>((resolve) => {
    interrupt = resolve
  })
  running({ interrupt })
  await Promise.race([awaited, interrupted])
  running(undefined)
  check()
}

async function encodeNew(picture: Picture, work: Encoding, watch: Watch): Promise<Encoded> {
  const { encodings } = work.tower
  const { methods } = watch
  if (methods.length === 0) {
    const encoded = await encodeBatches(picture, work)
    encodings.keep(picture.hash, watch, encoded)
    return encoded
  }
  const encoded = await encodeWatched(picture, work)
  const numbers = new Map(Array.from(picture.rows.keys(), (row) => [work.place(row) ?? -1, row]))
  // A plan that is applied again names places of one session.
  if (!methods.some(({ name }) => name === 'plan'))
    encodings.keep(picture.hash, watch, {
      ...encoded,
      plan: named(encoded.plan, (place) => numbers.get(place) ?? place),
    })
  return encoded
}

/** Entries with other names for the patches; those of no row of the decoder are below 0 and stay. Kept ones ascend, whatever they are called. */
function named(plan: readonly PlanEntry[], name: (one: number) => number): PlanEntry[] {
  const all = (names: readonly number[]) => names.map((one) => (one < 0 ? one : name(one)))
  return plan.map((entry) => ({
    ...entry,
    ...(entry.kept && { kept: all(entry.kept).sort((a, b) => a - b) }),
    ...(entry.into && { into: all(entry.into) }),
    ...(entry.as && { as: all(entry.as).sort((a, b) => a - b) }),
    ...(entry.patch !== undefined && { patch: all([entry.patch])[0] as number }),
  }))
}

async function encodeBatches(picture: Picture, work: Encoding): Promise<Encoded> {
  const { config, grid } = work.tower
  const crops = picture.layout.crops.length
  const most = Math.max(1, Math.floor(BATCH / (grid.side * grid.side)))
  const own = grid.rows * grid.rows
  const hidden = new Float32Array(crops * own * config.outputSize)
  for (let first = 0; first < crops; first += most) {
    const count = Math.min(most, crops - first)
    await glanceAt(picture, first, count, work, async (glance) => {
      await advance(work, glance, 2 * config.layers + 1, [])
      hidden.set(glance.hidden(), first * own * config.outputSize)
    })
  }
  const all = Int32Array.from({ length: crops * own }, (_, source) => source)
  return { ...gathered(picture, work.tower, all, hidden), plan: [] }
}

async function glanceAt(
  { crops }: Picture,
  first: number,
  count: number,
  work: Encoding,
  look: (glance: NativeGlance) => Promise<void>,
): Promise<void> {
  const { config, grid, native } = work.tower
  const bytes = grid.size * grid.size * 3
  work.check()
  const glance = native.open(
    normalise(crops.subarray(first * bytes, (first + count) * bytes), grid.size, config),
    count,
  )
  work.running(glance)
  try {
    await look(glance)
  } finally {
    work.running(undefined)
    glance.close()
  }
}

async function advance(
  { check, scheduler, tower }: Encoding,
  glance: NativeGlance,
  to: number,
  looks: Parameters<NativeVision['advance']>[2],
): Promise<void> {
  check()
  // Between stage calls of the decoder: both want all threads.
  await scheduler.job(() => tower.native.advance(glance, to, looks))
  check()
}

/** Rows of a picture that are left, out of [sources × outputSize]; newlines stay. */
function gathered(
  { rows }: Picture,
  { config }: Tower,
  sources: Int32Array,
  hidden: Float32Array,
): Pick<Encoded, 'rows' | 'features'> {
  const width = config.outputSize
  const places = new Map(Array.from(sources, (source, place) => [source, place]))
  const left = Int32Array.from(rows.keys()).filter((row) => rows[row] === NEWLINE || places.has(rows[row] as number))
  const features = new Float32Array(left.length * width)
  for (const [i, row] of left.entries()) {
    const place = places.get(rows[row] as number)
    const line = place === undefined ? config.newline : hidden.subarray(place * width, (place + 1) * width)
    features.set(line, i * width)
  }
  return { rows: left, features }
}

// ---- under the eyes of methods

interface Watched {
  readonly picture: Picture
  readonly work: Encoding
  readonly crops: readonly Crop[]
  readonly glance: NativeGlance
  /** Rows that a block had when it was looked at, and how many crops were one then. */
  readonly had: Map<number, { readonly rows: Int32Array; readonly joined: number }>
  /** How many neighbouring crops are one. */
  joined: number
  /** Source -> number of the picture's row. */
  readonly rowOf: ReadonlyMap<number, number>
}

async function encodeWatched(picture: Picture, work: Encoding): Promise<Encoded> {
  const { config } = work.tower
  const { vision: stops } = work.schedule as Schedule
  const count = picture.layout.crops.length
  checkMemory(count, work.tower)
  const crops = picture.layout.crops.map(({ box, ...crop }) => ({ ...crop, image: work.image }))
  const rowOf = new Map(Array.from(picture.rows, (source, row) => [source, row]))
  rowOf.delete(NEWLINE)
  const plan: PlanEntry[] = []
  let made: Pick<Encoded, 'rows' | 'features' | 'looked'> | undefined
  await glanceAt(picture, 0, count, work, async (glance) => {
    const watched: Watched = { picture, work, crops, glance, had: new Map(), joined: 1, rowOf }
    let at = 0
    for (const stop of stops) {
      const place = visionPlace(stop)
      await runTo(watched, at, place)
      at = place
      plan.push(...(await decideAt(watched, stop)))
    }
    await runTo(watched, at, 2 * config.layers + 1)
    const left = gathered(picture, work.tower, glance.rows(), glance.hidden())
    made = { ...left, ...(classNeed(work) && { looked: lookedAt(watched, left.rows) }) }
  })
  return { ...(made as Pick<Encoded, 'rows' | 'features' | 'looked'>), plan: named(plan, (place) => place) }
}

/** All crops of a picture are in the tower at once where methods compare them. */
function checkMemory(crops: number, { config }: Tower): void {
  const rows = crops * (config.side * config.side + 1)
  const bytes = rows * config.width * 4 * 8
  if (bytes <= freemem() / 2) return
  throw new TokensieveError(
    'ERR_OUT_OF_MEMORY',
    `[vision] expected memory for ${crops} crops in the tower at once, about ${Math.ceil(bytes / 2 ** 20)} MiB`,
  )
}

/** What later stops need of blocks that run now is observed. */
async function runTo({ glance, had, joined, work }: Watched, from: number, to: number): Promise<void> {
  if (to <= from) return
  const now = (need: VisionNeed): need is VisionNeed & VisionLook =>
    need.what !== 'cosines' && 2 * need.layer >= from && 2 * need.layer < to
  const asked = (work.schedule as Schedule).vision.flatMap(({ needs }) => needs)
  const wanted = [...asked, ...(classNeed(work) ?? [])].filter(now)
  const looks = wanted.filter(
    (need, i) => wanted.findIndex(({ layer, what }) => layer === need.layer && what === need.what) === i,
  )
  const rows = glance.rows()
  for (const { layer } of looks) had.set(layer, { rows, joined })
  await advance(work, glance, to, looks)
}

/** What the decoder asks of the last block. Rows of a projector that joins patches are no patches, and some towers have no class token. */
function classNeed({ schedule, tower }: Encoding): [VisionNeed] | undefined {
  const { classToken, layers, pool } = tower.config
  return schedule?.asksClass && classToken && pool === 1 ? [{ what: 'class', layer: layers - 1 }] : undefined
}

/** What the class token gave rows of the picture; newlines nothing. */
function lookedAt({ crops, glance, had, joined, picture, work }: Watched, rows: Int32Array): Float32Array {
  const { grid, config } = work.tower
  const block = config.layers - 1
  const left = glance.rows()
  const sized = crops.map((crop) => ({ ...crop, rows: grid.side, columns: grid.side }))
  const then = { had: had.get(block)?.rows ?? left, left, crops: asOne(sized, joined) }
  const given = ofPatches('class', glance.seen(block, 'class'), then)
  const places = new Map(Array.from(left, (source, place) => [source, place]))
  return Float32Array.from(rows, (row) => given[places.get(picture.rows[row] as number) ?? -1] ?? 0)
}

async function decideAt(watched: Watched, stop: VisionStop): Promise<PlanEntry[]> {
  const { glance, work } = watched
  const { scheduler, schedule, tower, trace } = work
  if (behindBlocks(stop, tower)) await dropPadding(watched)
  const start = performance.now()
  const compares = stop.needs.some(({ what }) => what === 'cosines')
  const cosines = compares ? await scheduler.job(() => tower.native.cosines(glance)) : undefined
  const decided = (schedule as Schedule).decide(seenAt(watched, stop, cosines), { trace })
  for (const { decision } of decided) {
    const action = actionOf(decision)
    if (action) await scheduler.job(() => tower.native.apply(glance, action))
    if (decision.action === 'joinCrops') watched.joined *= decision.crops
  }
  work.decided(performance.now() - start)
  return decided.map(({ entry }) => entry)
}

/** No patch sees another any more. */
function behindBlocks({ part }: VisionStop, { config }: Tower): boolean {
  return part === 'decoder' || (part === 'projector' && config.pool === 1)
}

/** Patches that the decoder never gets, of padding alone, are gone before methods choose among the others. */
async function dropPadding({ glance, rowOf, work }: Watched): Promise<void> {
  const rows = glance.rows()
  const drop = rows.filter((source) => rowOf.has(source))
  if (drop.length === rows.length || drop.length === 0) return
  await work.scheduler.job(() => work.tower.native.apply(glance, { drop }))
}

function actionOf(decision: Decided['decision']): VisionAction | undefined {
  if (decision.action === 'dropPatches') return { drop: Int32Array.from(decision.kept) }
  if (decision.action === 'blendPatches')
    return { blend: Int32Array.from(decision.into), weights: Float32Array.from(decision.weights) }
  if (decision.action === 'joinCrops') return { join: decision.crops }
  if (decision.action === 'carryPatches') return { carry: true }
  if (decision.action === 'recallPatches') return { recall: Int32Array.from(decision.as) }
  if (decision.action !== 'mergePatches') return undefined
  const { into, proportional, weights } = decision
  return {
    merge: Int32Array.from(into),
    ...(weights && { weights: Float32Array.from(weights) }),
    ...(proportional && { proportional }),
  }
}

function seenAt(
  { crops, glance, had, joined, rowOf, work }: Watched,
  { layer, part }: VisionStop,
  cosines: Float32Array | undefined,
): VisionSeen {
  const { grid, shape: vision } = work.tower
  const side = part === 'decoder' ? grid.rows : grid.side
  const sized = crops.map((crop) => ({ ...crop, rows: side, columns: side }))
  const sources = glance.rows()
  return {
    at: 'vision',
    shape: work.shape,
    vision,
    layer,
    part,
    step: work.step,
    sources,
    crops: sized,
    joined,
    given: behindBlocks({ layer, part, needs: [] }, work.tower) ? rowOf.size : crops.length * side * side,
    place(source) {
      const row = rowOf.get(source)
      return (row === undefined ? undefined : work.place(row)) ?? -1 - source
    },
    sizes: () => glance.sizes(),
    seen(what: VisionWhat, block: number) {
      if (what !== 'cosines') {
        const then = had.get(block) ?? { rows: sources, joined }
        const whole = asOne(sized, then.joined)
        return ofPatches(what, glance.seen(block, what), { had: then.rows, left: sources, crops: whole })
      }
      if (cosines === undefined)
        throw new TypeError('Expected `cosines` among the needs of the look but received a call for it')
      return cosines
    },
    hidden: () => glance.hidden(),
  }
}
