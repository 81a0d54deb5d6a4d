// One fact in a haystack of unlike sentences, alone or among facts of the same form.
import { PLACES } from '../words.js'
import { type Frame, overDepths, pieces, placed, type Sample, sentence, type Task } from './task.js'

const OTHERS = 7

const fact = (place: string, code: string) => `The secret code of ${place} is ${code}.`

function hide(frame: Frame, others: number): Sample {
  const { depth, draw, tokens } = frame
  const [place = '', ...rest] = draw.several(PLACES, 1 + others)
  const code = draw.digits(5)
  const mark = fact(place, code)
  const decoys = rest.map((other) => fact(other, draw.digits(5)))
  let text = pieces(frame, tokens([mark, ...decoys].join(' ')), () => sentence(draw))
  for (const decoy of decoys) text = placed(text, decoy, draw.bits() / 2 ** 32)
  const context = placed(text, mark, depth).join(' ')
  return {
    context,
    question: `\n\nWhat is the secret code of ${place}? ${fact(place, '').slice(0, -2)}`,
    answer: ` ${code}`,
    mark,
  }
}

export const needle: Task = {
  name: 'needle',
  title: 'one number in a haystack of sentences',
  gated: true,
  places: overDepths,
  make: (frame) => hide(frame, 0),
}

export const needles: Task = {
  name: 'multikey',
  title: `one number in a haystack with ${OTHERS} others of the same form`,
  gated: true,
  places: overDepths,
  make: (frame) => hide(frame, OTHERS),
}
