// Source maps one below the other. Their numbers are differences to the number before, written in base 64 of 5 bits and a
// sign, so that only the first of each map has to change. Maps of sections would say the same, but Node does not read them.
const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

function read(segment) {
  const numbers = []
  let value = 0
  let shift = 0
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit)
    value += (bits & 31) << shift
    shift += 5
    if (bits & 32) continue
    numbers.push(value & 1 ? -(value >> 1) : value >> 1)
    value = 0
    shift = 0
  }
  return numbers
}

function write(numbers) {
  let text = ''
  for (const number of numbers) {
    let rest = number < 0 ? (-number << 1) | 1 : number << 1
    do {
      const bits = rest & 31
      rest >>= 5
      text += DIGITS[rest > 0 ? bits | 32 : bits]
    } while (rest > 0)
  }
  return text
}

/** sections: { line, map } in the order of their lines, from 0; each map of one source, without names. */
export function joinMaps(sections) {
  const out = { version: 3, sources: [], sourcesContent: [], names: [], mappings: '' }
  let lines = 0
  let before = [0, 0, 0] // of the last segment: which source, its line and column
  sections.forEach(({ line, map }, index) => {
    out.sources.push(map.sources[0])
    out.sourcesContent.push(map.sourcesContent[0])
    const segments = [...map.mappings.matchAll(/[^,;]+/g)]
    const all = segments.map(([text]) => read(text))
    const sum = (field) => all.reduce((total, numbers) => total + (numbers[field] ?? 0), 0)
    const at = all.findIndex((numbers) => numbers.length > 1)
    let own = map.mappings
    if (at >= 0) {
      const [column, , first, firstColumn] = all[at]
      const moved = write([column, index - before[0], first - before[1], firstColumn - before[2]])
      const { index: from, 0: old } = segments[at]
      own = own.slice(0, from) + moved + own.slice(from + old.length)
      before = [index, sum(2), sum(3)]
    }
    out.mappings += ';'.repeat(line - lines) + own
    lines = line + own.split(';').length - 1
  })
  return out
}
