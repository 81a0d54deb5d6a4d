// A uniform grid: the floor that shows what a method knows beyond "pictures are large".
import { cropRows } from '../similar.js'
import { anyPlace, visionMethod } from '../vision-method.js'

/**
 * Patches evenly spread over each crop, in the order of an ordered dither: a quarter of them is every second of every second row, and a smaller budget keeps a part of what a larger
 * one does.
 */
export const grid = visionMethod({
  name: 'grid',
  title: 'keeps patches evenly spread over the picture: the floor that every vision method must beat',
  paper: '',
  options: {},
  place: (_, vision) => anyPlace(vision),
  score(seen) {
    const scores = new Float64Array(seen.sources.length)
    for (const { crop, from, to } of cropRows(seen)) {
      const { columns = 1, rows = 1 } = seen.crops[crop] ?? {}
      const bits = Math.ceil(Math.log2(Math.max(rows, columns, 2)))
      for (let place = from; place < to; place++) {
        const patch = (seen.sources[place] as number) % (rows * columns)
        scores[place] = -turn(Math.floor(patch / columns), patch % columns, bits)
      }
    }
    return scores
  },
})

/** When a patch has its turn: the bits of row and column, lowest first, say how coarse the grid is that it belongs to. */
function turn(row: number, column: number, bits: number): number {
  let place = 0
  for (let bit = 0; bit < bits; bit++) {
    const [r, c] = [(row >> bit) & 1, (column >> bit) & 1]
    place = 4 * place + 2 * (r ^ c) + r
  }
  return place
}
