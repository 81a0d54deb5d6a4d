// The list of methods. A new one is one line here.
import { adaKvOver } from './cache/ada-kv.js'
import { camOver } from './cache/cam.js'
import { chunkKvOver } from './cache/chunk-kv.js'
import { reweavingOver } from './cache/contextual-memory-reweaving.js'
import { ems } from './cache/ems.js'
import { evenShare } from './cache/even-share.js'
import { expectedAttention } from './cache/expected-attention.js'
import { h2o } from './cache/h2o.js'
import { keyDiff } from './cache/key-diff.js'
import { knorm } from './cache/knorm.js'
import { lagKv } from './cache/lag-kv.js'
import { outputAware } from './cache/output-aware.js'
import { pyramidKvOver } from './cache/pyramid-kv.js'
import { random } from './cache/random.js'
import { razorAttention } from './cache/razor-attention.js'
import { recent } from './cache/recent.js'
import { snapkv } from './cache/snapkv.js'
import { streamingLlm } from './cache/streaming-llm.js'
import { tova } from './cache/tova.js'
import { zipVl } from './cache/zip-vl.js'
import { type MethodFactory, type MethodLike, originOf } from './define.js'
import { atpLlava } from './layers/atp-llava.js'
import { dyvte } from './layers/dyvte.js'
import { fastv } from './layers/fastv.js'
import { llavolta } from './layers/llavolta.js'
import { llmDrop } from './layers/llm-drop.js'
import { pMod } from './layers/p-mod.js'
import { pyramidDrop } from './layers/pyramid-drop.js'
import { skipHeads } from './layers/skip-heads.js'
import { sparseVlm } from './layers/sparse-vlm.js'
import { tome } from './layers/tome.js'
import type { Method, MethodInfo } from './method.js'
import { type Maker, makerOf, type PackedMethod, unpackMethod } from './pack.js'
import { type Preset, preset } from './presets.js'
import { methodFromPlan } from './replay.js'
import { everyMethod } from './same.js'
import { aim } from './vision/aim.js'
import { clca } from './vision/clca.js'
import { divPrune } from './vision/div-prune.js'
import { fopru } from './vision/fopru.js'
import { globalCom2 } from './vision/global-com2.js'
import { grid } from './vision/grid.js'
import { hot } from './vision/hot.js'
import { mustDrop } from './vision/must-drop.js'
import { pitome } from './vision/pitome.js'
import { pvc } from './vision/pvc.js'
import { quota } from './vision/quota.js'
import { svitSta } from './vision/svit-sta.js'
import { tempMe } from './vision/temp-me.js'
import { tokenCorr } from './vision/token-corr.js'
import { turbo } from './vision/turbo.js'
import { visionZip } from './vision/vision-zip.js'
import { vmtcCmai } from './vision/vmtc-cmai.js'
import { vtcCls } from './vision/vtc-cls.js'
import { chain } from './wrap/chain.js'
import { every } from './wrap/every.js'
import { guard } from './wrap/guard.js'
import { onLayers } from './wrap/on-layers.js'
import { type KeepTable, perHead, perLayer } from './wrap/per-layer.js'
import { protect } from './wrap/protect.js'

const adaKv = adaKvOver(snapkv())
const pyramidKv = pyramidKvOver(snapkv())
const chunkKv = chunkKvOver(snapkv())
const cam = camOver(recent())
const contextualMemoryReweaving = reweavingOver(snapkv())

const named = {
  vtcCls,
  visionZip,
  divPrune,
  fopru,
  pitome,
  turbo,
  tokenCorr,
  globalCom2,
  aim,
  vmtcCmai,
  mustDrop,
  clca,
  svitSta,
  pvc,
  tempMe,
  quota,
  hot,
  grid,
  fastv,
  pyramidDrop,
  tome,
  sparseVlm,
  atpLlava,
  dyvte,
  llavolta,
  pMod,
  llmDrop,
  skipHeads,
  streamingLlm,
  snapkv,
  h2o,
  tova,
  pyramidKv,
  adaKv,
  chunkKv,
  expectedAttention,
  evenShare,
  ems,
  cam,
  razorAttention,
  keyDiff,
  knorm,
  lagKv,
  contextualMemoryReweaving,
  zipVl,
  outputAware,
  random,
  recent,
}

const wrappers = { perLayer, perHead, onLayers, chain, every, guard, protect }

/** `methods.<name>(options)` describes a method; wrappers take methods; `list()` tells what there is. */
export const methods = Object.freeze({
  ...named,
  ...wrappers,
  preset,
  list: (): MethodInfo[] => Object.values(named).map(({ info }) => info),
})

type Packed = Record<string, never>

const makers = new Map<string, Maker>([
  ...Object.entries(named).map(([name, factory]) => [name, makerOf(factory as MethodFactory<never>)] as const),
  ['perLayer', ({ method, keepOf }: Packed) => perLayer(method as MethodLike, keepOf as KeepTable)],
  ['perHead', ({ method, keepOf }: Packed) => perHead(method as MethodLike, keepOf as KeepTable)],
  ['onLayers', ({ layers, method }: Packed) => onLayers(layers as readonly [number, number], method as MethodLike)],
  ['chain', ({ methods: inside }: Packed) => chain(...(inside as MethodLike[]))],
  ['plan', ({ plan }: Packed) => methodFromPlan(plan)],
  ['protect', ({ method, tokens }: Packed) => protect(tokens as readonly number[], method as MethodLike)],
  ['guard', ({ maxDropped, method }: Packed) => guard(method as MethodLike, maxDropped as number)],
  ['every', ({ n, method }: Packed) => every(n as number, method as MethodLike)],
] as [string, Maker][])

/** A saved method again; ERR_UNSUPPORTED where it was not one of these. */
export function restoreMethod(packed: PackedMethod): Method {
  return unpackMethod(packed, makers)
}

const builtIn = new Set<unknown>([undefined, ...Object.values(named)])

/** True where all of them, those inside wrappers too, come with the package: they do nothing but decide. */
export function areBuiltIn(given: readonly Method[]): boolean {
  return [...everyMethod(given)].every((method) => builtIn.has(originOf(method)))
}

export {
  asMethod,
  type Definition,
  defineMethod,
  type Grant,
  type LookAsked,
  type MethodFactory,
  type MethodLike,
} from './define.js'
export { foldOfMatch } from './matches.js'
export type * from './method.js'
export { type PackedMethod, packMethod } from './pack.js'
export { methodFromPlan } from './replay.js'
export { sameMethods } from './same.js'
export { type Decided, makeSchedule, type Observation, type Schedule } from './schedule.js'
export type { Preset }
