// tokensieve and kvpress on the same weights, prompts and budgets: which rows stay, how well answers are still found, how fast and how large.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { load } from '../../dist/index.mjs'
import { readTexts } from '../kl.mjs'
import { python, run } from './install.mjs'
import { METHODS, ours, shared } from './sides.mjs'

const require = createRequire(import.meta.url)
const { caseOf } = require('../../dist/lab/run.js')
const { taskOf } = require('../../dist/lab/tasks/index.js')
const { watchOf } = require('../../dist/lab/watch.js')

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    venv: { type: 'string' },
    tokens: { type: 'string', default: '450' },
    seeds: { type: 'string', default: '2' },
    tasks: { type: 'string', default: 'needle,multikey,copy' },
    keep: { type: 'string', default: '0.5,0.25,0.125' },
    text: { type: 'string', default: '800' },
    threads: { type: 'string', default: '1' },
    steps: { type: 'string', default: '64' },
    methods: { type: 'string', default: Object.keys(METHODS).join(',') },
    speed: { type: 'boolean', default: false },
    again: { type: 'boolean', default: false }, // takes what the other side found last time
    out: { type: 'string' },
  },
})
const here = fileURLToPath(new URL('./', import.meta.url))
const folder = `${here}.cache/`
const names = values.methods.split(',')
const SHARES = values.keep.split(',').map(Number)

function wanted() {
  if (!values.model) throw new TypeError('Expected --model FILE.gguf')
  mkdirSync(folder, { recursive: true })
  const python3 = python(values.venv ?? `${here}.venv`)
  const float = `${folder}${basename(values.model, '.gguf')}-f32.gguf`
  if (!existsSync(float)) run(python3, [`${here}float.py`, values.model, float])
  return { python3, float }
}

/** Their side, in a process of its own. */
function theirs(python3, asked) {
  const [input, output] = [`${folder}cases.json`, `${folder}found.json`]
  writeFileSync(input, JSON.stringify({ threads: Number(values.threads), methods: names, ...asked }))
  const env = { ...process.env, OMP_NUM_THREADS: values.threads, TRANSFORMERS_OFFLINE: '1', TQDM_DISABLE: '1' }
  run(python3, [`${here}run.py`, values.model, input, output], { env })
  return JSON.parse(readFileSync(output, 'utf8'))
}

async function casesOf(model) {
  const cases = []
  for (let seed = 1; seed <= Number(values.seeds); seed++) {
    for (const name of values.tasks.split(',')) {
      for (const query of ['before', 'after']) {
        const place = { length: Number(values.tokens), depth: seed % 2 ? 0.25 : 0.75, seed }
        const { answer, first, second } = await caseOf(model, taskOf(name, {}), place, query)
        cases.push({ task: name, query, seed, first: [...first], second: [...second], answer: [...answer] })
      }
    }
  }
  const [text] = readTexts().filter((one) => !one.chosenBy)
  const ids = [...model.tokenizer.encode(text.text)].slice(0, Number(values.text))
  cases.push({ task: 'text', query: 'none', seed: 0, first: ids, second: [], answer: [] })
  return cases.map((one) => ({ ...one, budgets: SHARES.map((share) => Math.ceil(share * one.first.length)) }))
}

/** Every case on this side with every method and budget; what has been read once is taken from a session that stays open. */
async function ourSide(path, kv, cases) {
  const model = await load(path, { threads: Number(values.threads) })
  const found = []
  for (const [i, one] of cases.entries()) {
    console.error(`tokensieve, ${kv}: case ${i + 1} of ${cases.length}`)
    const holder = await reading(model, one, kv, [])
    const full = one.answer.length > 0 ? (await ours(model, one, kv, [])).answer : undefined
    const made = {}
    for (const name of names) made[name] = await budgets(model, one, kv, METHODS[name][1])
    await holder.close()
    found.push({ full, made })
  }
  await model.close()
  return found
}

async function reading(model, { answer, first, second }, kv, methods) {
  const session = model.session({ contextLength: first.length + second.length + answer.length + 1, kv, methods })
  await session.forward(Int32Array.from(first), { logits: 'none' })
  return session
}

async function budgets(model, one, kv, make) {
  const made = one.budgets.map((tokens) => [make({ tokens })])
  const watch = watchOf(made, { ...model.config, rowBytes: 0 })
  const watched = watch && (await reading(model, one, kv, [watch.watcher]))
  const found = {}
  for (const [i, tokens] of one.budgets.entries())
    found[tokens] = await ours(model, one, kv, watch ? [watch.replays[i]] : made[i])
  await watched?.close()
  return found
}

async function speed(python3) {
  const model = await load(values.model, { threads: Number(values.threads) })
  const [text] = readTexts().filter((one) => !one.chosenBy)
  const ids = model.tokenizer.encode(text.text).slice(0, Number(values.text))
  const steps = Number(values.steps)
  const one = { kvpress: theirs(python3, { speed: { ids: [...ids], steps } }), tokensieve: {} }
  for (const name of ['none', 'snapkv', 'adaKv', 'expectedAttention']) {
    const tokens = Math.ceil(ids.length / 4)
    const made = name === 'none' ? [] : [METHODS[name][1]({ tokens })]
    const session = model.session({ kv: 'f16', methods: made, reuse: false, contextLength: ids.length + steps + 1 })
    await session.forward(ids, { logits: 'none' })
    const { prefill } = session.stats.tokensPerSecond
    const held = session.stats.kv.bytes
    const { stats } = await session.generate([{ ids: ids.slice(-1) }], { maxTokens: steps, ignoreEnd: true })
    one.tokensieve[name] = { prefill, decode: stats.tokensPerSecond.decode, bytes: held }
    await session.close()
  }
  one.tokensieve.peak = process.resourceUsage().maxRSS * 1024
  await model.close()
  return one
}

const { float, python3 } = wanted()
if (values.speed) {
  const found = await speed(python3)
  writeFileSync(values.out ?? `${folder}speed.json`, JSON.stringify(found, null, 1))
  console.log(JSON.stringify(found, null, 1))
} else {
  const model = await load(float, { threads: Number(values.threads) })
  const asked = await casesOf(model)
  await model.close()
  const press = values.again
    ? JSON.parse(readFileSync(`${folder}found.json`, 'utf8'))
    : theirs(python3, { cases: asked })
  const cases = asked.slice(0, press.length)
  const exact = await ourSide(float, 'f32', cases)
  const fast = await ourSide(values.model, 'f16', cases)
  const results = cases.flatMap((one, i) =>
    names.flatMap((name) =>
      one.budgets.map((tokens, b) => {
        const there = press[i].rows[name][tokens]
        const agreement = (side) => shared(there, side[i].made[name][tokens].rows)
        const answers = one.answer.length > 0 && {
          full: { kvpress: press[i].full, exact: exact[i].full, fast: fast[i].full },
          kvpress: press[i].answers[name][tokens],
          exact: exact[i].made[name][tokens].answer,
          fast: fast[i].made[name][tokens].answer,
        }
        const rows = {
          kept: there.flat().reduce((sum, head) => sum + head.length, 0),
          exact: agreement(exact),
          fast: agreement(fast),
        }
        return {
          task: one.task,
          query: one.query,
          seed: one.seed,
          length: one.first.length,
          method: name,
          share: SHARES[b],
          tokens,
          rows,
          ...(answers && { answers }),
        }
      }),
    ),
  )
  writeFileSync(values.out ?? `${folder}results.json`, JSON.stringify(results))
}
