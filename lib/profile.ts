// Where the time of native calls goes: kernel by kernel, layer by layer, thread by thread.
import { TokensieveError, typeError } from './errors.js'
import { native, type Recording } from './native.js'

const KINDS = ['call', 'layer', 'kernel', 'work', 'wait'] as const

/** A span of one thread. Of a caller call > layer > kernel nest; work: the tasks of one kernel that this thread took; wait: spinning or asleep inside a team. */
export interface ProfileEvent {
  readonly kind: (typeof KINDS)[number]
  readonly name: string
  readonly thread: number
  /** Null outside of layers. */
  readonly layer: number | null
  /** Milliseconds since the profile began. */
  readonly begin: number
  readonly end: number
  /** Threads of the team that ran a kernel, else 1. */
  readonly threads: number
  /** Of a kernel's matrix, or 0. */
  readonly rows: number
  readonly columns: number
}

export interface KernelTime {
  readonly name: string
  readonly calls: number
  /** Milliseconds on the clock, kernels inside it not counted. */
  readonly time: number
  /** Of the whole profile. */
  readonly share: number
  /** Milliseconds of all threads together: at work in it, and not. */
  readonly busy: number
  readonly waiting: number
}

export interface LayerTime {
  /** Null: what runs outside of layers. */
  readonly layer: number | null
  readonly time: number
  /** Milliseconds by the name of the kernel; 'other' is what no kernel accounts for. */
  readonly kernels: Readonly<Record<string, number>>
}

export interface ThreadTime {
  /** 'caller', 'caller 2', …, 'worker 1', … */
  readonly name: string
  readonly busy: number
  /** For others, inside a call. */
  readonly waiting: number
  /** No call was under way that it took part in. */
  readonly idle: number
}

/**
 * Runs `work` and tells where the time of its native calls went. One at a time in a process; what else runs meanwhile is in it too.
 * @throws TokensieveError ERR_UNSUPPORTED where another profile is under way
 */
export async function profile<T>(work: () => T | Promise<T>): Promise<{ result: T; profile: Profile }> {
  if (typeof work !== 'function') throw typeError('a function', 'work', work)
  const { trace } = native()
  if (!trace.start())
    throw new TokensieveError('ERR_UNSUPPORTED', 'Expected one profile at a time, but another one is under way')
  let result: T
  try {
    result = await work()
  } catch (error) {
    trace.stop()
    throw error
  }
  return { result, profile: new Profile(trace.stop()) }
}

export class Profile {
  /** Milliseconds from the beginning to the end. */
  readonly time: number
  /** Events that did not fit (a million are kept of each thread). */
  readonly lost: number
  /** By their beginnings; what holds another comes first. */
  readonly events: readonly ProfileEvent[]
  readonly #self: Map<ProfileEvent, number>
  readonly #lanes: ReadonlyMap<number, string>

  /** @internal Profiles are made by profile. */
  constructor({ time, lost, names, events }: Recording) {
    this.time = time
    this.lost = lost
    this.events = eventsOf(events, names)
    this.#self = selfTimes(this.events)
    this.#lanes = lanesOf(this.events)
  }

  /** Threads that took part at most. */
  get threads(): number {
    return this.events.reduce((most, { threads }) => Math.max(most, threads), 1)
  }

  /** Milliseconds inside native calls. */
  get called(): number {
    return sum(this.#of('call'))
  }

  /** Kernels by time, then what no kernel accounts for: 'between kernels' inside calls, 'between calls' outside. */
  kernels(): KernelTime[] {
    const { threads, time } = this
    const busyIn = this.#busy()
    const rows = new Map<string, { calls: number; time: number; busy: number; waiting: number }>()
    const add = (name: string, calls: number, self: number, busy: number) => {
      const row = rows.get(name) ?? { calls: 0, time: 0, busy: 0, waiting: 0 }
      row.calls += calls
      row.time += self
      row.busy += busy
      row.waiting += Math.max(0, self * threads - busy)
      rows.set(name, row)
    }
    for (const event of this.#of('kernel')) {
      const self = this.#self.get(event) ?? 0
      add(titleOf(event), 1, self, busyIn.get(event) ?? self)
    }
    const left = [...this.#of('call'), ...this.#of('layer')].reduce(
      (all, event) => all + (this.#self.get(event) ?? 0),
      0,
    )
    const sorted = [...rows].sort(([, a], [, b]) => b.time - a.time)
    rows.clear()
    add('between kernels', this.#of('call').length, left, left)
    add('between calls', 0, Math.max(0, time - this.called), 0)
    return [...sorted, ...rows].map(([name, row]) => ({ name, ...row, share: time > 0 ? row.time / time : 0 }))
  }

  layers(): LayerTime[] {
    const rows = new Map<number | null, Record<string, number>>()
    for (const event of this.events) {
      if (event.kind === 'work' || event.kind === 'wait') continue
      const row = rows.get(event.layer) ?? {}
      const name = event.kind === 'kernel' ? event.name : 'other'
      row[name] = (row[name] ?? 0) + (this.#self.get(event) ?? 0)
      rows.set(event.layer, row)
    }
    return [...rows]
      .map(([layer, kernels]) => ({ layer, time: Object.values(kernels).reduce((a, b) => a + b, 0), kernels }))
      .sort((a, b) => (a.layer ?? Number.POSITIVE_INFINITY) - (b.layer ?? Number.POSITIVE_INFINITY))
  }

  threadTimes(): ThreadTime[] {
    const rows = new Map<string, { busy: number; waiting: number }>()
    for (const event of this.events) {
      const name = this.#lanes.get(event.thread) ?? ''
      const row = rows.get(name) ?? { busy: 0, waiting: 0 }
      const length = event.end - event.begin
      const caller = name.startsWith('caller')
      if (event.kind === 'wait') row.waiting += length
      if (event.kind === 'wait' && caller) row.busy -= length
      if (event.kind === (caller ? 'call' : 'work')) row.busy += length
      rows.set(name, row)
    }
    return [...rows]
      .map(([name, row]) => ({ name, ...row, idle: Math.max(0, this.time - row.busy - row.waiting) }))
      .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
  }

  /** What chrome://tracing and ui.perfetto.dev read, as an object for JSON.stringify. process: a number and a name to tell several profiles in one file apart. */
  chromeTrace(process: { readonly id?: number; readonly name?: string } = {}): { traceEvents: ChromeEvent[] } {
    const { id: pid = 1, name = 'tokensieve' } = process
    const lanes = [...new Set(this.#lanes.values())].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    const about = (of: string, tid: number, text: string): ChromeEvent => ({
      ph: 'M',
      name: of,
      pid,
      tid,
      args: { name: text },
    })
    const spans = this.events.map((event): ChromeEvent => {
      const { begin, end, kind, layer, thread } = event
      const args = layer === null ? {} : { layer }
      const tid = lanes.indexOf(this.#lanes.get(thread) ?? '')
      return { ph: 'X', name: titleOf(event), cat: kind, pid, tid, ts: begin * 1000, dur: (end - begin) * 1000, args }
    })
    const names = lanes.map((lane, tid) => about('thread_name', tid, lane))
    return { traceEvents: [about('process_name', 0, name), ...names, ...spans] }
  }

  #of(kind: ProfileEvent['kind']): ProfileEvent[] {
    return this.events.filter((event) => event.kind === kind)
  }

  /** Milliseconds of all threads in each kernel that a team shared in. */
  #busy(): Map<ProfileEvent, number> {
    const busy = new Map<ProfileEvent, number>()
    const kernels = this.#of('kernel')
    for (const work of this.#of('work')) {
      const at = upperBound(kernels, work.begin)
      for (let i = at - 1; i >= 0 && i >= at - 4; i--) {
        const kernel = kernels[i] as ProfileEvent
        if (kernel.end < work.end || kernel.layer !== work.layer || kernel.name !== work.name) continue
        busy.set(kernel, (busy.get(kernel) ?? 0) + work.end - work.begin)
        break
      }
    }
    return busy
  }
}

export interface ChromeEvent {
  readonly ph: 'M' | 'X'
  readonly name: string
  readonly cat?: string
  readonly pid: number
  readonly tid: number
  /** Microseconds. */
  readonly ts?: number
  readonly dur?: number
  readonly args: Readonly<Record<string, unknown>>
}

function titleOf({ columns, kind, layer, name, rows }: ProfileEvent): string {
  if (kind === 'layer') return `layer ${layer}`
  return rows > 0 ? `${name} ${rows}×${columns}` : name
}

function sum(events: readonly ProfileEvent[]): number {
  return events.reduce((all, { begin, end }) => all + end - begin, 0)
}

function eventsOf(fields: Float64Array, names: readonly string[]): ProfileEvent[] {
  const events: ProfileEvent[] = []
  for (let i = 0; i < fields.length; i += 9) {
    const [kind, name, thread, layer, begin, end, threads, rows, columns] = fields.subarray(i, i + 9) as unknown as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]
    const known = { kind: KINDS[kind] ?? 'call', name: names[name] ?? 'other', layer: layer < 0 ? null : layer }
    events.push({ ...known, thread, begin, end, threads, rows, columns })
  }
  const order = (event: ProfileEvent) => KINDS.indexOf(event.kind)
  return events.sort((a, b) => a.begin - b.begin || b.end - a.end || order(a) - order(b))
}

/** Milliseconds of a caller's spans without the spans inside them. */
function selfTimes(events: readonly ProfileEvent[]): Map<ProfileEvent, number> {
  const self = new Map<ProfileEvent, number>()
  const open = new Map<number, ProfileEvent[]>()
  for (const event of events) {
    if (event.kind === 'work' || event.kind === 'wait') continue
    const stack = open.get(event.thread) ?? []
    open.set(event.thread, stack)
    while (stack.length > 0 && (stack.at(-1) as ProfileEvent).end < event.end) stack.pop()
    const outer = stack.at(-1)
    const length = event.end - event.begin
    self.set(event, length)
    if (outer) self.set(outer, (self.get(outer) ?? 0) - length)
    stack.push(event)
  }
  return self
}

/** Node's own threads take calls in turn: one line for all whose calls do not overlap. */
function lanesOf(events: readonly ProfileEvent[]): Map<number, string> {
  const lanes = new Map<number, string>()
  const callers = new Set(events.filter(({ kind }) => kind === 'call').map(({ thread }) => thread))
  let end = 0
  let overlap = false
  for (const event of events.filter(({ kind }) => kind === 'call')) {
    overlap ||= event.begin < end
    end = Math.max(end, event.end)
  }
  let caller = 0
  let worker = 0
  for (const { thread } of events) {
    if (lanes.has(thread)) continue
    if (!callers.has(thread)) lanes.set(thread, `worker ${++worker}`)
    else lanes.set(thread, !overlap || ++caller === 1 ? 'caller' : `caller ${caller}`)
  }
  return lanes
}

/** Events that begin at `time` or before. */
function upperBound(events: readonly ProfileEvent[], time: number): number {
  let low = 0
  let high = events.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((events[middle] as ProfileEvent).begin <= time) low = middle + 1
    else high = middle
  }
  return low
}
