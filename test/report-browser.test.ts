// The page in a real browser, where one is installed: nothing is requested, no rule is broken, a keyboard is enough, nothing sticks out.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { compare, methods } from '../lib/index.js'
import { summarize } from '../lib/lab/summary.js'
import { comparisonPage } from '../lib/report/comparison.js'
import { Browser, findChromium } from './browser.js'
import { loadTiny } from './engine.js'
import { scratch } from './model-fixture.js'

const program = findChromium()
const skip = program === undefined && 'no Chromium on this machine'

t.test('a comparison in Chromium', { skip }, async (t) => {
  const { model } = await loadTiny(t)
  const text = 'the sea is wide and the wind is cold and we sail on. '.repeat(20)
  const options = {
    tasks: ['text'],
    text,
    lengths: [100, 150],
    seeds: 1,
  } as const
  const found = await compare(model, { ...options, methods: [methods.snapkv({ window: 8 })], keep: [0.5, 0.25] })
  // Random weights find no needle: with what they gave for a text every picture is drawn.
  const needles = [0, 1].flatMap((depth) =>
    found.cases.map((one) => ({ ...one, task: 'needle', query: 'after' as const, depth })),
  )
  const cases = [...found.cases, ...needles]
  const tasks = [...found.tasks, { name: 'needle', title: 'one number in a haystack' }]
  const file = join(scratch(t), 'page.html')
  writeFileSync(file, comparisonPage({ ...found, tasks, cases, rows: summarize(cases) }))
  const browser = new Browser(program as string, scratch(t))
  t.teardown(() => browser.close())
  await browser.open(pathToFileURL(file).href, 400)
  t.equal(browser.events('Network.requestWillBeSent').length, 1, 'the page itself')
  t.same(browser.events('Log.entryAdded'), [], 'no complaint')
  t.ok(((await browser.value("document.querySelectorAll('svg').length")) as number) > 8)
  t.equal(
    await browser.value('document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth'),
    0,
    'nothing sticks out of a narrow window',
  )
  const outside = `[...document.querySelectorAll('svg')].filter((svg) => { const box = svg.getBBox(); const view = svg.viewBox.baseVal; return box.x < -1 || box.y < -1 || box.x + box.width > view.width + 1 || box.y + box.height > view.height + 1 }).length`
  t.equal(await browser.value(outside), 0, 'nothing is drawn outside its picture')
  await colours(t, browser)
  await keyboard(t, browser)
})

type Tap = Parameters<Parameters<typeof t.test>[0]>[0]

async function colours(t: Tap, browser: Browser): Promise<void> {
  const seen: unknown[] = []
  for (const value of ['light', 'dark']) {
    await browser.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] })
    seen.push(
      await browser.value('getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color'),
    )
  }
  t.same(seen, ['rgb(253, 253, 251)rgb(29, 31, 34)', 'rgb(21, 23, 26)rgb(232, 232, 230)'])
}

/** Tab reaches links, then what opens; Enter opens it, and the table inside can be reached and scrolled. */
async function keyboard(t: Tap, browser: Browser): Promise<void> {
  const focused = () => browser.value('document.activeElement.tagName')
  await browser.press('Tab', 9)
  t.equal(await focused(), 'A')
  while ((await focused()) === 'A') await browser.press('Tab', 9)
  t.equal(await focused(), 'SUMMARY')
  await browser.press('Tab', 9)
  t.equal(await browser.value('document.activeElement.parentElement.open'), false)
  await browser.press('Enter', 13)
  t.equal(await browser.value('document.activeElement.parentElement.open'), true)
  await browser.press('Tab', 9)
  t.equal(await browser.value('document.activeElement.className'), 'scroll')
}
