// One stage call of a model at a time. The next decode steps of all live sessions go as one call, which reads the weights once;
// pieces of prompts take turns with them, so that a long prompt does not stall the others' tokens.
import type { Advance, Advanced, NativeModel } from './native.js'

interface Step {
  readonly entry: Advance
  resolve(value: Advanced): void
  reject(error: unknown): void
}
type Job = () => Promise<void>

export class Scheduler {
  readonly #model: NativeModel
  #steps: Step[] = []
  readonly #jobs: Job[] = []
  #running = false

  constructor(model: NativeModel) {
    this.#model = model
  }

  /** A decode step through all layers; shares its call with those of other sessions. */
  step(entry: Advance): Promise<Advanced> {
    return new Promise((resolve, reject) => {
      this.#steps.push({ entry, resolve, reject })
      this.#start()
    })
  }

  /** A piece of a prompt: a stage call of its own. */
  chunk(entry: Advance): Promise<Advanced> {
    return this.job(async (model) => {
      const [done] = (await model.advance([entry])) as [Advanced]
      if (done.error) throw done.error
      return done
    })
  }

  /** Other work, a probe for instance, while no stage call runs. */
  job<T>(work: (model: NativeModel) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#jobs.push(async () => {
        try {
          resolve(await work(this.#model))
        } catch (error) {
          reject(error)
        }
      })
      this.#start()
    })
  }

  #start(): void {
    if (this.#running) return
    this.#running = true
    // Not at once: what other sessions ask for in this turn of the event loop goes into the same call.
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    while (this.#steps.length > 0 || this.#jobs.length > 0) {
      await this.#jobs.shift()?.()
      if (this.#steps.length > 0) await this.#batch(this.#steps.splice(0))
      // Sessions go on in this turn: their next steps come before the next call is cut.
      await new Promise((next) => setImmediate(next))
    }
    this.#running = false
  }

  async #batch(steps: readonly Step[]): Promise<void> {
    try {
      const all = await this.#model.advance(steps.map(({ entry }) => entry))
      for (const [i, { reject, resolve }] of steps.entries()) {
        const done = all[i] as Advanced
        if (done.error) reject(done.error)
        else resolve(done)
      }
    } catch (error) {
      for (const { reject } of steps) reject(error)
    }
  }
}
