// What a session remembers beside its cache.
import { Conversation } from './conversation.js'
import { quantizeEntries } from './kv-plan.js'
import type { PlanEntry } from './plan.js'
import type { Placed } from './prompt.js'
import type { Settings } from './settings.js'

export interface Memory {
  /** Those of patches are below 0. */
  ids: number[]
  /** Pictures among the ids, in order. */
  pictures: Placed[]
  /** So many of the newest ids have not run yet: one after a generation. They run with the next call. */
  waiting: number
  /** So many of the first ids were read as prompts: their rows in the cache are those that any prompt would have. */
  prompted: number
  /** Calls so far. */
  calls: number
  plan: PlanEntry[]
  conversation: Conversation
}

export function emptyMemory({ kv, shape, standing }: Settings): Memory {
  return {
    ids: [],
    pictures: [],
    waiting: 0,
    prompted: 0,
    calls: 0,
    plan: [...quantizeEntries(kv, shape), ...standing.map(({ entry }) => entry)],
    conversation: new Conversation(),
  }
}

export function copyMemory({ conversation, ids, pictures, plan, ...rest }: Memory): Memory {
  const copies = { ids: [...ids], pictures: [...pictures], plan: structuredClone(plan) }
  return { ...rest, ...copies, conversation: conversation.copy() }
}

/** The ids that wait. */
export function waitingIds({ ids, waiting }: Memory): Int32Array {
  return Int32Array.from(ids.slice(ids.length - waiting))
}
