// Encoded pictures, so that a second question about one does not encode it again. Bounded by bytes; who was not asked for longest goes first.
import { totalmem } from 'node:os'
import { areBuiltIn, type Method, sameMethods } from '../methods/index.js'
import type { PlanEntry } from '../plan.js'

/** What became of a picture: its rows that are left, and what methods decided on the way. */
export interface Encoded {
  /** Numbers of the picture's rows, ascending. */
  readonly rows: Int32Array
  /** [rows × outputSize]. */
  readonly features: Float32Array
  /** [rows]: what the class token gave each in the last block, where somebody asks. */
  readonly looked?: Float32Array
  /** Rows are named by their number in the picture, patches that are none of them by -1 less their source. */
  readonly plan: readonly PlanEntry[]
}

/** Who looks while a picture is encoded, and when. */
export interface Watch {
  readonly methods: readonly Method[]
  readonly trace: boolean
  readonly step: number
}

interface Entry extends Watch {
  readonly hash: string
  readonly encoded: Encoded
  readonly bytes: number
}

export class Encodings {
  readonly #most: number
  /** The newest at the end. */
  #all: Entry[] = []
  readonly #underWay = new Set<Watch & { readonly hash: string; readonly over: Promise<unknown> }>()

  constructor(most = Math.min(2 ** 28, totalmem() / 32)) {
    this.#most = most
  }

  get bytes(): number {
    return this.#all.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  find(hash: string, watch: Watch): Encoded | undefined {
    const at = this.#all.findIndex((entry) => entry.hash === hash && isLike(entry, watch))
    const [found] = at < 0 ? [] : this.#all.splice(at, 1)
    if (found) this.#all.push(found)
    return found?.encoded
  }

  /** Settles when whoever encodes this picture now is done or has failed; undefined where nobody does. It never rejects. */
  awaited(hash: string, watch: Watch): Promise<unknown> | undefined {
    for (const one of this.#underWay) if (one.hash === hash && isLike(one, watch)) return one.over
    return undefined
  }

  /** Others who want the same can wait for it. */
  async making(hash: string, watch: Watch, make: () => Promise<Encoded>): Promise<Encoded> {
    if (!areBuiltIn(watch.methods)) return make() // it will not be kept
    const made = make()
    const entry = { ...watch, hash, over: made.catch(() => undefined) }
    this.#underWay.add(entry)
    try {
      return await made
    } finally {
      this.#underWay.delete(entry)
    }
  }

  /** A method that is not of the package may do more than decide: what it saw is not kept. */
  keep(hash: string, watch: Watch, encoded: Encoded): void {
    const { features, looked, rows } = encoded
    const bytes = features.byteLength + (looked?.byteLength ?? 0) + 4 * rows.length + 64 * encoded.plan.length
    if (!areBuiltIn(watch.methods) || bytes > this.#most) return
    this.#all.push({ ...watch, hash, encoded, bytes })
    while (this.bytes > this.#most) this.#all.shift()
  }

  clear(): void {
    this.#all = []
  }
}

function isLike(a: Watch, b: Watch): boolean {
  if (a.methods.length === 0 && b.methods.length === 0) return true
  return a.step === b.step && a.trace === b.trace && sameMethods(a.methods, b.methods)
}
