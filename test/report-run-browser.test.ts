// A page of runs in a real browser, where one is installed: what it shows at each layer, by keyboard, in both colour schemes.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { runPage } from '../lib/report/run-page.js'
import { Browser, findChromium } from './browser.js'
import { filmRun } from './film-run.js'
import { scratch } from './model-fixture.js'

const program = findChromium()
const skip = program === undefined && 'no Chromium on this machine'

t.test('a page of runs in Chromium', { skip }, async (t) => {
  const file = join(scratch(t), 'page.html')
  writeFileSync(file, runPage([filmRun('everything kept', []), filmRun()]))
  const browser = new Browser(program as string, scratch(t))
  t.teardown(() => browser.close())
  await browser.open(pathToFileURL(file).href, 400)
  t.equal(
    browser.events('Network.requestWillBeSent').filter(({ params }) => !JSON.stringify(params).includes('"data:'))
      .length,
    1,
    'the page itself',
  )
  const page = new Page(browser)
  t.match(await page.text('.where'), 'Layer 3: 48 of 128 patches run (38 %)', 'the last run is shown first')
  t.equal(await browser.value('document.scrollingElement.scrollWidth - innerWidth <= 0'), true, 'nothing sticks out')
  await layers(t, page)
  await words(t, page)
  await picture(t, page)
  await colours(t, page)
  t.same(browser.events('Log.entryAdded'), [], 'no complaint')
  t.same(browser.events('Runtime.exceptionThrown'), [])
  t.same(browser.events('Runtime.consoleAPICalled'), [])
})

type Tap = Parameters<Parameters<typeof t.test>[0]>[0]

const KEYS: Record<string, number> = {
  Tab: 9,
  End: 35,
  Home: 36,
  ArrowLeft: 37,
  ArrowUp: 38,
  ArrowRight: 39,
  ArrowDown: 40,
  ' ': 32,
}

class Page {
  readonly browser: Browser
  constructor(browser: Browser) {
    this.browser = browser
  }

  async text(selector: string): Promise<string> {
    return (await this.browser.value(`document.querySelector(${JSON.stringify(selector)}).textContent`)) as string
  }

  async count(selector: string): Promise<number> {
    return (await this.browser.value(`document.querySelectorAll(${JSON.stringify(selector)}).length`)) as number
  }

  async focus(selector: string): Promise<void> {
    await this.browser.value(`document.querySelector(${JSON.stringify(selector)}).focus()`)
  }

  async press(...keys: string[]): Promise<void> {
    for (const key of keys) await this.browser.press(key, KEYS[key] as number)
  }
}

/** Radio buttons choose the run, arrow keys the layer. */
async function layers(t: Tap, page: Page): Promise<void> {
  await page.focus('input[type=radio]:checked')
  await page.press('ArrowUp')
  t.equal(await page.text('.where'), 'Layer 3: 128 of 128 patches run (100 %)')
  await page.press('ArrowDown')
  t.equal(await page.text('.where'), 'Layer 3: 48 of 128 patches run (38 %); its attention is skipped')
  t.match(await page.text('figcaption'), 'Film, frame 1: 24 of 64 patches stay')
  await page.press('Tab')
  t.equal(await page.browser.value('document.activeElement.type'), 'range')
  t.equal(await page.browser.value('document.activeElement.labels[0].textContent'), 'Layer')
  await page.press('ArrowLeft')
  t.match(await page.text('.where'), 'Layer 2: 48 of 128 patches run (38 %), its cache holds 38 %')
  await page.press('Home')
  t.equal(await page.text('.where'), 'Block 0 of the tower: 128 of 128 patches run (100 %)')
  t.equal(await page.count('.picture path'), 0, 'nothing has happened yet')
  await page.press('ArrowRight', 'ArrowRight', 'ArrowRight')
  t.equal(await page.text('.where'), 'The projector: 80 of 128 patches run (63 %)')
  t.equal(await page.browser.value('document.activeElement.getAttribute("aria-valuetext")'), await page.text('.where'))
  // Sixteen groups, eight a picture, each a line over a line.
  t.equal(await page.count('.picture .drawn path[style*=stroke]'), 2 * 16)
  await page.press('Tab')
  t.match(await page.browser.value('document.activeElement.parentElement.textContent'), 'outline what merged')
  await page.press(' ')
  t.equal(await page.count('.picture .drawn path[style*=stroke]'), 0)
  await page.press(' ', 'Tab')
  t.equal(await page.browser.value('document.activeElement.dataset.toggle'), 'scores')
  await page.focus('input[type=range]')
  await page.press('End')
}

async function words(t: Tap, page: Page): Promise<void> {
  await page.focus('input[type=range]')
  await page.press('ArrowLeft')
  t.equal(await page.browser.value("document.querySelector('.words span').className"), 'cache')
  await page.focus('.words')
  await page.press('ArrowRight')
  t.equal(await page.text('.about'), '“What”, token 0: held by 1 of 2 KV heads of layer 2')
  await page.press('End')
  t.equal(await page.text('.words [data-at]'), '?')
}

/** From patch to patch; a merged one tells where it went, and its group is marked. */
async function picture(t: Tap, page: Page): Promise<void> {
  t.equal(await page.browser.value("document.querySelector('.picture').getAttribute('role')"), 'application')
  await page.focus('.picture')
  await page.press('ArrowRight', 'ArrowRight')
  t.match(
    await page.text('.about'),
    'Film, frame 1, row 1, column 2, token 4: merged into Film, frame 1, row 1, column 1 before block 1',
  )
  await page.press('ArrowLeft')
  t.match(await page.text('.about'), 'holds 3 others')
  t.equal(await page.count('.picture .mark path'), 4, 'its group and itself, in one picture')
  await page.press('ArrowDown', 'ArrowDown', 'ArrowDown', 'ArrowDown', 'ArrowRight')
  t.match(await page.text('.about'), 'row 5, column 2, token 36: dropped before layer 1; its score at layer 1 is above')
  t.equal(await page.count('.picture path[style*=hsl]'), 0)
  await page.focus('[data-toggle=scores]')
  await page.press(' ')
  t.ok((await page.count('.picture path[style*=hsl]')) > 8)
}

/** Dimmed words can still be read: three to one against the page. */
async function colours(t: Tap, { browser }: Page): Promise<void> {
  for (const value of ['light', 'dark']) {
    await browser.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] })
    const rgb = async (expression: string) =>
      ((await browser.value(expression)) as string).match(/\d+/g)?.slice(0, 3).map(Number) ?? []
    const paper = await rgb('getComputedStyle(document.body).backgroundColor')
    const dim = await rgb("getComputedStyle(document.querySelector('.legend .gone span')).color")
    t.ok(contrast(paper, dim) > 3, `${value}: ${contrast(paper, dim)}`)
  }
}

function contrast(one: number[], other: number[]): number {
  const light = (rgb: number[]) => {
    const [r = 0, g = 0, b = 0] = rgb.map((part) =>
      part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4,
    )
    return 0.05 + 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  return Math.max(light(one), light(other)) / Math.min(light(one), light(other))
}
