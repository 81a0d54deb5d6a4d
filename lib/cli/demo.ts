// tokensieve demo: a question answered with everything and with less, about a picture or about a text.
import { type Options, parse } from './arguments.js'
import { askAboutPicture, PICTURE, PICTURE_METHODS, QUESTIONS } from './demo/pictures.js'
import { askAboutText, DOCUMENT, TEXT_METHODS, TEXT_QUESTION } from './demo/text.js'
import type { Command } from './io.js'
import { METHOD_HELP } from './method-option.js'
import { MODEL_HELP, MODEL_OPTIONS } from './open-model.js'

const OPTIONS = {
  ...MODEL_OPTIONS,
  image: { type: 'string' },
  html: { type: 'string' },
  text: { type: 'boolean' },
  document: { type: 'string' },
  question: { type: 'string', multiple: true },
  method: { type: 'string', multiple: true },
} satisfies Options

export const command: Command = {
  help: `
Asks questions about a picture, with all of its patches and with a quarter of them: chosen by
methods, and by chance, the floor that a method has to beat. Tells what each saved and what it cost
in right answers, and writes a page that shows which patches were dropped. With --text or
--document, a question about a long text instead, with the full cache and with less.

Usage: tokensieve demo [options]

      --image FILE       default: ${PICTURE}, which comes with the package
      --question TEXT    may be repeated; default: ${QUESTIONS[0]} and ${QUESTIONS.length - 1} more
      --html FILE        where the page goes; default: tokensieve-demo.html
      --text             about the guide that comes with the package (${DOCUMENT}) instead;
                         default question: ${TEXT_QUESTION}
      --document FILE    about another text
      --method METHOD    may be repeated; default: ${PICTURE_METHODS[0]} and ${PICTURE_METHODS.length - 1} more,
                         for texts ${TEXT_METHODS[0]} and ${TEXT_METHODS.length - 1} more
${MODEL_HELP.slice(1)}
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    const { document, text } = parsed.values
    await (document === undefined && text !== true ? askAboutPicture(parsed, io) : askAboutText(parsed, io))
    return 0
  },
}
