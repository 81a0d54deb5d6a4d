// The demo about a picture, with the model that comes with the package: what a newcomer sees first.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cli } from './cli-run.js'

t.test('a picture, with all of it and with less', async (t) => {
  const page = join(t.testdir(), 'page.html')
  const question = 'What color is the star?'
  const { code, out } = await cli(['demo', '--question', question, '--method', 'fastv:keep=0.25', '--html', page])
  t.equal(code, 0)
  t.match(out, /What color is the star\? +yellow +yellow\n/)
  const costs = out.split('\n').filter((line) => /^(everything|fastv:keep=0\.25) +\d/.test(line))
  const [full, fastv] = costs.map((line) => line.split(/ {2,}/))
  t.equal(costs.length, 2)
  t.ok(Number(fastv?.[1]) < Number(full?.[1]), 'fewer tokens run in a layer')
  t.match(readFileSync(page, 'utf8'), /<h3>everything<\/h3>/)
})
