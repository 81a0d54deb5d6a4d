// Needle threading: UUID pairs as one JSON object; a value may be the key of another pair. arXiv 2411.05000
import type { Draw } from '../draw.js'
import { type Frame, overDepths, overLengths, type Sample, type Task } from './task.js'

export type Pair = readonly [key: string, value: string]

/** 80 characters a pair: N pairs are 80 · N characters. */
export function haystack(pairs: readonly Pair[]): string {
  return `{${pairs.map(([key, value]) => `"${key}": "${value}"`).join(', ')}}`
}

export function randomPairs(draw: Draw, count: number): Pair[] {
  return Array.from({ length: count }, () => [draw.uuid(), draw.uuid()] as const)
}

/** `pairs` where those at `places`, in this order, lead from key to value to key. */
export function threaded(pairs: readonly Pair[], places: readonly number[]): Pair[] {
  const made = [...pairs]
  for (const [i, place] of places.entries()) {
    const before = i === 0 ? undefined : made[places[i - 1] as number]
    if (before) made[place] = [before[1], (made[place] as Pair)[1]]
  }
  return made
}

/** Pairs that come near to the length; at least as many as a thread needs. */
function pairsOf(frame: Frame, least: number): Pair[] {
  const { draw, length, tokens } = frame
  const [sample] = randomPairs(draw, 1)
  const each = tokens(haystack([sample as Pair]))
  return randomPairs(draw, Math.max(least, Math.floor(length / each)))
}

function asked(pairs: readonly Pair[], places: readonly number[]): Sample {
  const made = threaded(pairs, places)
  const [key] = made[places[0] as number] as Pair
  const [, value] = made[places.at(-1) as number] as Pair
  const follow = places.length > 1 ? ' Where a value is a key again, follow it to the last value.' : ''
  const mark = made[places[0] as number] as Pair
  return {
    context: haystack(made),
    question: `\nExtract the value of the key in the JSON object above.${follow}\nKey: "${key}"\nCorresponding value: "`,
    answer: value,
    mark: `"${mark[0]}": "${mark[1]}"`,
  }
}

export const uuid: Task = {
  name: 'uuid',
  title: 'the value of one key among UUID pairs',
  gated: true,
  places: overDepths,
  make(frame) {
    const pairs = pairsOf(frame, 1)
    return asked(pairs, [Math.round(frame.depth * (pairs.length - 1))])
  },
}

function thread(name: string, title: string, order: (places: number[]) => number[]): Task {
  return {
    name,
    title,
    gated: true,
    places: overLengths,
    make(frame) {
      const pairs = pairsOf(frame, 3)
      const places = frame.draw.several([...pairs.keys()], 2).sort((a, b) => a - b)
      return asked(pairs, order(places))
    },
  }
}

export const threadForward = thread('thread', 'two UUID pairs, the second later in the text', (places) => places)
export const threadBackward = thread('threadBack', 'two UUID pairs, the second earlier in the text', (places) =>
  places.reverse(),
)
