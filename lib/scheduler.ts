// One stage call of a model at a time. The next decode steps of all live sessions go as one call, which reads the weights once;
// pieces of prompts take turns with them, so that a long prompt does not stall the others' tokens.
import type { Advance, Advanced, NativeModel } from './native.js'

interface Waiting<T> {
  resolve(value: T): void
  reject(error: unknown): void
}
type Step = Waiting<Advanced> & { entry: Advance }
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

  /** A piece of a prompt, or a probe: a call of its own. */
  job<T>(work: (model: NativeModel) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#jobs.push(() => work(this.#model).then(resolve, reject))
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

  async #batch(steps: Step[]): Promise<void> {
    try {
      const done = await this.#model.advance(steps.map(({ entry }) => entry))
      steps.forEach(({ resolve }, i) => void resolve(done[i] as Advanced))
    } catch (error) {
      if (steps.length === 1) return steps[0]?.reject(error)
      // One of them failed before anything was kept; alone each gets its own answer.
      for (const step of steps) {
        await this.#model.advance([step.entry]).then(([done]) => step.resolve(done as Advanced), step.reject)
      }
    }
  }
}
