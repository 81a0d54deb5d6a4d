// Saying again what was there word for word: one line of many, or a pattern that goes on.
import { NAMES, THINGS } from '../words.js'
import { type Frame, overDepths, overLengths, pieces, type Sample, type Task } from './task.js'

const WORDS = 6
const PERIOD = 24

function lines(frame: Frame): Sample {
  const { depth, draw, tokens } = frame
  let count = 0
  const made = pieces(frame, tokens('Lines:'), () => `${++count}. ${draw.several(THINGS, WORDS).join(' ')}.`)
  const at = Math.round(depth * (made.length - 1))
  const mark = made[at] ?? ''
  const label = `${at + 1}.`
  return {
    context: `Lines:\n${made.join('\n')}`,
    question: `\n\nLine ${at + 1} again:\n${label}`,
    answer: mark.slice(label.length),
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
  title: 'one numbered line of many, word for word',
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
