// CONTRIBUTING.md walked for real: its files are written and its edits are made in a copy of the checkout.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { arch } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { scratch } from './model-fixture.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const text = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8')

/** The part of the text under a heading. */
function section(title: string): string {
  return text.split(/^## /m).find((part) => part.startsWith(`${title}\n`)) ?? ''
}

/** `path`: followed by a block of code, which is the whole file. */
function filesOf(part: string): { path: string; content: string }[] {
  const blocks = part.matchAll(/^ +`([^`]+)`:\n\n( +)```\w+\n([\s\S]*?)^ +```$/gm)
  return [...blocks].map(([, path = '', indent = '', code = '']) => ({
    path,
    content: code.replace(new RegExp(`^${indent}`, 'gm'), ''),
  }))
}

function editsOf(part: string): { path: string; anchor: string; line: string }[] {
  const edits = part.matchAll(/In `([^`]+)`, after `([^`]+)`, add `([^`]+)`\./g)
  return [...edits].map(([, path = '', anchor = '', line = '']) => ({ path, anchor, line }))
}

/** A copy that the steps of a section have been done in. */
function walk(t: Test, title: string, copied: readonly string[], linked: readonly string[]): string {
  const copy = join(scratch(t), 'checkout')
  for (const path of copied) cpSync(join(root, path), join(copy, path), { recursive: true })
  for (const path of linked) symlinkSync(join(root, path), join(copy, path))
  const part = section(title)
  for (const { path, content } of filesOf(part)) {
    t.notOk(existsSync(join(copy, path)), `${path} is new`)
    mkdirSync(dirname(join(copy, path)), { recursive: true })
    writeFileSync(join(copy, path), content)
  }
  for (const { path, anchor, line } of editsOf(part)) {
    const lines = readFileSync(join(copy, path), 'utf8').split('\n')
    const places = lines.filter((one) => one === anchor).length
    t.equal(places, 1, `${path} has one line ${anchor}`)
    lines.splice(lines.indexOf(anchor) + 1, 0, line)
    writeFileSync(join(copy, path), lines.join('\n'))
  }
  return copy
}

function run(t: Test, cwd: string, command: string, args: readonly string[]): string {
  const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: process.env.HOME, CI: '1' }
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: 'utf8' })
  t.equal(status, 0, `${command} ${args.slice(0, 3).join(' ')}\n${status === 0 ? '' : stdout + stderr}`)
  return stdout
}

t.test('a method', async (t) => {
  const copied = [
    'lib',
    'scripts',
    'docs',
    'README.md',
    'package.json',
    '.taprc',
    'tsconfig.json',
    'tsconfig.build.json',
  ]
  const copy = walk(t, 'A method', [...copied, 'test/methods', 'test/numbers.ts'], ['node_modules', 'native', 'build'])
  t.equal(filesOf(section('A method')).length, 2)
  t.equal(editsOf(section('A method')).length, 3)
  run(t, copy, process.execPath, ['scripts/build-ts.mjs'])
  run(t, copy, process.execPath, ['scripts/docs.mjs'])
  t.match(readFileSync(join(copy, 'README.md'), 'utf8'), /\| \[`vnorm`\]/)
  t.match(readFileSync(join(copy, 'docs/methods.md'), 'utf8'), /## vnorm\n/)
  t.match(run(t, copy, process.execPath, ['dist/cli/main.js', 'methods', 'vnorm']), /largest values/)
  const tests = ['test/methods/vnorm.test.ts', 'test/methods/all.test.ts']
  run(t, copy, process.execPath, ['node_modules/tap/dist/esm/run.mjs', '--disable-coverage', ...tests])
})

const flags = ['-std=c++17', '-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-Inative', '-Itest/native']
const compiler = process.env.CXX ?? 'c++'

t.test('a kernel', { skip: arch() !== 'x64' && 'the flags are for x86-64' }, async (t) => {
  const copy = walk(t, 'A kernel', ['native', 'CMakeLists.txt', 'test/native'], [])
  t.equal(filesOf(section('A kernel')).length, 5)
  const isa = ['-mavx2', '-mfma', '-mf16c', '-mbmi2', '-DTS_ISA=avx2', '-DTS_ISA_NAME="avx2"', '-DTS_ISA_AVX2=1']
  for (const file of ['negate', 'backend']) {
    run(t, copy, compiler, [...flags, `native/kernels/reference/${file}.cc`])
    run(t, copy, compiler, [...flags, ...isa, `native/kernels/cpu/${file}.cc`])
  }
  const card = ['-Itest/native/simt', '-Wno-unknown-pragmas', '-x', 'c++']
  run(t, copy, compiler, [...flags, ...card, 'native/kernels/cuda/negate.cu', 'native/kernels/cuda/backend.cc'])
  run(t, copy, compiler, [...flags, 'test/native/negate.test.cc'])
})

t.test('an architecture', async (t) => {
  const copy = walk(t, 'An architecture', ['native'], [])
  t.equal(filesOf(section('An architecture')).length, 1)
  for (const file of ['qwen2', 'registry']) run(t, copy, compiler, [...flags, `native/engine/models/${file}.cc`])
})

t.test('every file that is named is there', async (t) => {
  const made = new Set(
    ['A method', 'A kernel', 'An architecture'].flatMap((title) => filesOf(section(title))).map(({ path }) => path),
  )
  const named = text.matchAll(/`((?:lib|native|test|docs|scripts)\/[\w./-]+)`/g)
  for (const [, path = ''] of named) if (!made.has(path)) t.ok(existsSync(join(root, path)), path)
})
