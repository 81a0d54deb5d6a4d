// Means with how sure they are: percentile bootstrap over cases, with a seed.
import { Draw } from './draw.js'

/** A mean and the interval that holds 95 of 100 means of cases drawn again; NaN where there is no case. */
export interface Estimate {
  readonly mean: number
  readonly low: number
  readonly high: number
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Percentile bootstrap: `resamples` times as many values as there are, drawn with putting back. */
export function bootstrap(values: readonly number[], resamples = 1000, seed = 1): Estimate {
  const { length } = values
  const mean = length === 0 ? Number.NaN : meanOf(values)
  if (length < 2) return { mean, low: mean, high: mean }
  const draw = new Draw(seed)
  const means = Float64Array.from({ length: resamples }, () => {
    let sum = 0
    for (let i = 0; i < length; i++) sum += values[draw.below(length)] as number
    return sum / length
  }).sort()
  return { mean, low: quantile(means, 0.025), high: quantile(means, 0.975) }
}

/** Of values that ascend, straight lines between them. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const place = share * (sorted.length - 1)
  const below = Math.floor(place)
  const low = sorted[below] as number
  const high = sorted[Math.min(sorted.length - 1, below + 1)] as number
  return low + (place - below) * (high - low)
}
