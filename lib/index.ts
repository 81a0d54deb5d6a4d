// The public surface of the package.
export type { Budget } from './budget.js'
export { activeDormantHeads, type DormantHeads, type DormantOptions, type HeadActivity } from './dormant-heads.js'
export { ERROR_CODES, type ErrorCode, TokensieveError } from './errors.js'
export type { Generated, Piece, TextStream } from './generate.js'
export {
  type AttentionOptions,
  type KernelOptions,
  kernels,
  type MachineLimits,
  type MatmulOptions,
  type Rate,
  type RopeOptions,
} from './kernels.js'
export type { KvException, KvOptions, KvTypes } from './kv.js'
export {
  type CalibrateOptions,
  type Calibration,
  type CaseResult,
  type CompareOptions,
  type CompareVisualOptions,
  type Comparison,
  calibrate,
  compare,
  compareVisual,
  type Estimate,
  type Mix,
  type Row,
  type SamplePrompt,
  type VisualCase,
  type VisualComparison,
  type VisualRow,
  type VisualTask,
} from './lab/index.js'
export {
  type CacheSeen,
  type Decision,
  defineMethod,
  type LayerSeen,
  type Method,
  type MethodInfo,
  methods,
  type Preset,
  type Seen,
  type Shape,
  type VisionSeen,
} from './methods/index.js'
export { type LoadOptions, type LoadProgress, load, type Model, type ModelStage } from './model.js'
export type { DType, ModelConfig } from './native.js'
export type { VisionConfig } from './native-vision.js'
export type { PlanEntry } from './plan.js'
export { type KernelTime, type LayerTime, Profile, type ProfileEvent, profile, type ThreadTime } from './profile.js'
export type { Prompt, PromptPart } from './prompt.js'
export { type PullOptions, type PullProgress, pull } from './pull.js'
export { type RetrievalOptions, retrievalHeads } from './retrieval-heads.js'
export type { GenerateOptions } from './sampling.js'
export type { Session } from './session.js'
export type { SessionOptions } from './settings.js'
export type { SessionStats } from './stats.js'
export type { ChatMessage, Tokenizer } from './tokenizer/index.js'
export type { ImageGiven, RawImage, VideoGiven } from './vision/image.js'
