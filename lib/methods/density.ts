// Density peaks: points that have others close by and stand far from all that have more.

/** [n × n] distances, over the root of the number of components, of n points [n × size]. */
export function distances(points: ArrayLike<number>, size: number): Float64Array {
  const n = size > 0 ? points.length / size : 0
  const all = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      let sum = 0
      for (let c = 0; c < size; c++) sum += ((points[i * size + c] as number) - (points[j * size + c] as number)) ** 2
      all[i * n + j] = all[j * n + i] = Math.sqrt(sum / size)
    }
  }
  return all
}

/**
 * [n]: density (by the mean of the `neighbours` smallest squared distances, a point's own among them) times the distance to the nearest denser point, of equals the first being
 * denser; for the densest the largest distance of all.
 */
export function peaks(all: Float64Array, neighbours: number): Float64Array {
  const n = Math.round(Math.sqrt(all.length))
  const density = Float64Array.from({ length: n }, (_, i) => {
    const nearest = all
      .slice(i * n, (i + 1) * n)
      .sort()
      .subarray(0, neighbours)
    return Math.exp(-nearest.reduce((sum, distance) => sum + distance ** 2, 0) / nearest.length)
  })
  const farthest = all.reduce((a, b) => Math.max(a, b), 0)
  return density.map((own, i) => {
    let least = Number.POSITIVE_INFINITY
    for (let j = 0; j < n; j++) {
      const other = density[j] as number
      if (other > own || (other === own && j < i)) least = Math.min(least, all[i * n + j] as number)
    }
    return own * Math.min(least, farthest)
  })
}
