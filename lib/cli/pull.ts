// tokensieve pull: a model by name, to a path.
import { knownModels } from '../pull.js'
import { parse } from './arguments.js'
import { bytes } from './format.js'
import type { Command } from './io.js'
import { pullWithBar } from './open-model.js'

const names = knownModels()
  .map(({ name, title, bytes: size }) => `  ${name.padEnd(24)}${title}, ${bytes(size)}`)
  .join('\n')

export const command: Command = {
  help: `
Gets a model unless it is there, checks its SHA-256 and prints its path.
What was downloaded before an interruption is used again.

Usage: tokensieve pull NAME

${names}
  hf:OWNER/REPO/FILE      a file of the Hugging Face hub

Models are kept in the user's cache folder, or where TOKENSIEVE_MODELS says.`,

  async run(args, io) {
    const { positionals } = parse(args, {}, ['NAME'])
    io.out.write(`${await pullWithBar(positionals[0] ?? '', io)}\n`)
    return 0
  },
}
