// How much smaller the presets make the cache of a model, and what they lose: on texts that they were not chosen by.
//   node bench/presets.mjs --model FILE [--heads none] [--prompt 1024,2048] [--next 96] [--chosen] [--text FILE]… [--out FILE] [--write]
//   (heads that fetch are looked for first; --heads [[0,1],…] names them, --heads none does without)
//   node bench/presets.mjs --model FILE --from OUT [--from OUT]… --write     what was measured before
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { load, methods, retrievalHeads } from '../dist/index.mjs'
import { interval, mean } from './interval.mjs'
import { compareMixes, readTexts } from './kl.mjs'

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    heads: { type: 'string' },
    prompt: { type: 'string', default: '1024,2048' },
    next: { type: 'string', default: '96' },
    text: { type: 'string', multiple: true, default: [] },
    chosen: { type: 'boolean', default: false },
    threads: { type: 'string', default: '2' },
    out: { type: 'string' },
    from: { type: 'string', multiple: true, default: [] },
    write: { type: 'boolean', default: false },
  },
})

const PRESETS = ['light', 'balanced', 'small']
const NAMED = values.heads !== 'none'
const OTHERS = [
  { name: "`kv: 'q4_0'` alone", options: { kv: 'q4_0' } },
  { name: '`q4_0`, `h2o({ keep: 0.5, every: 0 })`', options: { kv: 'q4_0', methods: [methods.h2o({ every: 0 })] } },
]
const NAMES = [...PRESETS.map((name) => `\`${name}\``), ...(NAMED ? [] : OTHERS.map(({ name }) => name))]

function mixesOf(heads) {
  const presets = PRESETS.map((name) => ({ name: `\`${name}\``, options: methods.preset(name, { heads }) }))
  return NAMED ? presets : [...presets, ...OTHERS]
}

async function measure() {
  const model = await load(values.model, { threads: Number(values.threads) })
  const given = values.text.map((path) => ({ name: basename(path), text: readFileSync(path, 'utf8') }))
  const texts = given.length > 0 ? given : readTexts().filter(({ chosenBy }) => chosenBy === values.chosen)
  const looked = NAMED ? (values.heads ? JSON.parse(values.heads) : await retrievalHeads(model, { echo: 0.05 })) : []
  const mixes = mixesOf(looked)
  const found = []
  for (const prompt of values.prompt.split(',').map(Number)) {
    for (const { name, text } of texts) {
      const ids = model.tokenizer.encode(text).slice(0, prompt + Number(values.next))
      if (ids.length <= prompt + 16) continue
      const rows = await compareMixes(model, mixes, { ids, prompt })
      for (const row of rows) found.push({ text: name, prompt, ...row })
      if (values.out) writeFileSync(values.out, JSON.stringify(found))
      console.error(prompt, name, rows.map(({ kl, smaller }) => `${kl.toFixed(4)} ${smaller.toFixed(2)}`).join('  '))
    }
  }
  await model.close()
  return found
}

function table(found, prompt) {
  const own = found.filter((one) => one.prompt === prompt)
  const texts = [...new Set(own.map(({ text }) => text))]
  const lines = NAMES.map((name) => {
    const rows = own.filter((one) => one.name === name)
    const [low, high] = interval(rows.flatMap(({ kls }) => kls))
    const each = rows.map(({ kl }) => short(kl)).join(' | ')
    const all = `${short(mean(rows.map(({ kl }) => kl)))} [${short(low)}, ${short(high)}]`
    const times = rows.map(({ smaller }) => smaller)
    return `| ${name} | ${mean(times).toFixed(2)} (${Math.min(...times).toFixed(2)} to ${Math.max(...times).toFixed(2)}) | ${all} | ${mean(rows.map(({ top1 }) => top1)).toFixed(3)} | ${each} |`
  })
  return [
    `| ${prompt} tokens | times smaller | mean KL | top-1 | ${texts.join(' | ')} |`,
    `| --- | ---: | ---: | ---: | ${texts.map(() => '---:').join(' | ')} |`,
    ...lines,
  ].join('\n')
}

const short = (kl) => kl.toFixed(4).replace(/^0/, '')

if (!values.model) throw new TypeError('Expected --model FILE')
const stored = values.from.flatMap((path) => JSON.parse(readFileSync(path, 'utf8')))
const found = stored.length > 0 ? stored : await measure()
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
const head = `${basename(values.model)}, tokensieve ${version}, ${cpus()[0].model.trim()}, ${values.next} tokens given one by one:`
const tables = [...new Set(found.map(({ prompt }) => prompt))].map((prompt) => table(found, prompt))
const page = [head, ...tables].join('\n\n')
console.log(page)
if (values.write) {
  const path = new URL('../docs/presets.md', import.meta.url)
  const kind = values.chosen ? 'chosen' : basename(values.model, '.gguf')
  const name = NAMED ? `${kind}-heads` : kind
  const marks = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- /${name} -->)`)
  const before = readFileSync(path, 'utf8')
  if (!marks.test(before)) throw new TypeError(`Expected <!-- ${name} --> in docs/presets.md`)
  writeFileSync(path, before.replace(marks, `$1\n${page}\n\n$2`))
}
