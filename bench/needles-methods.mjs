/** Methods that take a budget of cache rows. `cam` and `contextualMemoryReweaving` are not here: what they add comes after the answer (docs/needles.md). */
export const CACHE = [
  'snapkv',
  'h2o',
  'tova',
  'streamingLlm',
  'pyramidKv',
  'adaKv',
  'chunkKv',
  'expectedAttention',
  'ems',
  'keyDiff',
  'lagKv',
]
