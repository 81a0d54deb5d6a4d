// --method NAME[:option=value,…]: the same options as in TypeScript, written without quotes or brackets.
import { type Method, type MethodInfo, methods } from '../methods/index.js'
import { UsageError } from './arguments.js'

export const METHOD_HELP = `
A method is NAME[:option=value,…] with the options of "tokensieve methods NAME":
  snapkv:keep=0.25,window=16            a share of the tokens that it may touch
  snapkv:keep.tokens=512                so many rows a head
  h2o:keep.bytes=16MiB                  of the whole cache
  pyramidDrop:layers=8/16,ratios=0.5/0.25   a list, its items between slashes
  adaKv:of=h2o,keep=0.25                a method inside a method`

type Factory = (options?: Record<string, unknown>) => Method

/** The method that a text of the command line describes. */
export function parseMethod(text: string): Method {
  const [, name = '', rest = ''] = /^([^:]*):?(.*)$/s.exec(text) ?? []
  const info = methods.list().find((one) => one.name === name)
  if (!info) {
    const known = methods.list().map((one) => one.name)
    throw new UsageError(`Expected a method (${known.join(', ')}) for --method but received ${JSON.stringify(name)}`)
  }
  const factory = (methods as unknown as Record<string, Factory>)[name] as Factory
  return factory(optionsOf(info, rest))
}

function optionsOf(info: MethodInfo, text: string): Record<string, unknown> {
  const options: Record<string, unknown> = {}
  for (const pair of text.split(',').filter((one) => one !== '')) {
    const at = pair.indexOf('=')
    if (at < 1)
      throw new UsageError(`Expected option=value in --method ${info.name} but received ${JSON.stringify(pair)}`)
    const [name = '', part] = pair.slice(0, at).trim().split('.')
    const value = pair.slice(at + 1).trim()
    if (Object.hasOwn(options, name)) throw new UsageError(`Expected ${name} once in --method ${info.name}`)
    if (part === undefined) options[name] = optionValue(value, info.options[name]?.default)
    else options[name] = { [part]: scalarOf(value) }
  }
  return options
}

/** preset: the option's default tells lists and methods from words. */
function optionValue(text: string, preset: unknown): unknown {
  if (Array.isArray(preset) || preset === null || text.includes('/'))
    return text === '' ? [] : text.split('/').map(scalarOf)
  if (typeof preset === 'string' && preset.startsWith('methods.')) return parseMethod(text)
  return scalarOf(text)
}

function scalarOf(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : text
}
