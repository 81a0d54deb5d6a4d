// bench/card.mjs from end to end on the emulated card: what it says, never how fast.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { scratch, tinyModel, writeGguf } from './model-fixture.js'

const script = fileURLToPath(new URL('../bench/card.mjs', import.meta.url))
const tiny = writeGguf(
  join(scratch(t), 'tiny.gguf'),
  tinyModel({ layers: 2, heads: 2, kvHeads: 1, headSize: 16, hidden: 32, context: 256 }),
)
const small = ['--prompt', '12', '--decode', '20', '--runs', '1', '--tokens', '2', '--steps', '2']

t.test('the whole run on a card', async (t) => {
  const env = { ...process.env, TOKENSIEVE_PREBUILD: fileURLToPath(new URL('../build/simt', import.meta.url)) }
  const { status, stderr, stdout } = spawnSync(process.execPath, [script, '--model', tiny, ...small], {
    encoding: 'utf8',
    env,
  })
  t.equal(status, 0, stderr)
  t.match(stdout, /^cuda:0: emulated, 1024 MiB free; its kernels compute what they should\.$/m)
  t.match(stdout, /^limits of cuda:0, measured beside: read [\d.,]+ GB\/s .*, int8 .* Gop\/s .*, bf16 .* Gop\/s/m)
  t.match(stdout, /\| prefill \| +12 \| none .* TFLOP\/s \|/)
  t.match(stdout, /\| decode +\| +20 \| none .* GB\/s \|/)
  t.match(stdout, /\| prefill \| +12 \| fastv:layer=1,keep=0\.5 .* × \|/)
  t.match(stdout, /^\| 20 \| 22 rows [\d.]+ ms, \d+ rows [\d.]+ ms, \d+ rows [\d.]+ ms \| .* % \|$/m)
  t.match(
    stdout,
    /^Layers 0 to 1 on the processor, the rest on cuda:0, beside the processor alone: (the same|other) text/m,
  )
})

t.test('without a card it says so', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [script, '--model', tiny, ...small], { encoding: 'utf8' })
  t.not(status, 0)
  t.match(stderr, /expected a card: none was found/)
})
