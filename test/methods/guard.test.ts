// guard: the attention that goes is bounded, by hand, over many caches and at every decode step of a session.
import { test } from 'tap'
import { type CacheSeen, defineMethod, type Method, makeSchedule, methods, type Seen } from '../../lib/methods/index.js'
import { loadTiny } from '../engine.js'
import { randomIds } from '../numbers.js'
import { cacheSeen, keptRows, randomCache, shape, single } from './seen.js'

const recent = (keep: number) => methods.recent({ keep, sinks: 0 })

test('by hand: ten rows whose first two hold half of the attention', async (t) => {
  const columnSums = [[5, 5, 1, 1, 1, 1, 1, 1, 2, 2]]
  const seen = cacheSeen({ shape: single, tokens: 10, columnSums })
  const kept = (method: Method) => keptRows(method, seen)[0]
  t.same(kept(methods.guard(recent(0.4), 0.7)), [6, 7, 8, 9], '14 of 20 go, as was allowed')
  // 4 rows keep 6 of 20, 5 keep 7, ceil(5 * 1.25) = 7 keep 9, 9 keep 15, and then all of them.
  t.same(kept(methods.guard(recent(0.4), 0.6)), [3, 4, 5, 6, 7, 8, 9])
  t.same(kept(methods.guard(recent(0.4), 0.3)), [1, 2, 3, 4, 5, 6, 7, 8, 9])
  t.same(methods.guard(recent(0.4), 0.2).decide(seen), [], 'nothing goes')
})

test('over many caches no head loses more than it may', async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const seen = randomCache(60, seed)
    for (const method of [
      methods.snapkv({ keep: 0.2, window: 4 }),
      methods.adaKv({ keep: 0.3 }),
      methods.h2o({ keep: 0.1 }),
    ])
      for (const bound of [0, 0.2, 0.5, 1]) {
        const kept = keptRows(methods.guard(method, bound), seen)
        const own = keptRows(method, seen)
        for (let head = 0; head < shape.kvHeads; head++) {
          const mass = seen.columnSums(head)
          const sum = (rows: Iterable<number>) => [...rows].reduce((all, row) => all + (mass[row] as number), 0)
          t.ok(1 - sum(kept[head] ?? []) / sum(mass.keys()) <= bound + 1e-9, `${method.name} ${bound}`)
          if (bound === 1) t.same(kept, own, 'nothing to loosen')
        }
      }
  }
})

test('it looks where the method does, at the attention too, and bounds its rules', async (t) => {
  const looks = methods.guard(methods.h2o(), 0.1).looks(shape)
  t.same(
    looks.map(({ at }) => at),
    ['prompt', 'session'],
  )
  t.match(methods.guard(methods.h2o({ keep: { tokens: 9 } }), 0.1).decide({ at: 'session', shape })[0], {
    ...{ action: 'rule', method: 'h2o' },
    rule: { kind: 'mass', tokens: 9, maxDropped: 0.1 },
  })
  t.match(methods.guard(methods.snapkv(), 0.1).looks(shape), [
    { needs: [{ what: 'attention' }, { what: 'columnSums' }] },
  ])
  const again = methods.every(3, methods.guard(methods.snapkv({ window: 4 }), 0.1))
  t.same(
    again.looks(shape).map(({ at }) => at),
    ['prompt', 'decode'],
  )
  t.doesNotThrow(() => makeSchedule([again], shape))
  t.equal(again.label, 'every(3, guard(snapkv))')
  const less = methods.perLayer(methods.guard(recent(0.9), 0.9), [0.2]).decide(randomCache(50, 3) as Seen)
  t.match(less, [{ keptPerHead: [{ length: 10 }, { length: 10 }] }], 'budgets from outside')
})

test('at every decode step no more has gone than may, whatever the budget says', async (t) => {
  const { model } = await loadTiny(t)
  const rows = async (method: Method, bound: number) => {
    let gone = 0
    const watch = defineMethod({
      name: 'watch',
      acts: 'probe',
      looks: { at: 'decode', every: 1, needs: [{ what: 'columnSums' }] },
      decide(seen) {
        const { columnSums, dropped, layer, shape } = seen as CacheSeen
        for (let head = 0; head < shape.kvHeads; head++) {
          const left = columnSums(head).reduce((sum, mass) => sum + mass, 0)
          const share = (dropped?.(head) ?? 0) / (left + (dropped?.(head) ?? 0))
          t.ok(share <= bound + 1e-6, `layer ${layer}, head ${head}: ${share}`)
          gone = Math.max(gone, share)
        }
        return null
      },
    })
    const session = model.session({ methods: [methods.guard(method, bound), watch()] })
    await session.forward(randomIds(40, 5), { logits: 'none' })
    await session.generate(randomIds(2, 6), { maxTokens: 60, ignoreEnd: true })
    const path = session.stats.kv.layers.flatMap((layer) => layer.rows)
    return { gone, least: Math.min(...path), most: Math.max(...path) }
  }
  for (const method of [methods.h2o({ keep: { tokens: 20 } }), methods.streamingLlm({ keep: { tokens: 20 } })]) {
    const free = await rows(method, 1)
    t.same([free.least, free.most], [20, 20], method.name)
    t.ok(free.gone > 0.3, `${method.name}: ${free.gone}`)
    const bound = await rows(method, 0.2)
    t.ok(bound.gone > 0.1 && bound.least > 20, `${method.name}: ${bound.gone}, ${bound.least} rows`)
  }
})

test('misuse', async (t) => {
  t.throws(() => methods.guard(methods.fastv(), 0.1), { name: 'TypeError', message: /acts on the cache/ })
  t.throws(() => methods.guard(methods.snapkv(), 2), { name: 'RangeError', message: /`maxDropped` but received 2/ })
  t.throws(() => methods.guard(methods.snapkv(), '1' as never), { name: 'TypeError' })
})
