// No object file may hold an instruction above its level, nor a symbol that the linker would merge with another level's.
//   node isa_disassembly.mjs OBJDUMP NM LEVEL=object,object,… LEVEL=…
import { spawnSync } from 'node:child_process'
import { basename } from 'node:path'

// forbidden: instructions above the level. needs: what shows that the level is used at all.
const LEVELS = {
  baseline: { forbidden: /%[yz]mm|\tv[a-z0-9]+ .*%xmm|\t[su]dot\t/ },
  avx2: { forbidden: /%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]|\tvpdp|\tv\w*bf16/, needs: /%ymm/ },
  'avx512-vnni': { forbidden: /\tvdpbf16|\tvcvtne2?ps2?bf16/, needs: /\tvpdpbusd/ },
  'avx512-vnni-bf16': { needs: /\tvdpbf16ps/ },
  neon: { forbidden: /\t[su]dot\t|\tbf(dot|mmla)\t/, needs: /\tfmla\t/ },
  'neon-dotprod': { forbidden: /\tbf(dot|mmla)\t/, needs: /\tsdot\t/ },
}

const [objdump, nm, ...given] = process.argv.slice(2)
const problems = []
let checked = 0

function output(program, args) {
  const { stdout, status, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 30 })
  if (status !== 0) throw new Error(`${program} ${args[0]}: ${stderr}`)
  return stdout
}

function checkCode(level, objects) {
  const { forbidden, needs } = LEVELS[level]
  let used = !needs
  for (const object of objects) {
    let inFunction = ''
    for (const line of output(objdump, ['-d', '--no-show-raw-insn', object]).split('\n')) {
      if (line.endsWith('>:')) inFunction = line
      if (forbidden?.test(line)) problems.push(`${level} ${basename(object)} ${inFunction}${line}`)
      used ||= needs.test(line)
    }
    checked++
  }
  if (!used) problems.push(`${level}: no instruction matches ${needs}`)
}

// Weak and unique symbols are merged by name across object files; a global one must carry the level's name.
function checkSymbols(level, objects) {
  if (level === 'baseline') return
  const identifier = level.replaceAll('-', '_')
  for (const object of objects) {
    for (const line of output(nm, ['--defined-only', object]).split('\n')) {
      const [, kind, name] = line.split(' ')
      if (/^[WwVvu]$/.test(kind)) problems.push(`${level} ${basename(object)}: merged by the linker: ${name}`)
      if (/^[TDBRC]$/.test(kind) && !new RegExp(`\\d${identifier}\\d`).test(name)) {
        problems.push(`${level} ${basename(object)}: global symbol without the level's name: ${name}`)
      }
    }
  }
}

for (const argument of given) {
  const [level, list] = argument.split('=')
  const objects = list.split(',')
  checkCode(level, objects)
  checkSymbols(level, objects)
}
for (const problem of problems.slice(0, 40)) console.log(problem)
console.log(`${checked} object files, ${problems.length} problems`)
process.exitCode = problems.length === 0 && checked > 0 ? 0 : 1
