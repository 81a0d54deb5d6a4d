// One reading of a context for all budgets of a method: what a cache method decides at the end of a prompt hangs on what the prompt shows alone, not on what another budget would leave.
import { type Decision, defineMethod, type Look, type Method, type Shape } from '../methods/index.js'

type Prompt = Look & { at: 'prompt' }

/** Methods that decide on the cache at the end of a prompt and nowhere before; each alone in its session. */
export interface Watch {
  /** Sees what they see and writes down what each decides; drops nothing itself. */
  readonly watcher: Method
  /** For each of them one that decides the same at the end of a first prompt without looking. */
  readonly replays: readonly Method[]
  /** Layers whose sums of attention they have kept beside the rows, which who does not look does not have. */
  readonly summed: readonly number[]
}

/** Undefined where there is nothing to share, or where they decide before a prompt's end. */
export function watchOf(lists: readonly (readonly Method[])[], shape: Shape): Watch | undefined {
  const some = lists.flatMap((methods) => (methods.length === 1 ? methods : []))
  const [first] = some
  if (!first || some.length < Math.max(2, lists.length) || !some.every((one) => decidesLate(one, shape)))
    return undefined
  const made = some.map(() => new Map<number, readonly Decision[]>())
  const watcher = defineMethod({
    name: 'watch',
    acts: 'probe',
    repack: first.repack,
    looks: (own) => some.flatMap((one) => promptLooks(one, own)),
    decide(seen) {
      if (seen.at !== 'prompt') return null
      for (const [i, one] of some.entries()) {
        if (promptLooks(one, seen.shape).some(({ layers }) => layers.includes(seen.layer)))
          made[i]?.set(seen.layer, one.decide(seen))
      }
      return null
    },
  })
  const replays = some.map((one, i) =>
    defineMethod({
      name: one.label,
      acts: 'cache',
      repack: one.repack,
      looks: (own) => promptLooks(one, own).map(({ layers }) => ({ at: 'prompt', layers })),
      // What a later call leaves is decided after its last token has spoken.
      decide: (seen) => (seen.at === 'prompt' && seen.step === 0 ? made[i]?.get(seen.layer) : null),
    })(),
  )
  const summed = promptLooks(first, shape).filter(({ needs }) => needs.some(({ what }) => what === 'columnSums'))
  return { watcher: watcher(), replays, summed: [...new Set(summed.flatMap(({ layers }) => layers))] }
}

function promptLooks(method: Method, shape: Shape): Prompt[] {
  return method.looks(shape).filter((look): look is Prompt => look.at === 'prompt')
}

/** Standing rules are for steps to come. */
function decidesLate(method: Method, shape: Shape): boolean {
  const looks = method.looks(shape)
  if (method.acts !== 'cache' || looks.some(({ at }) => at === 'layer' || at === 'vision')) return false
  const standing = looks.some(({ at }) => at === 'session') ? method.decide({ at: 'session', shape }) : []
  return standing.every(({ action }) => action === 'rule')
}
