// What each CUDA kernel takes of a multiprocessor, read from what `ptxas -v` says in a build, and the table it is held to.

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './step.mjs'

const TABLE = join(root, 'test', 'fixtures', 'ptxas.json')

const demangled = (names) =>
  spawnSync('c++filt', { input: names.join('\n'), encoding: 'utf8' })
    .stdout.trim()
    .split('\n')
    .map((name) =>
      name
        .replace(/^void /, '')
        .replace(/\((?:[^()]|\([^()]*\))*\)$/, '')
        .replaceAll('tokensieve::kernels::cuda::', ''),
    )

/** { 'kernel sm_80': { registers, spilled, shared } }, sorted. */
export function resources(log) {
  const found = []
  let entry
  for (const line of log.split('\n')) {
    const begins = /Compiling entry function '(\w+)' for '(sm_\d+a?)'/.exec(line)
    if (begins) entry = { name: begins[1], arch: begins[2], spilled: 0 }
    const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    if (entry && spills) entry.spilled = Number(spills[1]) + Number(spills[2])
    const used = /Used (\d+) registers/.exec(line)
    if (!entry || !used) continue
    const shared = /(\d+) bytes smem/.exec(line)
    found.push({ ...entry, registers: Number(used[1]), shared: Number(shared?.[1] ?? 0) })
    entry = undefined
  }
  const names = demangled(found.map(({ name }) => name))
  const lines = found.map(({ arch, registers, spilled, shared }, i) => [
    `${names[i]} ${arch}`,
    { registers, spilled, ...(shared > 0 && { shared }) },
  ])
  return Object.fromEntries(lines.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Sentences about what is not as the table says. */
export function compareResources(now) {
  const table = JSON.parse(readFileSync(TABLE, 'utf8'))
  const said = Object.entries(now).flatMap(([name, { spilled }]) =>
    spilled > 0 ? [`${name} spills ${spilled} bytes`] : [],
  )
  for (const name of new Set([...Object.keys(table), ...Object.keys(now)])) {
    const [was, is] = [JSON.stringify(table[name]), JSON.stringify(now[name])]
    if (was !== is) said.push(`${name}: expected ${was ?? 'no such kernel'}, got ${is ?? 'no such kernel'}`)
  }
  return said
}

export function writeResources(now) {
  const lines = Object.entries(now).map(([name, takes]) => `  ${JSON.stringify(name)}: ${JSON.stringify(takes)}`)
  writeFileSync(TABLE, `{\n${lines.join(',\n')}\n}\n`)
}
