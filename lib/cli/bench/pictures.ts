// A prompt with a picture, from its pixels to a cache that can answer: what methods in the tower and in the layers save of it.
import { stat } from 'node:fs/promises'
import { fromNative } from '../../errors.js'
import { kvText } from '../../kv-text.js'
import { native } from '../../native.js'
import type { VisionConfig } from '../../native-vision.js'
import { findTower } from '../../vision/find.js'
import type { RawImage } from '../../vision/image.js'
import { UsageError } from '../arguments.js'
import { median } from '../format.js'
import type { Io } from '../io.js'
import { prefillSeconds, type Rates, tokensByLayer } from './roofline.js'
import type { Setting } from './runs.js'
import { type Meter, progress, type Subject } from './subject.js'
import { patchesByPlace, type TowerWork, towerSeconds, towerWorkOf } from './tower-work.js'

/** One line of the table. Milliseconds of the fastest round, methods apart from tower and prompt; `ms`: from pixels to cache. */
export interface PictureRun {
  readonly model: string
  readonly method: string
  readonly kv: string
  /** Rows of the picture, those that leave the tower, and those that run in a layer of the decoder (a mean over layers). */
  readonly patches: number
  readonly entered: number
  readonly visual: number
  readonly vision: number
  readonly prefill: number
  readonly decide: number
  readonly ms: number
  readonly median: number
  /** Of the machine's limits. */
  readonly share: number
  /** Against no method: how much faster, and how much the arithmetic of what is left promises. */
  readonly speedup?: number
  readonly ideal?: number
  /** Time saved, of the time that the arithmetic promises to save. */
  readonly saved?: number
}

/** Tokens of text behind the picture. */
const QUESTION = 32
/** Of the picture: resized to what the tower reads. */
const [WIDTH, HEIGHT] = [640, 480]

interface Round {
  readonly vision: number
  readonly prefill: number
  readonly decide: number
  readonly ms: number
}

interface Sample {
  readonly setting: Setting
  readonly rounds: Round[]
  seen: Seen
}

/** What ran: patches by place of the tower, rows by layer of the decoder. */
interface Seen {
  readonly crops: number
  readonly given: number
  readonly places: readonly number[]
  readonly entered: number
  readonly rows: readonly number[]
}

/** path: of the decoder. tower: of its tower, where it was named. */
export async function towerOfSubject({ model }: Subject, path: string, tower: string | undefined): Promise<TowerWork> {
  const folder = (await stat(path)).isDirectory()
  const found = tower ?? (await findTower(path, folder))
  if (found === undefined || model.vision === null)
    throw new UsageError('Expected a model with a vision tower for the section pictures (--vision FILE)')
  const file = await native()
    .open(found)
    .catch((error: unknown) => {
      throw fromNative(error)
    })
  try {
    return towerWorkOf(model.vision as VisionConfig, file.tensors())
  } finally {
    file.close()
  }
}

export async function measurePictures(
  subject: Subject,
  tower: TowerWork,
  { rounds, settings }: { rounds: number; settings: readonly Setting[] },
  meter: Meter,
  io: Io,
): Promise<PictureRun[]> {
  let pictures = 0
  const samples: Sample[] = []
  // The first turn of all is not counted.
  for (const setting of settings) {
    progress(io, `${subject.file}: a picture to warm up, method ${setting.method}`)
    const { seen } = await oneRun(subject, tower, setting, ++pictures)
    samples.push({ setting, rounds: [], seen })
  }
  await meter.measure()
  for (let round = 0; round < rounds; round++) {
    for (const [i, sample] of samples.entries()) {
      const { setting } = sample
      progress(io, `${subject.file}: picture ${round * samples.length + i + 1} of ${rounds * samples.length}`)
      const { seen, ...times } = await oneRun(subject, tower, setting, ++pictures)
      sample.rounds.push(times)
      sample.seen = seen
    }
    await meter.measure()
  }
  progress(io, '')
  return samples.map((sample) => runOf(sample, samples, subject, tower, meter.ratesOf(subject.model)))
}

async function oneRun(
  { ids: idsOf, model }: Subject,
  { config }: TowerWork,
  { kv, methods }: Setting,
  number: number,
): Promise<Round & { seen: Seen }> {
  const session = model.session({ kv, methods, reuse: false })
  try {
    const prompt = [{ image: noise(number) }, { ids: idsOf(QUESTION + 1).slice(1) }]
    const start = performance.now()
    await session.forward(prompt, { logits: 'none' })
    const ms = performance.now() - start
    const { decide, prefill, vision } = session.stats.time
    const { ids, pictures, plan } = session
    const crops = pictures?.placed[0]?.picture.layout.crops.length ?? 1
    const given = ids.filter((id) => id < 0).length
    const cut = plan.filter(({ phase }) => phase === 'vision').at(-1)
    const entered = cut?.after ?? given
    const layers = plan.filter(({ phase }) => phase !== 'vision')
    const rows = tokensByLayer(layers, ids.length - given + entered, model.config.layers)
    return {
      decide,
      ms,
      prefill,
      vision,
      seen: { crops, given, entered, rows, places: patchesByPlace(plan, { config }, crops) },
    }
  } finally {
    await session.close()
  }
}

/** Another picture every time, so that none is found encoded. */
function noise(number: number): RawImage {
  let state = number
  const data = Uint8Array.from({ length: WIDTH * HEIGHT * 3 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> 24
  })
  return { data, width: WIDTH, height: HEIGHT, channels: 3 }
}

function runOf(
  { rounds, seen, setting }: Sample,
  [full]: readonly Sample[],
  { file, work }: Subject,
  tower: TowerWork,
  rates: Rates,
): PictureRun {
  const least = ({ crops, places, rows }: Seen) =>
    1000 * (towerSeconds(tower, places, crops, rates) + prefillSeconds(work, (layer) => rows[layer] ?? 0, rates))
  const fastest = (all: readonly Round[]) => all.reduce((best, one) => (one.ms < best.ms ? one : best))
  const best = fastest(rounds)
  const whole = full && full.setting !== setting ? fastest(full.rounds).ms : undefined
  const against = full &&
    whole !== undefined && {
      speedup: rounded(whole / best.ms),
      ideal: rounded(least(full.seen) / least(seen)),
      saved: rounded((whole - best.ms) / (whole * (1 - least(seen) / least(full.seen)))),
    }
  const text = (seen.rows[0] ?? 0) - seen.entered
  return {
    ...{ model: file, method: setting.method, kv: kvText(setting.kv) },
    ...{ patches: seen.given, entered: seen.entered },
    visual: rounded(seen.rows.reduce((sum, rows) => sum + rows - text, 0) / seen.rows.length),
    ...{ vision: rounded(best.vision), prefill: rounded(best.prefill), decide: rounded(best.decide) },
    ms: rounded(best.ms),
    median: rounded(median(rounds.map(({ ms }) => ms))),
    share: rounded(least(seen) / best.ms),
    ...against,
  }
}

function rounded(value: number): number {
  return Number(value.toPrecision(5))
}
