// tokensieve against node-llama-cpp: the same file, threads and tokens, in turn, every run a process of its own.
//   node bench/versus.mjs [--model smollm2] [--kv f16] [--prompt 512,2048] [--decode 128,2048] [--rounds 3] [--write]
// Prints a table; --write stores it in bench/last.json and in the README.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, totalmem } from 'node:os'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const PEER = '3.22.1'
const here = fileURLToPath(new URL('.', import.meta.url))
const require = createRequire(import.meta.url)
const { fill } = require('../dist/cli/markdown.js')
const { bytes, markdownTable, median, number } = require('../dist/cli/format.js')
const { resolveModel } = require('../dist/pull.js')

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2' },
    kv: { type: 'string', default: 'f16' },
    prompt: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '128,2048' },
    rounds: { type: 'string', default: '3' },
    write: { type: 'boolean', default: false },
  },
})
const { kernels } = require('../dist/index.js')
const [{ threads }] = kernels.backends() // physical cores

/** The peer's binary for this machine alone: its package would bring those for CUDA and Vulkan too. */
function installPeer() {
  const there = `${here}node_modules/node-llama-cpp/package.json`
  if (existsSync(there) && JSON.parse(readFileSync(there, 'utf8')).version === PEER) return
  const system = { darwin: 'mac', win32: 'win' }[process.platform] ?? process.platform
  const binary = `${system}-${process.arch}${system === 'mac' && process.arch === 'arm64' ? '-metal' : ''}`
  const wanted = [`node-llama-cpp@${PEER}`, `@node-llama-cpp/${binary}@${PEER}`]
  const options = ['--no-save', '--no-package-lock', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund']
  console.error(`installing ${wanted.join(' and ')} in bench/`)
  const { status } = spawnSync('npm', ['install', ...options, ...wanted], { cwd: here, stdio: ['ignore', 2, 2] })
  if (status !== 0) process.exit(1)
}

function measure(script, more) {
  const given = Object.entries({ model: resolveModel(args.model), threads, ...more })
  const words = given.flatMap(([name, value]) => [`--${name}`, String(value)])
  const run = spawnSync(process.execPath, [`${here}${script}`, ...words], { encoding: 'utf8', maxBuffer: 1 << 26 })
  if (run.status !== 0) throw new Error(`${script} failed:\n${run.stderr}`)
  const lines = run.stdout.split('\n').filter((line) => line.startsWith('{'))
  return lines.map((line) => JSON.parse(line))
}

const rows = new Map()
const peaks = { ours: [], peer: [] }
function note(who, lines) {
  for (const { what, tokens, kv, rate } of lines) {
    const key = `${what} ${kv} ${tokens}`
    if (!rows.has(key)) rows.set(key, { what, kv, tokens, ours: [], peer: [] })
    rows.get(key)[who].push(rate)
  }
  peaks[who].push(Math.max(...lines.map(({ peak }) => peak)))
}

installPeer()
const { prompt, decode } = args
for (let round = 1; round <= Number(args.rounds); round++)
  for (const kv of args.kv.split(',')) {
    console.error(`round ${round} of ${args.rounds}, ${kv}`)
    note('ours', measure('ours.mjs', { kv, prompt, decode }))
    note('peer', measure('peer.mjs', { kv, prompt, decode }))
    // It decodes small models faster with one thread: it gets both and its best counts.
    note('peer', measure('peer.mjs', { kv, prompt: '', decode, threads: 1 }))
  }

const right = (title) => ({ title, right: true })
const columns = [{ title: '' }, right('tokens'), right('tokensieve'), right(`node-llama-cpp ${PEER}`), right('ratio')]
const lines = [...rows.values()].map(({ what, kv, tokens, ours, peer }) => {
  const [mine, theirs] = [median(ours), Math.max(...peer)]
  return [
    `${what}, ${kv} cache`,
    number(tokens),
    `${number(mine)}/s`,
    `${number(theirs)}/s`,
    `${(mine / theirs).toFixed(2)} ×`,
  ]
})
lines.push(['peak memory', '', bytes(median(peaks.ours)), bytes(median(peaks.peer)), ''])
const machine = `${cpus()[0].model.trim()}, ${threads} threads, ${bytes(totalmem())}, Node ${process.versions.node}`
const file = basename(resolveModel(args.model))
const table = `${file} on ${machine}, ${new Date().toISOString().slice(0, 10)}:\n\n${markdownTable(columns, lines)}`
console.log(table)
if (args.write) {
  writeFileSync(
    `${here}last.json`,
    `${JSON.stringify({ machine, model: file, peer: PEER, rows: [...rows.values()], peaks }, null, 1)}\n`,
  )
  const readme = `${here}../README.md`
  writeFileSync(readme, fill(readFileSync(readme, 'utf8'), 'versus', table))
}
