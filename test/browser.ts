// A headless Chromium over its debugging pipe: enough of a browser to look at a page. No package is needed, only the program.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']

/** The program on this machine, or undefined. */
export function findChromium(): string | undefined {
  return NAMES.find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0)
}

export interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Record<string, unknown>
  readonly error?: { readonly message: string }
}

export class Browser {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (message: Message) => void>()
  readonly #seen: Message[] = []
  #session: string | undefined
  #count = 0

  constructor(program: string, profile: string) {
    const flags = [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--remote-debugging-pipe',
      `--user-data-dir=${profile}`,
    ]
    this.#child = spawn(program, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
    let text = ''
    const from = this.#child.stdio[4] as Readable
    from.setEncoding('utf8').on('data', (piece: string) => {
      const parts = (text + piece).split('\0')
      text = parts.pop() ?? ''
      for (const part of parts) this.#take(JSON.parse(part) as Message)
    })
  }

  #take(message: Message): void {
    this.#seen.push(message)
    if (message.id !== undefined) this.#waiting.get(message.id)?.(message)
  }

  async send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#count
    const answer = new Promise<Message>((done) => this.#waiting.set(id, done))
    const to = this.#child.stdio[3] as Writable
    to.write(`${JSON.stringify({ id, method, params, ...(this.#session && { sessionId: this.#session }) })}\0`)
    const { error, result = {} } = await answer
    if (error) throw new Error(`${method}: ${error.message}`)
    return result
  }

  /** Opens a page and waits until it is there. */
  async open(url: string, width: number): Promise<void> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    this.#session = sessionId as string
    for (const domain of ['Page', 'Network', 'Log', 'Runtime']) await this.send(`${domain}.enable`)
    await this.send('Emulation.setDeviceMetricsOverride', { width, height: 900, deviceScaleFactor: 1, mobile: false })
    await this.send('Page.navigate', { url })
    while ((await this.value('document.readyState')) !== 'complete') await new Promise((next) => setTimeout(next, 20))
  }

  async value(expression: string): Promise<unknown> {
    const { result } = await this.send('Runtime.evaluate', { expression, returnByValue: true })
    return (result as { value?: unknown }).value
  }

  async press(key: string, code: number): Promise<void> {
    const event = { key, code: key, windowsVirtualKeyCode: code, ...(key === 'Enter' && { text: '\r' }) }
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...event })
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...event })
  }

  /** Events of one name so far. */
  events(name: string): Message[] {
    return this.#seen.filter(({ method }) => method === name)
  }

  async close(): Promise<void> {
    const gone = new Promise((done) => this.#child.once('close', done))
    this.#child.kill('SIGKILL')
    await gone
  }
}
