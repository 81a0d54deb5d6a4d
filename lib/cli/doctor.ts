// tokensieve doctor: what this machine can run, and why not.
import { createRequire } from 'node:module'
import { freemem } from 'node:os'
import { join, relative } from 'node:path'
import { TokensieveError } from '../errors.js'
import { native } from '../native.js'
import { knownModels, modelsFolder } from '../pull.js'
import { flagOf, parse } from './arguments.js'
import { bytes } from './format.js'
import { type Command, type Io, painter } from './io.js'
import { type Level, levelsOf, type Machine, machineOf } from './machine.js'

const VARIABLES = ['TOKENSIEVE_MODELS', 'TOKENSIEVE_THREADS', 'TOKENSIEVE_ISA', 'TOKENSIEVE_DEVICE'] as const

export const command: Command = {
  help: `
What this machine can run, and why not. Exit code 1 where something that is needed is missing.

Usage: tokensieve doctor [--json]`,

  async run(args, io) {
    const parsed = parse(args, { json: { type: 'boolean' } })
    const found = await examine()
    if (flagOf(parsed, 'json')) io.out.write(`${JSON.stringify(found)}\n`)
    else print(found, io)
    return found.problems.length === 0 ? 0 : 1
  },
}

interface Findings {
  node: string
  napi: string
  addon: { path?: string; error?: string }
  machine?: Machine & { free: number }
  kernels: (Level & { chosen: boolean })[]
  devices: { name: string; runs: boolean; why?: string }[]
  models: { folder: string; known: { name: string; title: string; path?: string }[] }
  environment: Record<string, string>
  problems: string[]
}

async function examine(): Promise<Findings> {
  const environment = Object.fromEntries(
    VARIABLES.flatMap((name) => (process.env[name] ? [[name, process.env[name] as string]] : [])),
  )
  const found: Findings = {
    node: process.versions.node,
    napi: process.versions.napi ?? '',
    addon: {},
    kernels: [],
    devices: [],
    models: { folder: modelsFolder(), known: knownModels().map(({ name, title, path }) => ({ name, title, path })) },
    environment,
    problems: [],
  }
  try {
    found.machine = { ...machineOf(), free: freemem() }
    found.addon.path = addonPath()
    found.kernels = chosen(levelsOf(), environment.TOKENSIEVE_ISA)
    found.devices = [{ name: 'cpu', runs: true }, ...(await cardsOf())]
  } catch (error) {
    found.addon.error = error instanceof Error ? error.message : String(error)
    found.problems.push(`the addon does not load: ${found.addon.error}`)
  }
  found.problems.push(...forced(found))
  return found
}

/** Cards, and whether they compute what they should; `cuda` where there is none. */
async function cardsOf(): Promise<Findings['devices']> {
  const cards = native().devices()
  if (cards.length === 0) return [{ name: 'cuda', runs: false, why: 'no card that this binary can use was found' }]
  return Promise.all(
    cards.map(async ({ device, free, name }, card) => {
      const fault = await native().checkDevice(card)
      const why = fault === '' ? `${name}, ${bytes(free)} free; its kernels were checked` : fault
      return { name: device, runs: fault === '', why }
    }),
  )
}

/** What TOKENSIEVE_ISA forces, else the best that runs. */
function chosen(levels: Level[], forcedTo: string | undefined): (Level & { chosen: boolean })[] {
  const best = levels.find(
    ({ isa, runs }) => runs && (forcedTo === undefined || forcedTo === 'auto' || isa === forcedTo),
  )
  return levels.map((level) => ({ ...level, chosen: level === best }))
}

function forced({ devices, environment, kernels }: Findings): string[] {
  const { TOKENSIEVE_ISA: isa, TOKENSIEVE_DEVICE: device, TOKENSIEVE_THREADS: threads } = environment
  const problems: string[] = []
  if (isa !== undefined && kernels.length > 0 && !kernels.some((level) => level.chosen))
    problems.push(
      `TOKENSIEVE_ISA asks for ${isa}, which does not run here: unset it, or set one of ${kernels.flatMap(({ isa, runs }) => (runs ? [isa] : [])).join(', ')}`,
    )
  const asked = device === 'cuda' ? 'cuda:0' : device
  if (asked !== undefined && asked !== 'auto' && !devices.some(({ name, runs }) => runs && name === asked))
    problems.push(`TOKENSIEVE_DEVICE asks for ${device}, which cannot be used here: unset it, or set cpu`)
  if (threads !== undefined && !(Number.isInteger(Number(threads)) && Number(threads) >= 1))
    problems.push(`TOKENSIEVE_THREADS is ${threads}: unset it, or set a whole number from 1`)
  return problems
}

/** The file that was loaded; every require of the process shares one cache. */
function addonPath(): string {
  const loaded = Object.keys(createRequire(join(process.cwd(), 'any.js')).cache)
  const path = loaded.find((name) => name.endsWith('.node'))
  if (path === undefined) throw new TokensieveError('ERR_INTERNAL', '[doctor] expected a loaded addon')
  return path
}

function print(found: Findings, io: Io): void {
  const paint = painter(io.out)
  const line = (title: string, text: string) => io.out.write(`${paint('dim', title.padEnd(10))}${text}\n`)
  const mark = (runs: boolean) => (runs ? paint('green', 'runs') : paint('dim', 'no  '))
  const { machine, addon, models } = found
  line('node', `${found.node}, Node-API ${found.napi}`)
  line('addon', addon.path === undefined ? paint('red', 'does not load') : shortest(addon.path))
  if (machine) {
    line('machine', `${machine.platform}, ${machine.cpu}`)
    line('cores', `${machine.cores} physical, ${machine.logical} logical`)
    line('memory', `${bytes(machine.memory)}, ${bytes(machine.free)} free`)
  }
  for (const [i, { isa, runs, chosen, why }] of found.kernels.entries())
    line(i === 0 ? 'kernels' : '', `${isa.padEnd(18)}${mark(runs)}${chosen ? ', chosen' : ''}${why ? ` ${why}` : ''}`)
  for (const [i, { name, runs, why }] of found.devices.entries())
    line(i === 0 ? 'devices' : '', `${name.padEnd(18)}${mark(runs)}${why ? ` ${why}` : ''}`)
  line('models', models.folder)
  for (const { name, title, path } of models.known)
    line(
      '',
      `${name.padEnd(18)}${path ? paint('green', 'here') : paint('dim', 'no  ')} ${title}${path ? '' : `; "tokensieve pull ${name}" gets it`}`,
    )
  for (const [i, [name, value]] of Object.entries(found.environment).entries())
    line(i === 0 ? 'variables' : '', `${name}=${value}`)
  for (const problem of found.problems) line(paint('red', 'problem'.padEnd(10)), problem)
  if (found.problems.length === 0) line('', 'nothing is missing')
}

function shortest(path: string): string {
  const near = relative(process.cwd(), path)
  return near.startsWith('..') ? path : near
}
