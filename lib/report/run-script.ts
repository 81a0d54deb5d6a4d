// What brings a page of runs to life: plain JavaScript for the browser, which the page holds as it stands here.
import { PICTURE_SCRIPT } from './picture-script.js'

const STATE = `
'use strict'
/** The holder of a token at a stop: itself, the one that it merged into, or -1 where it was dropped. */
function holderOf(run, source, stop) {
  let at = source
  while (run.gone[at] <= stop) {
    const next = run.into[at]
    if (next === undefined) return -1
    at = next
  }
  return at
}

/** Of a token that runs: the share of the layer's heads that hold it. */
function shareOf(data, run, source, stop) {
  const held = stop < data.tower ? null : run.held[stop - data.tower]
  return held && source < held.length ? data.letters.indexOf(held[source]) / run.heads : 1
}

/** Tokens that merged, by holder, and which colour each group has. */
function groupsOf(data, run, stop) {
  const groups = new Map()
  for (const source of Object.keys(run.into).map(Number)) {
    if (run.gone[source] > stop) continue
    const holder = holderOf(run, source, stop)
    if (holder < 0) continue
    const group = groups.get(holder)
    if (group) group.members.push(source)
    else groups.set(holder, { members: [holder, source], colour: 'var(--c' + (2 + (groups.size % 8)) + ')' })
  }
  const found = new Map()
  for (const group of groups.values()) for (const source of group.members) found.set(source, group)
  return found
}

/** Ranks of the decision that was taken last at a stop or before it. */
function scoresAt(run, stop) {
  for (let at = stop; at >= 0; at--) if (run.scores[at]) return { at, ranks: run.scores[at] }
}

/** From 0 to 1; merged tokens have their holder's. */
function rankOf(data, run, scores, source) {
  const place = scores ? data.letters.indexOf(scores.ranks[Math.max(0, holderOf(run, source, scores.at - 1))]) : -1
  return place < 0 ? undefined : place / (data.letters.length - 1)
}

function nameOf(data, stop) {
  if (stop >= data.tower) return 'layer ' + (stop - data.tower)
  return stop === data.tower - 1 ? 'the projector' : 'block ' + stop + ' of the tower'
}

const percent = (share) => Math.round(100 * share) + ' %'
`

const WORDS = `
/** Text that is there: words in quotes, patches by their place. */
function whatIs(data, places, source) {
  const place = places.get(source)
  if (!place) return '\\u201c' + (data.tokens[source].trim() || '\\u2423') + '\\u201d'
  const { columns, name } = data.crops[place.crop]
  return name + ', row ' + (1 + Math.floor(place.at / columns)) + ', column ' + (1 + (place.at % columns))
}

function fateOf(data, places, view, source) {
  const { groups, run, scores, stop } = view
  const gone = run.gone[source]
  const into = run.into[source]
  const said = []
  if (gone >= data.stops) said.push(stop < data.tower || !run.held[stop - data.tower] ? 'runs in every layer' : '')
  else if (into === undefined) said.push('dropped before ' + nameOf(data, gone))
  else said.push('merged into ' + whatIs(data, places, into) + ' before ' + nameOf(data, gone))
  const held = stop < data.tower ? null : run.held[stop - data.tower]
  if (gone > stop && held && source < held.length)
    said.push('held by ' + data.letters.indexOf(held[source]) + ' of ' + run.heads + ' KV heads of ' + nameOf(data, stop))
  const group = groups.get(source)
  if (group && group.members[0] === source) said.push('holds ' + (group.members.length - 1) + (group.members.length > 2 ? ' others' : ' other'))
  const rank = rankOf(data, run, scores, source)
  if (rank !== undefined) said.push('its score at ' + nameOf(data, scores.at) + ' is above ' + percent(rank) + ' of the others')
  return whatIs(data, places, source) + ', token ' + source + ': ' + said.filter(Boolean).join('; ')
}

function drawWord(data, span, source, view) {
  const { groups, run, stop, toggles } = view
  const holder = holderOf(run, source, stop)
  const rank = toggles.scores ? rankOf(data, run, view.scores, source) : undefined
  const held = stop >= data.tower && run.held[stop - data.tower]
  const share = holder === source ? shareOf(data, run, source, stop) : 0
  const kinds = []
  if (holder < 0 || (holder === source && share === 0)) kinds.push('gone')
  else if (holder !== source) kinds.push('merged')
  else if (held && rank === undefined) kinds.push('cache')
  const group = toggles.groups && groups.get(source)
  if (group && holder === source) kinds.push('holds')
  if (rank !== undefined) kinds.push('cache')
  const style = (kinds.includes('cache') ? '--k:' + (rank ?? share).toFixed(2) + ';' : '') + (group ? '--g:' + group.colour : '')
  const name = kinds.join(' ')
  if (span.className !== name) span.className = name
  if (span.getAttribute('style') !== style) span.setAttribute('style', style)
}
`

const START = `
function start(root, data) {
  const find = (what) => root.querySelector(what)
  const places = new Map()
  for (const [crop, { sources }] of data.crops.entries())
    for (const [at, source] of sources.entries()) if (source >= 0) places.set(source, { crop, at })
  const text = find('.words')
  const spans = [...text.querySelectorAll('span')]
  const texts = data.tokens.map((_, source) => source).filter((source) => !places.has(source))
  const pictures = [...root.querySelectorAll('.picture')]
  const slider = find('input[type=range]')
  const state = { run: data.runs.length - 1, cursor: -1, toggles: {} }
  let view
  const draw = () => {
    const run = data.runs[state.run]
    const stop = Number(slider.value)
    view = { run, stop, toggles: state.toggles, groups: groupsOf(data, run, stop), scores: scoresAt(run, stop) }
    for (const [i, span] of spans.entries()) drawWord(data, span, texts[i], view)
    for (const [i, picture] of pictures.entries()) drawPicture(data.crops[i], picture, data, view)
    drawStrip(data, find('.strip'), view)
    const said = whereOf(data, places, view)
    find('.where').textContent = said
    slider.setAttribute('aria-valuetext', said)
    point(state.cursor)
  }
  const point = (source) => {
    root.querySelector('.words [data-at]')?.removeAttribute('data-at')
    state.cursor = source
    spans[texts.indexOf(source)]?.setAttribute('data-at', '')
    for (const [i, picture] of pictures.entries()) drawMark(data.crops[i], picture, view.groups.get(source), source)
    find('.about').textContent = source < 0 ? hint(pictures.length > 0) : fateOf(data, places, view, source)
  }
  for (const box of root.querySelectorAll('[data-toggle]')) {
    const name = box.dataset.toggle
    box.parentElement.hidden = !data.runs.some((run) => Object.keys(name === 'groups' ? run.into : run.scores).length > 0)
    state.toggles[name] = box.checked
    box.addEventListener('change', () => { state.toggles[name] = box.checked; draw() })
  }
  for (const radio of root.querySelectorAll('input[type=radio]'))
    radio.addEventListener('change', () => { state.run = Number(radio.value); draw() })
  slider.addEventListener('input', draw)
  walk(text, texts, 10, point, () => state.cursor)
  text.addEventListener('pointerover', ({ target }) => {
    const i = spans.indexOf(target)
    if (i >= 0) point(texts[i])
  })
  for (const [i, picture] of pictures.entries()) {
    const { columns, rows, sources } = data.crops[i]
    walk(picture, sources, columns, point, () => state.cursor)
    picture.addEventListener('pointermove', (event) => {
      const box = picture.getBoundingClientRect()
      const at = (of, size, count) => Math.min(count - 1, Math.max(0, Math.floor((of / size) * count)))
      const source = sources[at(event.clientY - box.top, box.height, rows) * columns + at(event.clientX - box.left, box.width, columns)]
      if (source >= 0 && source !== state.cursor) point(source)
    })
  }
  draw()
}

const hint = (pictured) => 'Point at a word' + (pictured ? ' or a patch' : '') + ', or focus the text' + (pictured ? ' or a picture' : '') + ' and use the arrow keys, to read what became of it.'

/** Arrow keys go through a list, up and down by a line of it. */
function walk(element, sources, line, point, cursor) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -line, ArrowDown: line, Home: -Infinity, End: Infinity }
  element.addEventListener('keydown', (event) => {
    const step = steps[event.key]
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    const from = sources.indexOf(cursor())
    const to = from < 0 ? 0 : Math.min(sources.length - 1, Math.max(0, from + step))
    if (sources[to] >= 0) point(sources[to])
  })
}

/** Tokens that a strip and its sentence are about: patches where there are any, else the prompt. */
function countAt(data, places, run, stop) {
  const all = places.size > 0 ? [...places.keys()] : data.tokens.map((_, source) => source)
  let running = 0
  let held = 0
  for (const source of all) {
    if (run.gone[source] <= stop) continue
    running++
    held += shareOf(data, run, source, stop)
  }
  return { all: all.length, running, held }
}

function whereOf(data, places, { run, stop }) {
  const { all, held, running } = countAt(data, places, run, stop)
  const name = nameOf(data, stop)
  const cached = stop >= data.tower && run.held[stop - data.tower] ? ', its cache holds ' + percent(held / all) : ''
  const note = stop >= data.tower && run.notes[stop - data.tower] ? '; ' + run.notes[stop - data.tower] : ''
  const what = places.size > 0 ? ' patches' : ' tokens'
  return name[0].toUpperCase() + name.slice(1) + ': ' + running + ' of ' + all + what + ' run (' + percent(running / all) + ')' + cached + note
}

function drawStrip(data, strip, { run, stop }) {
  const places = new Map(data.crops.flatMap(({ sources }) => sources.filter((source) => source >= 0).map((source) => [source, 0])))
  run.counts ??= Array.from({ length: data.stops }, (_, at) => countAt(data, places, run, at))
  const bar = (x, share, style) => '<rect x="' + (x + 0.06) + '" width=".88" y="' + (1 - share) + '" height="' + share + '" style="' + style + '"/>'
  strip.innerHTML = run.counts.map(({ all, held, running }, x) => {
    const strong = x === stop ? 1 : 0.55
    return bar(x, running / all, 'fill:var(--heat);fill-opacity:' + 0.45 * strong) + bar(x, held / all, 'fill:var(--heat);fill-opacity:' + strong)
  }).join('')
}

for (const [i, data] of JSON.parse(document.getElementById('data').textContent).entries())
  start(document.querySelector('[data-group="' + i + '"]'), data)
`

export const RUN_SCRIPT = `${STATE}${PICTURE_SCRIPT}${WORDS}${START}`
