// What a task is: texts made from a seed, and an answer that is known.

import type { Draw } from '../draw.js'
import { MANNERS, PEOPLE, PLACES, THINGS, VERBS } from '../words.js'

/** Where in a task's grid a case stands. */
export interface Place {
  /** Tokens that the context should come near to. */
  readonly length: number
  /** Where in the context that is which the question asks for: 0 at its beginning, 1 at its end. */
  readonly depth: number
  readonly seed: number
}

export interface Frame extends Place {
  readonly draw: Draw
  /** How many tokens a text is. */
  tokens(text: string): number
}

export interface Sample {
  readonly context: string
  /** '' where the answer goes on from the context. */
  readonly question: string
  /** Missing: what the full cache itself would say, `CONTINUATION` tokens of it. */
  readonly answer?: string
  /** The part of the context that the question asks for. */
  readonly mark?: string
}

export interface Grid {
  readonly lengths: readonly number[]
  readonly depths: readonly number[]
  readonly seeds: number
}

export interface Task {
  readonly name: string
  readonly title: string
  /** Whether a case counts only where the full cache gives the answer itself. */
  readonly gated: boolean
  places(grid: Grid): Place[]
  /** Whether a case has a question; default true. */
  asks?(place: Place): boolean
  make(frame: Frame): Sample
}

/** Tokens of the full cache's own continuation, where a prompt has no answer. */
export const CONTINUATION = 32

/** Every length with every depth and seed. */
export function overDepths({ depths, lengths, seeds }: Grid): Place[] {
  return lengths.flatMap((length) => depths.flatMap((depth) => overSeeds(seeds, length, depth)))
}

/** Every length and seed; what is asked for lies anywhere. */
export function overLengths({ lengths, seeds }: Grid): Place[] {
  return lengths.flatMap((length) => overSeeds(seeds, length, 0.5))
}

function overSeeds(seeds: number, length: number, depth: number): Place[] {
  return Array.from({ length: seeds }, (_, seed) => ({ length, depth, seed: seed + 1 }))
}

/** One sentence of a haystack. */
export function sentence(draw: Draw): string {
  const [first, second] = draw.several(THINGS, 2)
  return `The ${draw.pick(PEOPLE)} in ${draw.pick(PLACES)} ${draw.pick(VERBS)} the ${first} and the ${second} ${draw.pick(MANNERS)}.`
}

/** Pieces, made one by one until they and `taken` tokens come near to the length. */
export function pieces(frame: Frame, taken: number, make: () => string): string[] {
  const made: string[] = []
  let left = frame.length - taken
  for (;;) {
    const piece = make()
    left -= frame.tokens(` ${piece}`)
    if (left < 0) return made
    made.push(piece)
  }
}

/** `list` with `piece` at a depth of it. */
export function placed(list: readonly string[], piece: string, depth: number): string[] {
  const at = Math.round(depth * list.length)
  return [...list.slice(0, at), piece, ...list.slice(at)]
}
