// tokensieve calibrate: the smallest cache that stays near the full one on your own text.
import { type CalibrateOptions, type Calibration, calibrate } from '../lab/index.js'
import { parsePrompts } from '../lab/prompt-file.js'
import { keepText, percent, short } from '../report/table.js'
import { readText } from '../text-file.js'
import { numberOf, numbersOf, type Options, type Parsed, parse, textOf, UsageError } from './arguments.js'
import { kvsOf, mixesOf, progress, textFor } from './compare.js'
import { plainTable } from './format.js'
import type { Command, Io } from './io.js'
import { METHOD_HELP } from './method-option.js'
import { MODEL_HELP, MODEL_OPTIONS, openModel } from './open-model.js'

const OPTIONS = {
  ...MODEL_OPTIONS,
  'max-kl': { type: 'string' },
  method: { type: 'string', multiple: true },
  methods: { type: 'string' },
  keep: { type: 'string' },
  kv: { type: 'string' },
  text: { type: 'string' },
  length: { type: 'string' },
  seeds: { type: 'string' },
  prompts: { type: 'string' },
  output: { type: 'string', short: 'o' },
} satisfies Options

export const command: Command = {
  help: `
Tries methods and budgets on sample prompts and picks the smallest cache whose next-token
distributions stay near the full cache's. Prints a small JSON that a session takes:
model.session({ quality }).

Usage: tokensieve calibrate [options]

      --max-kl NATS      mean divergence a token that is allowed; default 0.05
      --prompts FILE     your own, as in "compare"; best are texts like those that will be read
      --text FILE        or windows of one text; default the guide that comes with the package
      --length N         tokens of such a window; default 512
      --seeds N          how many windows; default 3
      --method METHOD    tried at every budget; A+B for two at once; may be repeated; default h2o
                         and snapkv; or --methods A,B
      --keep SHARE,…     default 0.875,0.75,0.625,0.5,0.375,0.25,0.125,0.0625
      --kv TYPE,…        how caches are stored; the first is the full one's
  -o, --output FILE      writes the JSON there; default: stdout
${MODEL_HELP.slice(1)}
${METHOD_HELP}`,

  async run(args, io) {
    const parsed = parse(args, OPTIONS)
    const options = await optionsOf(parsed)
    const { model } = await openModel(parsed, io)
    try {
      const { signal } = io.interrupts
      const found = await calibrate(model, { ...options, signal, onProgress: (at) => progress(io, at) })
      explain(found, io)
      if (options.file === undefined) io.out.write(`${JSON.stringify(found, null, 2)}\n`)
    } finally {
      await model.close()
    }
    return 0
  },
}

async function optionsOf(parsed: Parsed): Promise<CalibrateOptions> {
  const prompts = textOf(parsed, 'prompts')
  const text = textOf(parsed, 'text')
  if (prompts !== undefined && text !== undefined) throw new UsageError('Expected --prompts or --text, not both')
  const given = {
    methods: mixesOf(parsed),
    keep: numbersOf(parsed, 'keep', { min: 0.0001, max: 0.9999 }),
    kv: kvsOf(parsed),
    length: numberOf(parsed, 'length', { min: 16, whole: true }),
    seeds: numberOf(parsed, 'seeds', { min: 1, max: 10000, whole: true }),
    ...(prompts === undefined
      ? { text: await textFor(text) }
      : { prompts: parsePrompts(await readText(prompts), prompts) }),
    file: textOf(parsed, 'output'),
  }
  const quality = { maxKl: numberOf(parsed, 'max-kl', { min: 0 }) ?? 0.05 }
  return { quality, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) }
}

/** What was tried and what was picked, beside the JSON. */
function explain({ kl, quality, share, tried }: Calibration, io: Io): void {
  const columns = [
    { title: 'method' },
    { title: 'kv' },
    ...['keep', 'of full', 'KL'].map((title) => ({ title, right: true })),
  ]
  const rows = tried.map((one) => [one.method, one.kv, keepText(one.keep), percent(one.share), short(one.kl.mean)])
  const picked = `picked ${percent(share)} of the full cache's bytes, KL ${short(kl.mean)}, at most ${quality.maxKl} was asked for`
  io.err.write(`${plainTable(columns, rows).join('\n')}\n${picked}\n`)
}
