// What a vision tower asks of the machine for one picture, beside what roofline.ts says of the decoder.
import { visionPlace } from '../../methods/tower.js'
import type { VisionConfig } from '../../native-vision.js'
import type { PlanEntry } from '../../plan.js'
import { addTensor, noWeights, type Rates, seconds, type TensorShape, type Weights } from './roofline.js'

type Config = Pick<VisionConfig, 'classToken' | 'headSize' | 'heads' | 'layers' | 'pool' | 'side'>

export interface TowerWork {
  readonly config: Config
  readonly patches: Weights
  /** Of each block: its attention, its MLP. */
  readonly halves: readonly Weights[]
  readonly projector: Weights
}

/** Tensors by the names of GGUF; blocks behind the one that is projected do not run. */
export function towerWorkOf(config: Config, tensors: readonly TensorShape[]): TowerWork {
  const patches = noWeights()
  const projector = noWeights()
  const halves = Array.from({ length: 2 * config.layers }, noWeights)
  for (const tensor of tensors) {
    const [, block = '', part = ''] = /^v\.blk\.(\d+)\.(\w+)/.exec(tensor.name) ?? []
    const half = block === '' ? undefined : halves[2 * Number(block) + (/^(ln2|ffn)/.test(part) ? 1 : 0)]
    if (half) addTensor(half, tensor)
    else if (tensor.name.startsWith('v.patch_embd')) addTensor(patches, tensor)
    else if (tensor.name.startsWith('mm.')) addTensor(projector, tensor)
  }
  return { config, patches, halves, projector }
}

/** Patches of one picture at each place of the tower: before the attention and the MLP of every block, and before the projector. */
export function patchesByPlace(
  plan: readonly PlanEntry[],
  { config }: Pick<TowerWork, 'config'>,
  crops: number,
): number[] {
  const cuts = plan.flatMap(({ after, layer, part, phase }) =>
    phase === 'vision' && part ? [{ place: visionPlace({ layer, part }), after }] : [],
  )
  return Array.from({ length: 2 * config.layers + 1 }, (_, place) => {
    const last = cuts.filter((cut) => cut.place <= place).at(-1)
    return last?.after ?? crops * config.side ** 2
  })
}

/** Seconds of one picture at best: linear layers over its rows, attention over all pairs within a crop. */
export function towerSeconds(work: TowerWork, patches: readonly number[], crops: number, rates: Rates): number {
  const { classToken, headSize, heads, pool, side } = work.config
  const own = classToken ? crops : 0
  let compute = seconds(work.patches, crops * side ** 2, rates)
  let bytes = work.patches.bytes + work.projector.bytes
  for (const [place, weights] of work.halves.entries()) {
    const rows = (patches[place] as number) + own
    const pairs = place % 2 === 0 ? rows ** 2 / crops : 0
    compute += seconds(weights, rows, rates) + (4 * heads * headSize * pairs) / rates.attention
    bytes += weights.bytes
  }
  compute += seconds(work.projector, (patches.at(-1) as number) / pool ** 2, rates)
  return Math.max(compute, bytes / rates.read)
}
