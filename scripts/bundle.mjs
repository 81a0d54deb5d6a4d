// Modules in CommonJS joined into one file: 184 files, each looked for, read and compiled alone, took 60 ms more of every
// start. A module keeps its name: whoever requires one by its path gets the same object.
import { posix } from 'node:path'
import { joinMaps } from './source-map.mjs'

const IMPORT = /^(?:const (\w+) = )?require\("([^"]+)"\);$/gm
const inside = (name, path) => posix.join(posix.dirname(name), path)

/** Names that a module requires, of modules that are there. */
function needs(modules, name) {
  const paths = [...modules.get(name).code.matchAll(/\brequire\("(\.[^"]+)"\)/g)].map(([, path]) => inside(name, path))
  return paths.filter((path) => modules.has(path))
}

/** `entry` and all that it needs, in the order in which it is found. */
export function reachable(modules, entry) {
  const found = new Set([entry])
  for (const name of found) for (const path of needs(modules, name)) found.add(path)
  return found
}

// Packages and Node's own modules are required when they are first used: half of them never are, and they are slow to
// load. Their names in the code become properties of `$` of the same length, so that source maps stay true.
function deferred(code, name) {
  const outside = {}
  const own = code.replaceAll(IMPORT, (line, variable, path) => {
    if (variable === undefined || path.startsWith('.')) return line
    outside[variable] = path
    return ''
  })
  if (/(^|[^\w.])\$\.\w/m.test(own)) throw new Error(`${name}: $ is what the bundle calls other packages by`)
  const short = Object.entries(outside).map(([variable, path]) => [variable.slice(2), path])
  const names = Object.keys(outside).join('|')
  const used =
    names === '' ? own : own.replaceAll(new RegExp(`\\b(?:${names})\\b`, 'g'), (word) => `$.${word.slice(2)}`)
  return { code: used, outside: Object.fromEntries(short) }
}

const HEAD = `'use strict'
const made = {}
function get(name) {
  const known = made[name]
  if (known !== undefined) return known.exports
  const module = { exports: {} }
  made[name] = module
  modules[name](module.exports, module)
  return module.exports
}
function outside(paths) {
  const $ = {}
  for (const name in paths) {
    const get = () => {
      const value = require(paths[name])
      Object.defineProperty($, name, { value })
      return value
    }
    Object.defineProperty($, name, { get, configurable: true })
  }
  return $
}
module.exports = get
const modules = {
`
const lines = (text) => text.split('\n').length - 1

/**
 * modules: name -> { code, map }, as tsc makes them; names: those that go in. Returns the code of a module whose exports
 * are a function from a name to the module's exports, and its source map. It lies where names are relative to.
 */
export function bundle(modules, names) {
  let code = HEAD
  const sections = []
  for (const name of names) {
    const { code: own, outside } = deferred(modules.get(name).code, name)
    const linked = own.replaceAll(/\brequire\("(\.[^"]+)"\)/g, (_, path) => {
      const at = inside(name, path)
      return names.has(at) ? `get(${JSON.stringify(at)})` : `require(${JSON.stringify(`./${at}`)})`
    })
    // In brackets, so that V8 compiles it at once and does not read it twice.
    code += `${JSON.stringify(name)}: (function (exports, module) { const $ = outside(${JSON.stringify(outside)});\n`
    sections.push({ line: lines(code), map: modules.get(name).map })
    code += `${linked}}),\n`
  }
  return { code: `${code}}\n`, map: joinMaps(sections) }
}
