// A list of words of which one comes three times as often as any other.
import { THINGS } from '../words.js'
import { type Frame, overLengths, pieces, type Sample, type Task } from './task.js'

const WORDS = 8

function counted(frame: Frame): Sample {
  const { draw } = frame
  const [often = '', ...others] = draw.several(THINGS, WORDS)
  // Rounds of the others once and the frequent one three times, so that the counts are exact at every length.
  let round: string[] = []
  const list = pieces(frame, frame.tokens('Words:'), () => {
    if (round.length === 0) round = draw.shuffled([...others, often, often, often])
    return round.pop() as string
  })
  return {
    context: `Words: ${list.join(' ')}.`,
    question: '\n\nThe word that comes most often in this list is "',
    answer: often,
  }
}

export const counting: Task = {
  name: 'counting',
  title: 'which word of a list comes most often',
  gated: true,
  places: overLengths,
  make: counted,
}
