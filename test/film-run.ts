// A run made by hand, with pictures: what a session with a tower would leave.
import type { PlanEntry } from '../lib/index.js'
import { pngUrl } from '../lib/report/png.js'
import type { Run, RunCrop } from '../lib/report/run.js'

/** Patches a side of a picture, and pixels a side of a patch. */
const SIDE = 8
const PATCH = 12

/** A red disc and a blue square on grey; `shift` moves them. */
function scene(shift: number): string {
  const size = SIDE * PATCH
  const data = new Uint8Array(size * size * 3)
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const disc = Math.hypot(x - 30 - shift, y - 34) < 20
      const square = x > 58 - shift && x < 84 - shift && y > 52 && y < 80
      const colour = disc ? [200, 40, 40] : square ? [40, 70, 190] : [205 - (y >> 1), 210 - (y >> 1), 200]
      data.set(colour, 3 * (y * size + x))
    }
  }
  return pngUrl({ data, width: size, height: size })
}

function cropAt(first: number, frame: number): RunCrop {
  const sources = Array.from({ length: SIDE * SIDE }, (_, i) => first + i)
  return {
    kind: 'frame',
    image: 0,
    row: frame,
    column: 0,
    rows: SIDE,
    columns: SIDE,
    sources,
    picture: scene(4 * frame),
  }
}

const BEFORE = ['What', ' moves', '?']
const AFTER = ['\n', 'The', ' film', ' again', ':', ' ', '</script', '>', ' what', ' moves', '?']
const PATCHES = 2 * SIDE * SIDE
const TOKENS = BEFORE.length + PATCHES + AFTER.length

/** Squares of two by two patches of the upper half merge before block 1, half of the lower ones go before layer 1, and of the first text word layer 2 keeps one head of two. */
function plan(): PlanEntry[] {
  const patches = Array.from({ length: PATCHES }, (_, i) => BEFORE.length + i)
  const into = patches.map((source, i) => {
    const [y, x] = [(i >> 3) & 7, i & 7]
    return y < 4 ? source - (y & 1) * SIDE - (x & 1) : source
  })
  const merged = [...new Set(into)]
  const rows = Array.from({ length: TOKENS }, (_, i) => i).filter((i) => !patches.includes(i) || merged.includes(i))
  const kept = rows.filter((source) => !patches.includes(source) || source % 2 === 1)
  const left = patches.filter((source) => merged.includes(source))
  const scores = left.map((source) => (source % 2) + source / 1000)
  const heads = [kept, kept.filter((source) => source > 0)]
  const counts = { step: 0, method: 'mine' } as const
  return [
    { ...counts, phase: 'vision', layer: 1, action: 'merge', before: PATCHES, after: merged.length, into },
    { ...counts, phase: 'prefill', layer: 1, action: 'drop', before: rows.length, after: kept.length, kept, scores },
    {
      ...counts,
      phase: 'prefill',
      layer: 2,
      action: 'evict',
      before: 2 * kept.length,
      after: 2 * kept.length - 1,
      keptPerHead: heads,
    },
    { ...counts, phase: 'prompt', layer: 3, action: 'skip', before: 0, after: 0, what: 'attention' },
  ]
}

export function filmRun(name = 'mine, keep 0.5', entries: PlanEntry[] = plan()): Run {
  const patches = Array.from({ length: PATCHES }, () => '')
  const time = { load: 1, vision: 12, prefill: 30, decode: 20, decide: 1 }
  return {
    kind: 'tokensieve-run',
    version: 1,
    text: 'The <b>disc</b>.',
    ids: [5, 6],
    finishReason: 'stop',
    stats: {
      prompt: { tokens: TOKENS, seen: 90, cached: 0 },
      generated: { tokens: 2, proposed: 0, accepted: 0 },
      kv: { bytes: 4096, fullBytes: 8192, peakBytes: 8192, storedBytes: 0, layers: [] },
      time,
      tokensPerSecond: { prefill: 1, decode: 1 },
    },
    plan: entries,
    model: { name: 'tiny', layers: 4, kvHeads: 2, isa: 'reference', tower: 3 },
    name,
    tokens: [...BEFORE, ...patches, ...AFTER, 'The', ' disc'],
    prompt: TOKENS,
    crops: [cropAt(BEFORE.length, 0), cropAt(BEFORE.length + SIDE * SIDE, 1)],
  }
}
