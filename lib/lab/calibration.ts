// What calibrate found, as plain data that JSON can hold and that a session takes as its option `quality`.
import { TokensieveError, typeError } from '../errors.js'
import { type KvTypes, parseKv } from '../kv.js'
import { type Method, type PackedMethod, restoreMethod } from '../methods/index.js'
import type { ModelConfig } from '../native.js'
import type { Estimate } from './statistics.js'

export interface Calibration {
  readonly kind: 'tokensieve-calibration'
  readonly version: 1
  /** The model that was measured: another one refuses it. */
  readonly model: { readonly name: string; readonly layers: number }
  readonly quality: { readonly maxKl: number }
  /** What a session gets; no methods where nothing stayed within maxKl. */
  readonly methods: readonly PackedMethod[]
  readonly kv: KvTypes
  /** Of the full cache's bytes, and the divergence from it. */
  readonly share: number
  readonly kl: Estimate
  /** All that was measured, the smallest cache first. */
  readonly tried: readonly Tried[]
}

export interface Tried {
  readonly method: string
  readonly keep: number | null
  readonly kv: string
  readonly share: number
  readonly kl: Estimate
}

export function modelNamed(config: ModelConfig): Calibration['model'] {
  return { name: config.name ?? config.architecture, layers: config.layers }
}

/** Methods and cache types of a calibration; ERR_UNSUPPORTED where it is another model's. */
export function applyCalibration(given: unknown, config: ModelConfig): { methods: Method[]; kv: KvTypes } {
  const found = given as Calibration | null
  if (typeof found !== 'object' || found?.kind !== 'tokensieve-calibration' || !Array.isArray(found.methods))
    throw typeError('what calibrate() gives', 'quality', given)
  const { name, layers } = modelNamed(config)
  if (found.model?.name !== name || found.model.layers !== layers)
    throw new TokensieveError(
      'ERR_UNSUPPORTED',
      `Expected a calibration of ${name} with ${layers} layers for \`quality\` but received one of ${found.model?.name} with ${found.model?.layers}`,
    )
  return { methods: found.methods.map((packed) => restoreMethod(packed)), kv: parseKv(found.kv, 'quality.kv') }
}
