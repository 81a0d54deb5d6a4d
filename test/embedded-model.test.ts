// The model that the repository carries, held to what its training scripts say of it.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { load } from '../lib/index.js'

const folder = fileURLToPath(new URL('../models/vlm', import.meta.url))
const files = readdirSync(folder).filter((name) => name.endsWith('.gguf'))

interface Shown {
  readonly image?: string
  /** The frames of a film. */
  readonly video?: readonly string[]
}
interface Task extends Shown {
  readonly questions: readonly { readonly text: string; readonly answer: string; readonly ids: readonly number[] }[]
}
const tasks = (name: string) =>
  (JSON.parse(readFileSync(join(folder, 'tasks', name), 'utf8')) as { scenes: readonly Task[] }).scenes
const [scenes, films] = ['tasks.json', 'films.json'].map(tasks)

function contentOf({ image, video }: Shown, text: string) {
  const path = (name: string) => join(folder, 'tasks', name)
  return [video ? { video: video.map(path) } : { image: path(image as string) }, { text }]
}

t.test('files are those that the sums name, and small', async (t) => {
  const sums = readFileSync(join(folder, 'SHA256SUMS'), 'utf8').trim().split('\n')
  t.same(sums.map((line) => line.split('  ')[1]).sort(), [...files].sort())
  for (const line of sums) {
    const [sum, name] = line.split('  ')
    const file = join(folder, name)
    t.equal(createHash('sha256').update(readFileSync(file)).digest('hex'), sum, name)
    t.ok(statSync(file).size <= 12 * 2 ** 20, `${name} is at most 12 MiB`)
  }
})

t.test('questions as people type them are the ids of training', async (t) => {
  const model = await load(join(folder, 'tokensieve-vlm.gguf'), { threads: 1 })
  t.teardown(() => model.close())
  const [bos, user, assistant, image] = ['<bos>', '<user>', '<assistant>', '<image>'].map((text) => {
    const ids = model.tokenizer.encode(text, { addSpecial: false, parseSpecial: true })
    t.equal(ids.length, 1, text)
    return ids[0]
  })
  for (const { questions } of [...scenes, ...films]) {
    for (const { text, ids, answer } of questions) {
      const chat = model.tokenizer.chat([{ role: 'user', content: [{ type: 'image' }, { type: 'text', text }] }])
      const all = [...model.tokenizer.encode(chat, { addSpecial: false, parseSpecial: true })]
      if (all.join() !== [bos, user, image, ...ids, assistant].join()) t.fail(`${text}: ${all}`)
      const words = model.tokenizer.encode(` ${answer}`, { addSpecial: false })
      if (words.length !== answer.split(' ').length) t.fail(`${answer}: ${words}`)
    }
  }
  t.pass(`${scenes.length} scenes, ${films.length} films`)
})

interface Reference extends Shown {
  readonly questions: readonly { readonly text: string; readonly best: number; readonly logits: readonly number[] }[]
}

for (const name of files.filter((file) => !file.endsWith('.mmproj.gguf')).map((file) => file.replace('.gguf', ''))) {
  t.test(`${name}: scores of answers as PyTorch has them`, async (t) => {
    const model = await load(join(folder, `${name}.gguf`), { threads: 1 })
    t.teardown(() => model.close())
    const references = JSON.parse(readFileSync(join(folder, `tasks/${name}.reference.json`), 'utf8')) as Reference[]
    for (const { questions, ...shown } of references) {
      for (const { text, best, logits } of questions) {
        const session = model.session({ contextLength: 512 })
        const content = contentOf(shown, text)
        const found = await session.forward([{ role: 'user', content }], { logits: 'last' })
        await session.close()
        const size = Math.max(...logits.map(Math.abs))
        const apart = Math.max(...logits.map((value, i) => Math.abs(value - found[i])))
        t.ok(apart < 0.05 * size, `${text}: apart by ${apart} of ${size}`)
        t.equal(found.indexOf(Math.max(...found)), best, text)
      }
    }
  })

  t.test(`${name}: answers questions about pictures, and about films if it learned that`, async (t) => {
    const model = await load(join(folder, `${name}.gguf`), { threads: 1 })
    t.teardown(() => model.close())
    const learned = name === 'tokensieve-vlm' ? [scenes.slice(0, 12), films.slice(0, 6)] : [scenes.slice(0, 12)]
    for (const some of learned) {
      let right = 0
      const asked = some.flatMap((shown) => shown.questions.map((question) => ({ ...question, shown })))
      for (const { answer, shown, text } of asked) {
        const session = model.session({ contextLength: 512 })
        const content = contentOf(shown, text)
        const found = await session.generate([{ role: 'user', content }], { maxTokens: 4, temperature: 0 })
        await session.close()
        if (found.text.trim() === answer) right++
      }
      t.ok(right >= 0.9 * asked.length, `${right} of ${asked.length}`)
    }
  })
}
