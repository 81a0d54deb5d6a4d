// How far a session with a smaller cache is from the same session with a full one: a prompt at once, then tokens one by one, the same for both.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'

const root = new URL('../', import.meta.url)
const licence = (name) => `/usr/share/common-licenses/${name}`

/** Texts that most machines have: [name, file or topic of Python's own help, chosen by: mixes were picked on these]. */
const SOURCES = [
  ['Apache licence', licence('Apache-2.0'), true],
  ['guide', new URL('docs/guide.md', root).pathname, true],
  ['Python: special method names', 'specialnames', true],
  ['MPL licence', licence('MPL-2.0'), true],
  ['GFDL licence', licence('GFDL-1.3'), false],
  ['contributing', new URL('CONTRIBUTING.md', root).pathname, true],
  ['Python: string formatting', 'formatstrings', false],
  ['Python: compound statements', 'compound', true],
  ['TypeScript source', new URL('lib/plan.ts', root).pathname, true],
  ['GPL licence', licence('GPL-3'), false],
  ['Artistic licence', licence('Artistic'), false],
  ['Python: the debugger', 'debugger', false],
  ['Python: types', 'types', false],
  ['README of cmake-js', new URL('node_modules/cmake-js/README.md', root).pathname, false],
]

export function readTexts() {
  return SOURCES.flatMap(([name, from, chosenBy]) => {
    const text = from.startsWith('/') ? read(from) : topic(from)
    return text === undefined ? [] : [{ name, text, chosenBy }]
  })
}

function read(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined
}

function topic(name) {
  const code = `import pydoc_data.topics as t; print(t.topics['${name}'])`
  const { status, stdout } = spawnSync('python3', ['-c', code], { encoding: 'utf8' })
  return status === 0 ? stdout : undefined
}

/** Logarithms of the probabilities of every token: Float32Array [vocabulary]. */
function logSoftmax(logits) {
  let most = Number.NEGATIVE_INFINITY
  for (const logit of logits) if (logit > most) most = logit
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - most)
  const shift = most + Math.log(sum)
  return logits.map((logit) => logit - shift)
}

function divergence(p, q) {
  let sum = 0
  for (let i = 0; i < p.length; i++) if (p[i] > -30) sum += Math.exp(p[i]) * (p[i] - q[i])
  return sum
}

function likeliest(logits) {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i
  return best
}

/** The text read with `options`: after the prompt, each next token's logits go to `see(i, logarithms of probabilities)`; gives the bytes of the cache. */
export async function follow(model, options, ids, prompt, see) {
  const session = model.session({ reuse: false, contextLength: ids.length + 64, ...options })
  await session.forward(ids.subarray(0, prompt), { logits: 'none' })
  for (let i = prompt; i < ids.length; i++) see(i - prompt, logSoftmax(await session.forward(ids.subarray(i, i + 1))))
  const { bytes, fullBytes } = session.stats.kv
  await session.close()
  return { bytes, smaller: fullBytes / bytes }
}

/** Of each mix { name, options }: mean KL in nats, share of equal likeliest tokens, bytes. `together` mixes run side by side: a decode step reads the weights once for all. */
export async function compareMixes(model, mixes, { ids, prompt, together = 6 }) {
  const full = []
  await follow(model, { kv: 'f16' }, ids, prompt, (i, p) => {
    full[i] = p
  })
  const found = []
  for (let at = 0; at < mixes.length; at += together) {
    const part = mixes.slice(at, at + together).map(async ({ name, options }) => {
      const kls = []
      let same = 0
      const cache = await follow(model, options, ids, prompt, (i, q) => {
        kls[i] = divergence(full[i], q)
        same += likeliest(full[i]) === likeliest(q)
      })
      const kl = kls.reduce((a, b) => a + b, 0) / kls.length
      return { name, kl, kls, top1: same / kls.length, ...cache }
    })
    found.push(...(await Promise.all(part)))
  }
  return found
}
