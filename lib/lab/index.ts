// The quality lab, as the package shows it.
export { type CalibrateOptions, calibrate } from './calibrate.js'
export type { Calibration } from './calibration.js'
export { type CaseResult, type CompareOptions, type Comparison, compare, type KeptRows } from './compare.js'
export type { Mix } from './contenders.js'
export type { Estimate } from './statistics.js'
export type { Row } from './summary.js'
export type { SamplePrompt } from './tasks/index.js'
