// tokensieve against node-llama-cpp: the same file, threads and tokens, in turn, every run a process of its own.
//   node bench/versus.mjs [--model smollm2]… [--kv f16,q8_0] [--prompt 512,2048] [--decode 128,2048] [--rounds 4]
//                         [--context text|random] [--no-start] [--json FILE] [--write]
// The start alone: --prompt '' --decode ''.
// Prints a table; --write stores it in bench/last.json and in the README.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, tmpdir, totalmem } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { installPeer, PEER } from './install.mjs'
import { Rows, table } from './rows.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const require = createRequire(import.meta.url)
const { fill } = require('../dist/cli/markdown.js')
const { bytes } = require('../dist/cli/format.js')
const { CONTEXTS, idsOf } = require('../dist/cli/bench/context.js')
const { contextText, limitsText } = require('../dist/cli/bench/report.js')
const { joined } = require('../dist/cli/bench/subject.js')
const { ratesOf, workOf } = require('../dist/cli/bench/roofline.js')
const { readSizes } = require('../dist/cli/model-sizes.js')
const { native } = require('../dist/native.js')
const { resolveModel } = require('../dist/pull.js')
const { kernels, load } = require('../dist/index.js')

const { values: args } = parseArgs({
  allowNegative: true,
  options: {
    model: { type: 'string', multiple: true, default: ['smollm2'] },
    kv: { type: 'string', default: 'f16' },
    prompt: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '128,2048' },
    context: { type: 'string', default: 'text' },
    rounds: { type: 'string', default: '4' },
    start: { type: 'boolean', default: true },
    json: { type: 'string' },
    write: { type: 'boolean', default: false },
  },
})
const [{ isa, threads }] = kernels.backends() // physical cores

/** Lines that a script prints, and milliseconds from its start until the first of them. */
function measure(script, model, more) {
  const words = Object.entries({ model, threads, ...more }).flatMap(([name, value]) =>
    value === true ? [`--${name}`] : [`--${name}`, String(value)],
  )
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env // Node reads them first of all: up to 40 ms of both sides' start
  const before = performance.now()
  const child = spawn(process.execPath, [`${here}${script}`, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let err = ''
  let first = 0
  child.stdout.on('data', (piece) => {
    first ||= performance.now() - before
    out += piece
  })
  child.stderr.on('data', (piece) => {
    err += piece
  })
  return new Promise((resolve, reject) => {
    child.on('close', (code) => {
      if (code !== 0) return reject(new Error(`${script} failed:\n${err}`))
      const lines = out.split('\n').filter((line) => line.startsWith('{'))
      resolve({ first, lines: lines.map((line) => JSON.parse(line)) })
    })
  })
}

async function startOf(script, model) {
  const { first, lines } = await measure(script, model, { start: true })
  return lines.map((line) => ({ ...line, rate: 1000 / first, best: 1000 / first }))
}

/** Every second round begins with the other side: neither is always the one that comes after. */
async function round(rows, path, ids, turn) {
  const model = basename(path)
  const inTurn = async (sides) => {
    for (const [who, lines] of turn % 2 === 0 ? sides.reverse() : sides) rows.note(model, who, await lines(), turn)
  }
  const { decode, prompt } = args
  // With one thread it decodes small models faster: it gets both and its best counts. Long contexts would take it minutes to read.
  const short = decode.split(',').filter((count) => count !== '' && Number(count) <= 2048)
  for (const kv of prompt || decode ? args.kv.split(',') : []) {
    const run = (script, more) => async () => (await measure(script, path, { ids, kv, prompt, decode, ...more })).lines
    const sides = [
      ['ours', run('ours.mjs')],
      ['peer', run('peer.mjs')],
    ]
    if (short.length > 0) sides.push(['peer', run('peer.mjs', { prompt: '', decode: short.join(), threads: 1 })])
    await inTurn(sides)
  }
  if (!args.start) return
  await inTurn([
    ['ours', () => startOf('ours.mjs', path)],
    ['peer', () => startOf('peer.mjs', path)],
  ])
}

/** A file of the ids that both sides read: as long as the longest prompt or context. */
async function writeIds(path, folder) {
  const most = Math.max(0, ...`${args.prompt},${args.decode}`.split(',').map(Number))
  const model = await load(path)
  const file = join(folder, `${basename(path)}.json`)
  writeFileSync(file, JSON.stringify([...idsOf(model, args.context)(most)]))
  await model.close()
  return file
}

async function readWork(path) {
  const file = await native().open(path)
  try {
    return workOf(readSizes(file), file.tensors())
  } finally {
    file.close()
  }
}

if (!CONTEXTS.includes(args.context)) throw new Error(`expected text or random for --context, not ${args.context}`)
installPeer(here)
const paths = args.model.map((model) => resolveModel(model))
for (const path of paths) if (!existsSync(path)) throw new Error(`there is no ${path}`)
if (new Set(paths.map((path) => basename(path))).size < paths.length)
  throw new Error('expected files of different names')
const folder = mkdtempSync(join(tmpdir(), 'versus-'))
process.on('exit', () => rmSync(folder, { recursive: true }))
const works = new Map()
const ids = new Map()
for (const path of paths) {
  works.set(basename(path), await readWork(path))
  ids.set(path, await writeIds(path, folder))
}
const rows = new Rows()
const passes = []
for (let turn = 1; turn <= Number(args.rounds); turn++)
  for (const path of paths) {
    console.error(`round ${turn} of ${args.rounds}: ${basename(path)}`)
    passes.push(await kernels.limits())
    await round(rows, path, ids.get(path), turn)
  }
passes.push(await kernels.limits())

const limits = joined(passes)
const finished = rows.finished(works, ratesOf(limits))
const machine = `${cpus()[0].model.trim()}, ${threads} threads, ${isa}, ${bytes(totalmem())}, Node ${process.versions.node}`
const about = `${[...works.keys()].join(', ')} on ${machine}, ${new Date().toISOString().slice(0, 10)}; ${contextText(args.context)}; ${limitsText(limits)}:`
const text = `${about}\n\n${table(finished, `node-llama-cpp ${PEER}`)}`
console.log(text)
const data = `${JSON.stringify({ machine, peer: PEER, context: args.context, limits, rows: finished }, null, 1)}\n`
if (args.json) writeFileSync(args.json, data)
if (args.write) {
  writeFileSync(`${here}last.json`, data)
  const readme = `${here}../README.md`
  writeFileSync(readme, fill(readFileSync(readme, 'utf8'), 'versus', text))
}
