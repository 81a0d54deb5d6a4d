// Numbers drawn from a seed: a row's luck depends on its layer, head and source only, so that it does not change with what else is drawn.

/** [rows]: a number in [0, 1) for each row, by a 32-bit mix of seed, layer, head and source. */
export function lots(seed: number, layer: number, head: number, sources: ArrayLike<number>): Float64Array {
  const start = mix(mix(mix(seed) ^ layer) ^ head)
  const drawn = new Float64Array(sources.length)
  for (let i = 0; i < drawn.length; i++) drawn[i] = mix(start ^ (sources[i] as number)) / 2 ** 32
  return drawn
}

function mix(value: number): number {
  let x = (value + 0x9e3779b9) | 0
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
  return (x ^ (x >>> 15)) >>> 0
}
