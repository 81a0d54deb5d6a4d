// An option that holds a method whose ranking of cache rows is used.
import { typeError } from '../errors.js'
import { asMethod } from './define.js'
import type { Method, Ranking } from './method.js'
import type { Option } from './options.js'

export function ranked(preset: Method): Option<Method> {
  return {
    default: preset,
    about: 'the method that scores the rows; its own budget is not used',
    parse(value, name) {
      const method = asMethod(value, name)
      if (method.ranking === undefined) throw typeError('a method that scores cache rows', name, method.label)
      return method
    },
  }
}

export function rankingOf(method: Method): Ranking {
  return method.ranking as Ranking
}
