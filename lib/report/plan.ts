// The page of one plan: what was dropped where.
import type { PlanEntry } from '../plan.js'
import { details, el, type Html, page, table } from './html.js'
import { drawKept } from './kept.js'
import { tokensOf } from './lanes.js'

export function planPage(plan: readonly PlanEntry[], title = 'A plan'): string {
  const names = [...new Set(plan.map(({ method }) => method))]
  const count = `${plan.length} decisions of ${names.join(', ')} over ${tokensOf(plan)} tokens.`
  return page(
    title,
    el('h1', {}, title),
    el('p', {}, plan.length === 0 ? 'Nothing was dropped.' : count),
    el(
      'div',
      { class: 'kept' },
      names.flatMap((name) => drawn(name, plan)),
    ),
    plan.length === 0 ? '' : details('All decisions, as a table', entries(plan)),
  )
}

function drawn(name: string, plan: readonly PlanEntry[]): Html[] {
  const own = plan.filter(({ method }) => method === name)
  return drawKept({
    title: name,
    plan: own,
    tokens: tokensOf(plan),
    layers: Math.max(...plan.map(({ layer }) => layer)) + 1,
  })
}

function entries(plan: readonly PlanEntry[]): Html {
  const right = (title: string) => ({ title, right: true })
  const columns = [
    { title: 'method' },
    { title: 'action' },
    { title: 'phase' },
    ...['step', 'layer', 'before', 'after'].map(right),
    { title: 'more' },
  ]
  const rows = plan.map((entry) => {
    const { action, after, before, layer, method, phase, positions, rule, step, what } = entry
    const more = [what, positions, rule && `${rule.kind} at every step`].filter((part) => part !== undefined)
    return [method, action, phase, ...[step, layer, before, after].map(String), more.join(', ')]
  })
  return table('Decisions', columns, rows)
}
