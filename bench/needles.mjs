// Every method that acts on text against chance and the newest rows, on tasks that the full cache passes: the tables and the page of docs/needles.
//   node bench/needles.mjs --model FILE [--grid NAME,…] [--threads 1] --out FOLDER     measures; one file a grid, so that grids can run side by side (short: a few needles, for larger models)
//   node bench/needles.mjs --from FOLDER [--from FOLDER]… --write                        docs/needles.md and docs/needles.html
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { compare, load, methods, retrievalHeads } from '../dist/index.mjs'
import { CACHE } from './needles-methods.mjs'
import { writePages } from './needles-page.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    grid: { type: 'string', default: 'needle,multikey,uuid,repetition,copy,variables,layers' },
    threads: { type: 'string', default: '1' },
    out: { type: 'string', default: '.' },
    from: { type: 'string', multiple: true, default: [] },
    write: { type: 'boolean', default: false },
  },
})

const LAYERS = ['fastv', 'tome']
const strides = [2, 4, 8, 16]

const alone = (name, method) => ({ name, methods: [method], sweep: false })

/** With a model's heads; those that choose how much they keep by themselves say so in their names. */
function cacheMixes(heads) {
  return [
    ...CACHE.map((name) => methods[name]()),
    alone('evenShare', methods.evenShare()),
    alone('evenShare, heads', methods.evenShare({ heads, under: 2 })),
    alone('razorAttention', methods.razorAttention({ heads, keep: 0.0625 })),
  ]
}

function layerMixes() {
  return [
    ...LAYERS.map((name) => methods[name]()),
    { name: 'random, layers', methods: [methods.random({ acts: 'layers' })] },
    alone('pyramidDrop', methods.pyramidDrop()),
    ...strides.map((stride) => alone(`llavolta ${stride}`, methods.llavolta({ stride }))),
    alone('llmDrop', methods.llmDrop()),
    alone('pMod', methods.pMod()),
    alone('zipVl', methods.zipVl()),
  ]
}

/** What is asked. Tasks and lengths are those at which SmolLM2-135M passes often enough; at a sixteenth of 512 tokens a window of 32 rows is all that stays, so needles are longer. */
const GRIDS = {
  needle: { tasks: ['needle'], lengths: [1024], depths: 5, seeds: 3 },
  multikey: { tasks: ['multikey'], lengths: [1024], depths: 3, seeds: 6 },
  uuid: { tasks: ['uuid'], lengths: [320], depths: 3, seeds: 8 },
  repetition: { tasks: ['repetition'], lengths: [512], seeds: 16 },
  copy: { tasks: ['copy'], lengths: [256], depths: 3, seeds: 12 },
  variables: { tasks: ['variables'], lengths: [256], seeds: 24 },
  short: { tasks: ['needle'], lengths: [512], depths: 5, seeds: 2 },
  layers: { tasks: ['needle'], lengths: [512], depths: 5, seeds: 2 },
}

async function measure() {
  const model = await load(values.model, { threads: Number(values.threads) })
  mkdirSync(values.out, { recursive: true })
  const heads = await retrievalHeads(model, { echo: 0.05 })
  for (const name of values.grid.split(',')) {
    const start = process.cpuUsage()
    const mixes = name === 'layers' ? layerMixes() : cacheMixes(heads)
    const told = ({ done, total }) => process.stderr.write(`\r${name} ${done} of ${total}   `)
    const { cases, kept, ...found } = await compare(model, { ...GRIDS[name], methods: mixes, onProgress: told })
    const { system, user } = process.cpuUsage(start)
    const pictures = name === 'needle' ? kept : []
    const all = { grid: name, file: basename(values.model), seconds: (user + system) / 1e6, ...found, cases }
    writeFileSync(join(values.out, `${name}.json`), JSON.stringify({ ...all, kept: pictures }))
  }
  await model.close()
}

if (values.from.length > 0) {
  const read = (folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.json'))
      .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
  const order = Object.keys(GRIDS)
  const sets = values.from.map((folder) => read(folder).sort((a, b) => order.indexOf(a.grid) - order.indexOf(b.grid)))
  writePages(sets, values.write)
} else {
  if (!values.model || !existsSync(values.model)) throw new TypeError('Expected --model FILE')
  await measure()
}
