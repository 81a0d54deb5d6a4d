// Parts of a page of runs that its script brings to life: controls, pictures, words.
import { stopsOf } from './fates.js'
import { el, type Html } from './html.js'
import { cropName, type Run } from './run.js'

export function controls(runs: readonly Run[], id: string): Html {
  const stops = stopsOf(runs[0] as Run)
  const radios = runs.map(({ name }, i) =>
    el(
      'label',
      {},
      el('input', { type: 'radio', name: `${id}-run`, value: i, ...(i === runs.length - 1 && { checked: '' }) }),
      ' ',
      name,
    ),
  )
  const choice = runs.length > 1 ? el('fieldset', {}, el('legend', {}, 'Run'), radios) : ''
  const slider = { type: 'range', id: `${id}-stop`, min: 0, max: stops - 1, step: 1, value: stops - 1 }
  return el(
    'div',
    { class: 'controls' },
    choice,
    el(
      'div',
      { class: 'slider' },
      el('label', { for: `${id}-stop` }, 'Layer'),
      el(
        'div',
        { class: 'track' },
        el('svg', { class: 'strip', viewBox: `0 0 ${stops} 1`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }),
        el('input', slider),
      ),
      el('output', { class: 'where', for: `${id}-stop`, 'aria-live': 'polite' }),
    ),
    el(
      'p',
      { class: 'toggles' },
      toggle('groups', 'outline what merged', true),
      toggle('scores', 'scores as a heat map', false),
    ),
    el('output', { class: 'about', 'aria-live': 'polite' }),
    el('noscript', {}, 'Without scripts, the tables tell what was dropped.'),
  )
}

function toggle(name: string, said: string, on: boolean): Html {
  const box = el('input', { type: 'checkbox', 'data-toggle': name, ...(on && { checked: '' }) })
  return el('label', { hidden: '' }, box, ' ', said)
}

export function pictures(run: Run): Html | string {
  if (run.crops.length === 0) return ''
  return el(
    'div',
    { class: run.crops.length === 1 ? 'pictures one' : 'pictures' },
    run.crops.map(({ columns, picture, rows }, i) => {
      const name = cropName(run, i)
      const label = `${name}, ${rows} rows of ${columns} patches: arrow keys go from patch to patch`
      return el(
        'figure',
        {},
        el(
          'div',
          { class: 'picture', tabindex: 0, role: 'application', 'aria-label': label },
          el('img', { src: picture, alt: name }),
          overlay(columns, rows),
        ),
        el('figcaption', {}, `${name}: `, el('span', { class: 'count' }, `${rows * columns} patches`)),
      )
    }),
  )
}

/** What the script draws over a picture. */
function overlay(columns: number, rows: number): Html {
  const size = { viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }
  return el('svg', size, el('g', { class: 'drawn' }), el('g', { class: 'mark' }))
}

/** The text of a token that is no text. */
const SPECIAL = /^<[^<>\s]{1,40}>$/

/** One element a token, in order; the script finds them by that. A picture's patches are one element together. */
export function words(runs: readonly Run[]): Html {
  const run = runs[0] as Run
  const { crops, prompt, tokens } = run
  const cropOf = new Map(crops.flatMap(({ sources }, crop) => sources.map((source) => [source, crop] as const)))
  const made: Html[] = []
  let last = -1
  for (const [source, text] of tokens.slice(0, prompt).entries()) {
    const crop = cropOf.get(source)
    if (crop === undefined) made.push(el('span', SPECIAL.test(text) ? { 'data-special': '' } : {}, text))
    else if (crop !== last) made.push(el('b', { class: 'chip' }, cropName(run, crop)))
    last = crop ?? -1
  }
  const label = 'The prompt: left and right arrow keys go from word to word'
  return el(
    'div',
    {},
    el('h3', {}, 'The prompt'),
    el('div', { class: 'words', tabindex: 0, role: 'group', 'aria-label': label }, made),
    legend(runs),
  )
}

/** Of what occurs. */
function legend(runs: readonly Run[]): Html {
  const plans = runs.flatMap(({ plan }) => plan)
  const acts = (name: string) => plans.some(({ action }) => action === name)
  const sample = (kind: string, said: string) => el('span', { class: `words ${kind}` }, el('span', {}, said))
  return el(
    'p',
    { class: 'legend soft' },
    sample('', 'runs in this layer'),
    acts('pass') || plans.some(({ keptPerHead }) => keptPerHead)
      ? sample('cache', 'shaded by how many KV heads hold it')
      : '',
    acts('drop') || acts('evict') || acts('pass') ? sample('gone', acts('drop') ? 'dropped' : 'held by none') : '',
    acts('merge') ? sample('merged', 'merged into another') : '',
  )
}
