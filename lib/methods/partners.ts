// Pairs of rows that say the same, by their keys: in TypeScript what native observes of a layer's rows (native/kernels/partners.h), for rows that another method has left.
import type { Partners } from './method.js'

/** keys [rows × size]; the even ones of `places` find their partners among the odd ones. */
export function partnersOf(keys: Float32Array, places: Int32Array, size: number): Partners {
  const units = normalized(keys, places, size)
  const halves = places.length >> 1
  const odd = places.length - halves
  const partner = new Int32Array(odd)
  const similarity = new Float32Array(odd)
  for (let a = 0; a < odd; a++) {
    const from = units.subarray(2 * a * size, (2 * a + 1) * size)
    let best = Number.NEGATIVE_INFINITY
    for (let b = 0; b < halves; b++) {
      const dot = product(from, units, (2 * b + 1) * size)
      if (dot <= best) continue
      best = dot
      partner[a] = b
    }
    similarity[a] = best
  }
  return { partner, similarity }
}

/** [places × size] of unit length; a row of zeros stays one. In double, which spares the loop over pairs a conversion. */
function normalized(rows: Float32Array, places: Int32Array, size: number): Float64Array {
  const units = new Float64Array(places.length * size)
  for (const [i, place] of places.entries()) {
    const row = units.subarray(i * size, (i + 1) * size)
    row.set(rows.subarray(place * size, (place + 1) * size))
    const scale = 1 / (Math.sqrt(product(row, row, 0)) || 1)
    for (let c = 0; c < size; c++) row[c] = (row[c] as number) * scale
  }
  return units
}

function product(a: Float64Array, b: Float64Array, at: number): number {
  let sum = 0
  for (let c = 0; c < a.length; c++) sum += (a[c] as number) * (b[at + c] as number)
  return sum
}
