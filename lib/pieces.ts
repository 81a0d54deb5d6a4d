// How the rows of a prompt are cut into stage calls.
import { STAGE_ROWS } from './native.js'

/** Stage calls of fewer rows take the attention path of decode steps, which sums in another order. */
export const PROMPT_ROWS = 5

/**
 * Where the piece that begins at row `begin` of a prompt's `rows` ends. The cuts depend on the prompt alone, not on where its reading begins, and a prompt of PROMPT_ROWS or more has no
 * smaller piece: so its rows are the same bits, whatever was there before.
 */
export function pieceEnd(begin: number, rows: number): number {
  const edge = (Math.floor(begin / STAGE_ROWS) + 1) * STAGE_ROWS
  if (edge >= rows) return rows
  const end = Math.min(edge, rows - PROMPT_ROWS)
  return end > begin ? end : rows
}
