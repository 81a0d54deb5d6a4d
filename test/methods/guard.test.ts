// guard: the attention that goes is bounded, by hand and over many caches.
import { test } from 'tap'
import { type Method, makeSchedule, methods, type Seen } from '../../lib/methods/index.js'
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

test('it looks where the method does, at the attention too, and has no rules', async (t) => {
  const looks = methods.guard(methods.h2o(), 0.1).looks(shape)
  t.same(
    looks.map(({ at }) => at),
    ['prompt'],
  )
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

test('misuse', async (t) => {
  t.throws(() => methods.guard(methods.fastv(), 0.1), { name: 'TypeError', message: /acts on the cache/ })
  t.throws(() => methods.guard(methods.snapkv(), 2), { name: 'RangeError', message: /`maxDropped` but received 2/ })
  t.throws(() => methods.guard(methods.snapkv(), '1' as never), { name: 'TypeError' })
})
