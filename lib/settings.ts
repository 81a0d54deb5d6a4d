// Options of a session, checked and complete.
import { typeError } from './errors.js'
import { type KvTypes, parseKv } from './kv.js'
import { completeKv, type KvSettings, nativeKv } from './kv-heads.js'
import { kvOfPlan } from './kv-plan.js'
import { applyCalibration, type Calibration } from './lab/calibration.js'
import {
  asMethod,
  type Decided,
  type Method,
  type MethodLike,
  makeSchedule,
  methodFromPlan,
  type Schedule,
  type Shape,
} from './methods/index.js'
import type { ModelParts } from './model.js'
import type { SessionOptions as NativeOptions } from './native.js'
import { type PlanEntry, parsePlan } from './plan.js'
import { contextOf, shapeOf } from './sizes.js'

export interface SessionOptions {
  /** Rows that may be live at once; default: the model's own, bounded by memory. */
  readonly contextLength?: number
  /** How the cache is stored; default 'f16'. A type, or {@link KvOptions}. */
  readonly kv?: KvTypes
  /** Any number of methods that do not claim the same thing. */
  readonly methods?: readonly MethodLike[]
  /** A plan to be applied again without deciding, with the cache types that it names where `kv` is not given; not together with methods. */
  readonly plan?: readonly PlanEntry[]
  /** What calibrate() found: its methods, and its `kv` where none is given; not together with methods or a plan. */
  readonly quality?: Calibration
  /**
   * How activations are rounded where weights are not float: once, or finely, in two products, which makes prompts and steps about half as fast and is near the exact model. Methods
   * that look at key norms have prompts read finely in any case. Default 'fast'.
   */
  readonly arithmetic?: 'fast' | 'fine'
  /** Keep the scores behind decisions in the plan. */
  readonly trace?: boolean
  /**
   * Take the rows of a prompt's beginning from other sessions of the model that have read it, and let others take this one's; default true. Results are the same bit for bit; how long a
   * prompt takes tells what others have read.
   */
  readonly reuse?: boolean
}

export const SESSION_OPTIONS = ['contextLength', 'kv', 'methods', 'plan', 'quality', 'arithmetic', 'trace', 'reuse']

export interface Settings {
  readonly contextLength: number
  readonly kv: KvSettings
  readonly methods: readonly Method[]
  readonly arithmetic: 'fast' | 'fine'
  readonly trace: boolean
  readonly reuse: boolean
  readonly shape: Shape
  readonly schedule: Schedule
  /** Decisions that stand before anything runs. */
  readonly standing: readonly Decided[]
}

export function settle(parts: ModelParts, options: unknown = {}): Settings {
  const given = optionsOf(options, SESSION_OPTIONS)
  const { arithmetic = 'fast', contextLength, kv, methods, plan, quality, reuse = true, trace = false } = given
  if (arithmetic !== 'fast' && arithmetic !== 'fine') throw typeError("'fast' or 'fine'", 'arithmetic', arithmetic)
  if (typeof trace !== 'boolean') throw typeError('true or false', 'trace', trace)
  if (typeof reuse !== 'boolean') throw typeError('true or false', 'reuse', reuse)
  if (methods !== undefined && !Array.isArray(methods)) throw typeError('an array of methods', 'methods', methods)
  if (plan !== undefined && methods !== undefined) throw typeError('a plan or methods, not both,', 'plan', plan)
  if (quality !== undefined && (methods !== undefined || plan !== undefined))
    throw typeError('a calibration, a plan or methods, one of them,', 'quality', quality)
  const calibrated = quality === undefined ? undefined : applyCalibration(quality, parts.config)
  const planned = plan === undefined ? undefined : kvOfPlan(parsePlan(plan), parts.config)
  const types = parseKv(kv ?? calibrated?.kv ?? planned)
  const shape = shapeOf(parts.native, parts.config, completeKv(types, parts.config, false), parts.vision?.shape)
  const asked = (methods ?? calibrated?.methods ?? []) as readonly unknown[]
  const made = plan === undefined ? asked.map((m, i) => asMethod(m, `methods[${i}]`)) : [methodFromPlan(plan)]
  const schedule = makeSchedule(made, shape)
  return {
    contextLength: contextOf(contextLength, parts.config, shape),
    kv: completeKv(types, parts.config, schedule.repack),
    methods: made,
    arithmetic,
    trace,
    reuse,
    shape,
    schedule,
    standing: schedule.decide({ at: 'session', shape }),
  }
}

/** Options as they were given, or a TypeError that names the one that is unknown. */
export function optionsOf(options: unknown, known: readonly string[]): { readonly [name: string]: unknown } {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw typeError('an object', 'options', options)
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw typeError(`one of the options ${known.join(', ')}`, 'options', name)
  }
  return options as { readonly [name: string]: unknown }
}

export function nativeOptions(settings: Settings): NativeOptions {
  const { arithmetic, contextLength, kv, schedule, shape, standing } = settings
  const skipped = (parts: readonly string[]) =>
    Int32Array.from(
      standing.flatMap(({ decision: d }) => (d.action === 'skip' && parts.includes(d.what) ? [d.layer] : [])),
    )
  const heads = standing.flatMap(({ decision: d }) =>
    d.action === 'skip' && d.what === 'heads' ? d.heads.map((head) => d.layer * shape.heads + head) : [],
  )
  const fine = arithmetic === 'fine' ? 'all' : schedule.asksNorms ? 'prompts' : undefined
  return {
    contextLength,
    ...nativeKv(kv, shape),
    ...(heads.length > 0 && { skipHeads: Int32Array.from(heads) }),
    ...(fine && { fine }),
    repack: schedule.repack,
    skipAttention: skipped(['attention', 'block']),
    skipMlp: skipped(['mlp', 'block']),
  }
}
