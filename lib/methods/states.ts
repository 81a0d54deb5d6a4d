// Arithmetic on rows of a head.

/** [rows × others] of lines of `size`. */
export function cosines(rows: Float32Array, others: Float32Array, size: number): Float64Array {
  const n = others.length / size
  const all = new Float64Array((rows.length / size) * n)
  const [own, their] = [lengths(rows, size), lengths(others, size)]
  for (let i = 0; i < own.length; i++) {
    for (let j = 0; j < n; j++) {
      let dot = 0
      for (let c = 0; c < size; c++) dot += (rows[i * size + c] as number) * (others[j * size + c] as number)
      all[i * n + j] = dot / ((own[i] as number) * (their[j] as number) || 1)
    }
  }
  return all
}

function lengths(rows: Float32Array, size: number): Float64Array {
  const squares = new Float64Array(rows.length / size)
  for (let i = 0; i < squares.length; i++)
    for (let c = i * size; c < (i + 1) * size; c++) squares[i] = (squares[i] as number) + (rows[c] as number) ** 2
  return squares.map(Math.sqrt)
}

/** [rows]: variance over the channels. */
export function variances(rows: Float32Array, size: number): Float64Array {
  const sums = new Float64Array(rows.length / size)
  for (let i = 0; i < sums.length; i++)
    for (let c = i * size; c < (i + 1) * size; c++) sums[i] = (sums[i] as number) + (rows[c] as number)
  return lengths(rows, size).map((norm, i) => norm ** 2 / size - ((sums[i] as number) / size) ** 2)
}
