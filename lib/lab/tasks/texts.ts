// A user's own texts: what comes next in one, and prompts with or without an answer.
import { rangeError } from '../../errors.js'
import { overLengths, type Task } from './task.js'

/** Words of a text that are held out after the context. */
const HELD = 48

/** A user's prompt. Without an answer, the full cache's own continuation is what others are measured by. */
export interface SamplePrompt {
  readonly prompt: string
  /** After the prompt; where it is missing the whole prompt is what gets compressed. */
  readonly question?: string
  readonly answer?: string
}

/** Windows of a text, evenly spaced over it: the context, then words that nobody has seen. */
export function textTask(text: string): Task {
  // A word with the blanks before it, so that pieces joined are the text.
  const words = text.trim().match(/\s*\S+/g) ?? []
  return {
    name: 'text',
    title: `the next ${HELD} words of a text`,
    gated: false,
    asks: () => false,
    places: overLengths,
    make({ draw, length, seed, tokens }) {
      const most = words.length - HELD
      const first = seed === 1 ? 0 : draw.below(Math.max(1, most))
      // A text that ends before the window is full lends it words from before.
      let [from, to] = [first, first]
      let left = length
      const take = (word: string) => {
        left -= tokens(word)
        return left >= 0
      }
      while (to < most && take(words[to] as string)) to++
      if (to === most) while (from > 0 && take(words[from - 1] as string)) from--
      if (to - from < 8) throw rangeError(`a text of more than ${HELD + 8} words`, 'text', text)
      return {
        context: words.slice(from, to).join('').trimStart(),
        question: '',
        answer: words.slice(to, to + HELD).join(''),
      }
    },
  }
}

export function promptsTask(prompts: readonly SamplePrompt[]): Task {
  return {
    name: 'prompts',
    title: 'prompts of your own',
    gated: false,
    asks: ({ seed }) => prompts[seed - 1]?.question !== undefined,
    places: () => prompts.map((_, i) => ({ length: 0, depth: 0.5, seed: i + 1 })),
    make({ seed }) {
      const { answer, prompt, question = '' } = prompts[seed - 1] as SamplePrompt
      return { context: prompt, question, ...(answer !== undefined && { answer }) }
    },
  }
}
