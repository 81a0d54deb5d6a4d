// The tables of docs/kvpress.md from what compare.mjs found: node bench/kvpress/page.mjs RESULTS.json SPEED.json
import { readFileSync, writeFileSync } from 'node:fs'
import { interval, mean } from '../interval.mjs'
import { METHODS } from './sides.mjs'

const [results, speed] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, 'utf8')))
const percent = (value) => `${(100 * value).toFixed(1)} %`
const names = Object.keys(METHODS).filter((name) => results.some(({ method }) => method === name))
const shares = [...new Set(results.map(({ share }) => share))]

function rowsTable() {
  const lines = names
    .filter((name) => name !== 'random')
    .map((name) => {
      const own = results.filter(({ method }) => method === name)
      const each = (side) => own.map(({ rows }) => rows[side])
      const budgets = shares.map((share) =>
        percent(mean(own.filter((one) => one.share === share).map(({ rows }) => rows.exact))),
      )
      const worst = percent(Math.min(...each('exact')))
      return `| \`${name}\` | ${METHODS[name][0] ? 'yes' : 'no'} | ${budgets.join(' | ')} | ${worst} | ${percent(mean(each('fast')))} |`
    })
  const head = shares.map((share) => `rows alike, keep ${share}`).join(' | ')
  return [
    `| method | defined alike | ${head} | least of all cases | with Q4_1 weights and f16 rows |`,
    `| --- | --- | ${shares.map(() => '---:').join(' | ')} | ---: | ---: |`,
    ...lines,
  ].join('\n')
}

function answersTable() {
  const asked = results.filter(({ answers }) => answers)
  const lines = names.flatMap((name) =>
    shares.map((share) => {
      const own = asked.filter((one) => one.method === name && one.share === share).map(({ answers }) => answers)
      const off = own.map(({ exact, kvpress }) => exact.logp - kvpress.logp)
      const [low, high] = interval(off)
      const right = (side) => `${own.filter((one) => one[side].exact).length} of ${own.length}`
      const logp = (side) => mean(own.map((one) => one[side].logp)).toFixed(2)
      const said = `${mean(off).toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`
      return `| \`${name}\` | ${share} | ${logp('kvpress')} | ${logp('exact')} | ${said} | ${right('kvpress')} | ${right('exact')} |`
    }),
  )
  return [
    '| method | keep | log p, kvpress | log p, ours | ours over theirs | answers, kvpress | answers, ours |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...lines,
  ].join('\n')
}

function speedTable() {
  const mb = (bytes) => (bytes / 1e6).toFixed(1)
  const lines = ['none', 'snapkv', 'adaKv', 'expectedAttention'].map((name) => {
    const [theirs, ours] = [speed.kvpress[name], speed.tokensieve[name]]
    const rates = ['prefill', 'decode']
      .map((what) => `${theirs[what].toFixed(1)} | ${ours[what].toFixed(1)}`)
      .join(' | ')
    return `| ${name === 'none' ? 'none' : `\`${name}\`, keep 0.25`} | ${rates} | ${mb(theirs.bytes)} | ${mb(ours.bytes)} |`
  })
  return [
    '| method | prompt, kvpress | prompt, ours | generated, kvpress | generated, ours | MB of cache, kvpress | MB of cache, ours |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...lines,
    '',
    `Memory of the process at most: ${mb(speed.kvpress.peak)} MB and ${mb(speed.tokensieve.peak)} MB.`,
  ].join('\n')
}

const path = new URL('../../docs/kvpress.md', import.meta.url)
let page = readFileSync(path, 'utf8')
const tables = { rows: rowsTable(), answers: answersTable(), ...(speed && { speed: speedTable() }) }
for (const [name, text] of Object.entries(tables))
  page = page.replace(new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- /${name} -->)`), `$1\n${text}\n\n$2`)
writeFileSync(path, page)
