// Luck from a seed: the same bytes on every platform, so that a task is a name, a length, a depth and a seed.

export class Draw {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** 32 bits. */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    return mix(this.#state)
  }

  /** A whole number from 0 to `count` - 1. */
  below(count: number): number {
    return Math.floor((this.bits() / 2 ** 32) * count)
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }

  /** `count` of the list, none of them twice, in any order. */
  several<T>(list: readonly T[], count: number): T[] {
    const left = [...list]
    for (let i = 0; i < count && i < left.length; i++) {
      const at = i + this.below(left.length - i)
      const taken = left[at] as T
      left[at] = left[i] as T
      left[i] = taken
    }
    return left.slice(0, count)
  }

  shuffled<T>(list: readonly T[]): T[] {
    return this.several(list, list.length)
  }

  /** A number of so many digits that does not begin with 0. */
  digits(count: number): string {
    return String(10 ** (count - 1) + this.below(9 * 10 ** (count - 1)))
  }

  /** 36 characters in the form of a random UUID. */
  uuid(): string {
    const hex = [0, 0, 0, 0].map(() => this.bits().toString(16).padStart(8, '0')).join('')
    const variant = '89ab'[this.below(4)]
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`
  }
}

/** One seed of several words and numbers. */
export function seedOf(...parts: readonly (string | number)[]): number {
  let state = 0x811c9dc5
  for (const letter of parts.join('\u0000')) state = mix(state ^ (letter.codePointAt(0) as number))
  return state
}

function mix(value: number): number {
  let x = value | 0
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
  return (x ^ (x >>> 15)) >>> 0
}
