// Means, and how sure they are.
export const mean = (all) => all.reduce((sum, value) => sum + value, 0) / all.length

/** 95 % of the means of values drawn again, seeded. */
export function interval(all) {
  let state = 1
  const draw = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return all[Math.floor((state / 2 ** 32) * all.length)]
  }
  const means = Array.from({ length: 1000 }, () => mean(all.map(draw))).sort((a, b) => a - b)
  return [means[25], means[974]]
}
