// A value that goes from name to name: what the last one holds is said nowhere, it has to be followed.
import { NAMES } from '../words.js'
import { type Frame, overLengths, pieces, type Sample, sentence, type Task } from './task.js'

const HOPS = 1

function chained(frame: Frame): Sample {
  const { draw, tokens } = frame
  const names = draw.several(NAMES, 2 * (HOPS + 1))
  const values = [draw.digits(4), draw.digits(4)]
  // Two chains of the same form: the other one's value is the likeliest mistake.
  const chains = values.map((value, c) =>
    names
      .slice(c * (HOPS + 1), (c + 1) * (HOPS + 1))
      .map((name, i, chain) => `Set ${name} = ${i === 0 ? value : chain[i - 1]}.`),
  )
  const steps = chains.flat()
  const text = pieces(frame, tokens(steps.join(' ')), () => sentence(draw))
  // Steps of a chain stay in order; which of the two goes next is luck.
  const turns = draw.shuffled(chains.flatMap((chain, c) => chain.map(() => c)))
  const spots = turns.map(() => draw.below(text.length + 1)).sort((a, b) => a - b)
  const queues = chains.map((chain) => [...chain])
  const lines = turns.map((c) => queues[c]?.shift() ?? '')
  const context = [...text.keys(), text.length].flatMap((at) => [
    ...lines.filter((_, i) => spots[i] === at),
    ...(text[at] === undefined ? [] : [text[at]]),
  ])
  const asked = names[HOPS] as string
  return {
    context: context.join(' '),
    question: `\n\nEvery name stands for a number. What number is ${asked}? ${asked} =`,
    answer: ` ${values[0]}`,
    mark: chains[0]?.[0] as string,
  }
}

export const variables: Task = {
  name: 'variables',
  title: 'a number that is said of another name, with a second chain of the same form beside it',
  gated: true,
  places: overLengths,
  make: chained,
}
