// The part of a page's script that draws over pictures: what was dropped, what merged, scores.

export const PICTURE_SCRIPT = `
const square = (columns, at) => 'M' + (at % columns) + ' ' + Math.floor(at / columns) + 'h1v1h-1z'

function path(d, style) {
  return d === '' ? '' : '<path d="' + d + '" style="' + style + '"/>'
}

/** Edges of patches whose neighbour there belongs to another group. */
function outlineOf(columns, rows, sources, members) {
  const inside = new Set(members)
  let d = ''
  for (const [at, source] of sources.entries()) {
    if (!inside.has(source)) continue
    const x = at % columns
    const y = Math.floor(at / columns)
    const free = (dx, dy) => x + dx < 0 || x + dx >= columns || y + dy < 0 || y + dy >= rows || !inside.has(sources[at + dx + dy * columns])
    if (free(0, -1)) d += 'M' + x + ' ' + y + 'h1'
    if (free(0, 1)) d += 'M' + x + ' ' + (y + 1) + 'h1'
    if (free(-1, 0)) d += 'M' + x + ' ' + y + 'v1'
    if (free(1, 0)) d += 'M' + (x + 1) + ' ' + y + 'v1'
  }
  return d
}

const heat = (rank) => 'hsl(' + Math.round(250 - 215 * rank) + ' 95% ' + Math.round(38 + 20 * rank) + '%)'

function drawPicture(crop, picture, data, { groups, run, scores, stop, toggles }) {
  const { columns, sources } = crop
  const dims = new Map()
  const warm = new Map()
  let left = 0
  const add = (map, key, at) => map.set(key, (map.get(key) ?? '') + square(columns, at))
  for (const [at, source] of sources.entries()) {
    if (source < 0) continue
    const holder = holderOf(run, source, stop)
    const share = holder < 0 ? 0 : holder === source ? shareOf(data, run, source, stop) : 1
    if (holder === source) left++
    if (share < 1) add(dims, Math.round(8 * (1 - share)) / 8, at)
    const rank = toggles.scores ? rankOf(data, run, scores, source) : undefined
    if (rank !== undefined) add(warm, Math.round(rank * 12) / 12, at)
  }
  const hot = [...warm].map(([rank, d]) => path(d, 'fill:' + heat(rank) + ';fill-opacity:.62'))
  const most = warm.size > 0 ? 0.5 : 0.82
  const dim = [...dims].map(([share, d]) => path(d, 'fill:var(--paper);fill-opacity:' + most * share))
  const lines = toggles.groups ? outlines(crop, groups) : ''
  picture.querySelector('.drawn').innerHTML = hot.join('') + dim.join('') + lines
  const all = sources.filter((source) => source >= 0).length
  picture.parentElement.querySelector('.count').textContent = left + ' of ' + all + ' patches' + (left < all ? ' stay' : '')
}

const LINE = ';fill:none;stroke-linecap:square;vector-effect:non-scaling-stroke'

/** Each group once, its colour over a line of the page's own, so that it shows on every picture. */
function outlines({ columns, rows, sources }, groups) {
  return [...new Set(groups.values())].map(({ colour, members }) => {
    const d = outlineOf(columns, rows, sources, members)
    return path(d, 'stroke:var(--paper);stroke-width:3.5' + LINE) + path(d, 'stroke:' + colour + ';stroke-width:1.8' + LINE)
  }).join('')
}

/** Where the reader points, and what merged with it. */
function drawMark({ columns, rows, sources }, picture, group, cursor) {
  const both = group ? outlineOf(columns, rows, sources, group.members) : ''
  const own = sources.includes(cursor) && cursor >= 0 ? outlineOf(columns, rows, sources, [cursor]) : ''
  const line = (d, width) => path(d, 'stroke:var(--paper);stroke-width:' + (width + 2.5) + LINE) + path(d, 'stroke:var(--ink);stroke-width:' + width + LINE)
  const drawn = line(both, 2) + line(own, 2.5)
  const mark = picture.querySelector('.mark')
  if (mark.innerHTML !== '' || drawn !== '') mark.innerHTML = drawn
}
`
