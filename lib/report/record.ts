// A generation as a run: with the text of its tokens, which ids alone do not tell.
import type { Generated } from '../generate.js'
import type { PlanEntry } from '../plan.js'
import type { Tokenizer } from '../tokenizer/index.js'
import { KIND, type Run, type RunCrop } from './run.js'

export interface Recorded {
  readonly model: Run['model']
  readonly tokenizer: Tokenizer
  /** session.ids and session.plan when the generation was done. */
  readonly ids: Int32Array
  readonly plan: readonly PlanEntry[]
  readonly result: Generated
  readonly name: string
  readonly crops?: readonly RunCrop[]
}

export function recordRun({ crops = [], ids, model, name, plan, result, tokenizer }: Recorded): Run {
  const { finishReason, stats, text } = result
  const said = { kind: KIND, version: 1, text, ids: [...result.ids], finishReason, stats, plan } as const
  return { ...said, model, name, tokens: textPieces(tokenizer, ids), prompt: ids.length - result.ids.length, crops }
}

/** The text of each token; a character that is spread over several belongs to the last of them. */
export function textPieces(tokenizer: Tokenizer, ids: Int32Array): string[] {
  const decoder = tokenizer.streamDecoder()
  return Array.from(ids, (id) => {
    if (id < 0 || id >= tokenizer.vocabularySize) return ''
    const special = tokenizer.decode([id]) === '' && tokenizer.decode([id], { special: true })
    return special || decoder.push([id])
  })
}
