// Saying again what was there word for word: one line of many, or a pattern that goes on.
import { NAMES, THINGS } from '../words.js'
import { type Frame, overDepths, overLengths, pieces, type Sample, type Task } from './task.js'

const WORDS = 6
const GIVEN = 2
const ASKED = 3
const PERIOD = 24

function lines(frame: Frame): Sample {
  const { depth, draw, tokens } = frame
  // A label is a word that no other line begins with; after the list is used up, lines are numbered too.
  const labels = draw.shuffled(NAMES)
  let count = 0
  const label = (at: number) =>
    `${labels[at % labels.length]}${at < labels.length ? '' : ` ${Math.floor(at / labels.length) + 1}`}:`
  const made = pieces(frame, tokens('Lines.'), () => `${label(count++)} ${draw.several(THINGS, WORDS).join(' ')}`)
  const at = Math.round(depth * (made.length - 1))
  const mark = made[at] ?? ''
  // The label and the first words are given; the next ones have to be found.
  const begin = label(at).split(' ').length + GIVEN
  const words = mark.split(' ')
  return {
    context: `Lines.\n${made.join('\n')}`,
    question: `\n\nAgain, word for word:\n${words.slice(0, begin).join(' ')}`,
    answer: ` ${words.slice(begin, begin + ASKED).join(' ')}`,
    mark,
  }
}

function pattern(frame: Frame): Sample {
  const { draw, tokens } = frame
  const words = draw.several([...THINGS, ...NAMES], PERIOD)
  let count = 0
  const made = pieces(frame, tokens('Pattern:'), () => words[count++ % PERIOD] as string)
  const next = Array.from({ length: 8 }, (_, i) => words[(made.length + i) % PERIOD])
  return { context: `Pattern: ${made.join(' ')}`, question: '', answer: ` ${next.join(' ')}` }
}

export const copy: Task = {
  name: 'copy',
  title: `${ASKED} more words of one line of many, whose label and first ${GIVEN} words are given`,
  gated: true,
  places: overDepths,
  make: lines,
}

export const repetition: Task = {
  name: 'repetition',
  title: `how a pattern of ${PERIOD} words goes on`,
  gated: true,
  asks: () => false,
  places: overLengths,
  make: pattern,
}
