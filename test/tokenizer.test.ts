// Expectations are worked by hand from the fixtures' few words: see the comments for the order of the merges.
import t from 'tap'
import { TokensieveError } from '../lib/errors.js'
import { type TokenizerSource, tokenizerFromGguf } from '../lib/tokenizer/index.js'
import { namedSplit } from '../lib/tokenizer/split.js'
import { BYTES, byteLevel, fixture, SPACES, sentencePiece } from './tokenizer-source.js'

const pieces = (pre: string, text: string) => {
  const found: string[] = []
  namedSplit(pre).each(text, (piece) => found.push(piece))
  return found
}

t.test('pre-tokenizers cut as their patterns say', async (t) => {
  const text = "I'm  here in 1999!?\n\n x"
  const gpt2 = ['I', "'m", ' ', ' here', ' in', ' 1999', '!?', '\n\n', ' x']
  t.same(pieces('gpt-2', text), gpt2)
  t.same(pieces('default', text), gpt2)
  t.same(pieces('smollm', text), ['I', "'m", ' ', ' here', ' in', ' ', '1', '9', '9', '9', '!?', '\n\n', ' x'])
  t.same(pieces('gpt-2', 'x  42   7'), ['x', ' ', ' 42', '  ', ' 7'])
  t.same(pieces('smollm', 'x  42   7'), ['x', '  ', '4', '2', '   ', '7'])
  t.same(pieces('smollm', '²Ⅷ١a'), ['²', 'Ⅷ', '١', 'a'], 'numbers of every kind stand alone')
  t.same(pieces('gpt-2', "I'M"), ['I', "'", 'M'], 'endings are lower case here')
  const mixed = "I'M don't 12345 x!!\n\n  y(z\r\n"
  t.same(pieces('llama-bpe', mixed), [
    'I',
    "'M",
    ' don',
    "'t",
    ' ',
    '123',
    '45',
    ' x',
    '!!\n\n',
    ' ',
    ' y',
    '(z',
    '\r\n',
  ])
  t.same(pieces('qwen2', mixed), [
    'I',
    "'M",
    ' don',
    "'t",
    ' ',
    '1',
    '2',
    '3',
    '4',
    '5',
    ' x',
    '!!\n\n',
    ' ',
    ' y',
    '(z',
    '\r\n',
  ])
  t.same(pieces('qwen2', "he'ſ"), ['he', "'ſ"], 'the long s is a small s to the pattern')
  t.same(pieces('gpt-2', 'a\u0085\u0085!b'), ['a', '\u0085', '\u0085', '!', 'b'], 'U+0085 is white space')
  t.same(pieces('gpt-2', 'a\ufeff!b'), ['a', '\ufeff!', 'b'], 'U+FEFF is not')
  for (const pre of ['gpt-2', 'smollm', 'llama-bpe', 'qwen2'])
    t.equal(pieces(pre, mixed + text).join(''), mixed + text, `${pre} loses nothing`)
})

t.test('byte-level BPE', async (t) => {
  const tokenizer = tokenizerFromGguf(byteLevel())
  const ids = (text: string, options = {}) => [...tokenizer.encode(text, options)]
  t.equal(tokenizer.vocabularySize, 48)
  t.same(ids('hello world'), [34, 39])
  t.same(ids('helo'), [31, 10, 12], 'he, then no pair of l o')
  t.same(ids('lll'), [32, 10], 'the leftmost of equal pairs')
  t.same(ids('in 42'), [42, 23, 19, 18], 'smollm: a number alone, the space before it too')
  t.same(
    [...tokenizerFromGguf(byteLevel({ pre: 'gpt-2' })).encode('in 42')],
    [42, 43, 18],
    'gpt-2: " 42", where the pair " 4" ranks before "42"',
  )
  t.same(
    [...tokenizerFromGguf(byteLevel({ pre: 'llama-bpe' })).encode('in 42')],
    [42, 23, 44],
    'llama 3: three digits together',
  )
  t.same(ids('  hello'), [23, 23, 34], 'a space, then " hello", which has no token of its own')
  t.same(ids('é'), [45])
  t.same(ids('😀'), [27, 28, 29, 30])
  t.same(ids('!\u0004!'), [46], 'a byte without a token vanishes before its neighbours are merged')
  t.same(ids('\u0004'), [])
  t.same(ids(''), [])
  const long = 'hello '.repeat(3).trimEnd()
  t.same(ids(long), [34, 23, 34, 23, 34])
  t.equal(tokenizer.decode(tokenizer.encode(`in 42 hello world\n${long} 😀é`)), `in 42 hello world\n${long} 😀é`)
})

t.test('special tokens in text', async (t) => {
  const tokenizer = tokenizerFromGguf(byteLevel())
  const text = 'hello<|im_end|>\n'
  t.same([...tokenizer.encode(text, { parseSpecial: true })], [34, 2, 24])
  t.notOk(tokenizer.encode(text).includes(2), 'plain text makes no control token')
  t.equal(tokenizerFromGguf(byteLevel()).decode([34, 2, 24]), 'hello\n')
  t.equal(tokenizer.decode([34, 2, 24], { special: true }), text)
  t.same([...tokenizer.encode('a<think>a')], [3, 47, 3], 'a user-defined token is a word like others')
  t.same([...tokenizer.encode('<|im_<|im_end|>', { parseSpecial: true })].at(-1), 2)
  const runs = tokenizerFromGguf(sentencePiece({ addSpacePrefix: false, addBos: false }))
  t.same([...runs.encode('h   e')], [260, SPACES[1], 261], 'the longest')
  t.same([...runs.encode('h    e')], [260, SPACES[1], 259, 261], 'the leftmost')
  t.same([...tokenizer.endIds], [2, 0], 'eos, and <|endoftext|> by its text')
  t.same([...tokenizerFromGguf(byteLevel({ eos: undefined, eot: 0 })).endIds], [0, 2])
})

t.test('the begin token', async (t) => {
  const asks = tokenizerFromGguf(byteLevel({ addBos: true }))
  t.same([...asks.encode('hello')], [1, 34])
  t.same([...asks.encode('hello', { addSpecial: false })], [34])
  t.same([...asks.encode('<|im_start|>hello', { parseSpecial: true })], [1, 34], 'never twice')
  t.same([...tokenizerFromGguf(byteLevel()).encode('hello')], [34], 'only where the model asks')
  t.ok(tokenizerFromGguf(sentencePiece()).addBos, 'SentencePiece files mean yes when they say nothing')
  t.notOk(tokenizerFromGguf(byteLevel({ addBos: true, bos: undefined })).addBos)
})

t.test('SentencePiece', async (t) => {
  const tokenizer = tokenizerFromGguf(sentencePiece({ addBos: false }))
  const ids = (text: string) => [...tokenizer.encode(text)]
  t.same(ids('hello'), [259, 269, 262, 268], 'lo (-1) before ll (-2), then he (-3)')
  t.same(ids('elle'), [259, 261, 277], 'll makes lle possible')
  t.same(ids('aaa'), [259, 275, 267], 'the leftmost of equal pairs')
  t.same(ids('world'), [274, 273], '_w, or, ld, then _wor')
  t.same(ids('hello world'), [259, 269, 262, 268, 274, 273])
  t.same(ids('é'), [259, BYTES + 0xc3, BYTES + 0xa9], 'bytes where there is no token')
  t.same(ids('he\n'), [259, 269, BYTES + 10])
  t.same(ids('he\u2581world'), [259, 269, 274, 273], 'U+2581 is a space')
  t.equal(tokenizer.decode(ids('hello wor é\n')), 'hello wor é\n', 'the space in front is taken away again')
  t.equal(tokenizer.decode([1, ...ids('he')], { special: true }), '<s> he')
  const bare = tokenizerFromGguf(sentencePiece({ addSpacePrefix: false, addBos: false }))
  t.same([...bare.encode('hello')], [269, 262, 268])
  t.equal(bare.decode([274]), ' wor', 'a space in front is the text’s own')
  t.same(
    [
      ...tokenizerFromGguf(sentencePiece({ addBos: false, removeExtraWhitespaces: true, types: undefined })).encode(
        ' he\u2581\u2581he ',
      ),
    ],
    [259, 269, 259, 269],
  )
})

t.test('SentencePiece without bytes, and with words that hold a space', async (t) => {
  const source: TokenizerSource = {
    model: 'llama',
    tokens: ['<unk>', 'a', '▁', 'b', 'a▁', 'a▁b'],
    scores: Float32Array.of(0, -1, -2, -3, -4, -5),
    unk: 0,
    types: Int32Array.of(2, 1, 1, 1, 1, 1),
    addSpacePrefix: false,
    addBos: false,
  }
  const tokenizer = tokenizerFromGguf(source)
  t.same([...tokenizer.encode('a b')], [5], 'text is not cut at the space')
  t.same([...tokenizer.encode('aéb')], [1, 0, 3], 'the unknown token')
  t.same([...tokenizerFromGguf({ ...source, unk: undefined }).encode('aéb')], [1, 3])
})

t.test('a word that comes again, and one longer than what is remembered', async (t) => {
  const tokenizer = tokenizerFromGguf(byteLevel())
  const once = [...tokenizer.encode('hello world')]
  t.same([...tokenizer.encode('hello world hello world')], [...once, 23, ...once])
  t.same([...tokenizer.encode('l'.repeat(2001))], [...new Array(1000).fill(32), 10])
})

// The rule itself, slowly: the best pair of all, leftmost first, until there is none.
function mergeSlowly(symbols: string[], rank: (pair: [string, string]) => number): string[] {
  for (;;) {
    const ranks = symbols.slice(1).map((right, i) => rank([symbols[i], right]))
    const best = Math.min(...ranks)
    if (!Number.isFinite(best)) return symbols
    const at = ranks.indexOf(best)
    symbols = [...symbols.slice(0, at), symbols[at] + symbols[at + 1], ...symbols.slice(at + 2)]
  }
}

t.test('merging by heap is merging by the rule', async (t) => {
  let seed = 7
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return (seed >>> 16) % n
  }
  const source = byteLevel()
  const merges = source.merges as string[]
  const bpe = tokenizerFromGguf(source)
  const { pieces, scores } = fixture('sentencepiece')
  const spm = tokenizerFromGguf(sentencePiece({ addBos: false, addSpacePrefix: false }))
  const rankOf = (list: string[], name: string) => (list.includes(name) ? list.indexOf(name) : Number.POSITIVE_INFINITY)
  for (let round = 0; round < 300; round++) {
    const word = Array.from({ length: 1 + random(60) }, () => 'helowrda'[random(8)]).join('')
    const slow = mergeSlowly([...word], ([a, b]) => rankOf(merges, `${a} ${b}`))
    t.same(
      [...bpe.encode(word)].map((id) => (source.tokens as string[])[id]),
      slow,
      word,
    )
    const scored = mergeSlowly([...word], ([a, b]) => -(scores[pieces.indexOf(a + b)] ?? Number.NEGATIVE_INFINITY))
    t.same(
      [...spm.encode(word)].map((id) => pieces[id - 259]),
      scored,
      word,
    )
  }
})

t.test('packed strings are the same strings', async (t) => {
  const source = byteLevel()
  const pack = (strings: string[]) => {
    const encoded = strings.map((text) => Buffer.from(text))
    let at = 0
    return {
      bytes: new Uint8Array(Buffer.concat(encoded)),
      offsets: Uint32Array.from([0, ...encoded.map(({ length }) => (at += length))]),
    }
  }
  const packed = tokenizerFromGguf({
    ...source,
    tokens: pack(source.tokens as string[]),
    merges: pack(source.merges as string[]),
  })
  const text = 'hello world é😀 42<think><|im_end|>'
  t.same(packed.encode(text, { parseSpecial: true }), tokenizerFromGguf(source).encode(text, { parseSpecial: true }))
  t.same([...packed.endIds], [2, 0])
})

t.test('streaming gives whole characters and no special tokens', async (t) => {
  const stream = tokenizerFromGguf(byteLevel()).streamDecoder()
  const push = (...ids: number[]) => stream.push(Int32Array.from(ids))
  t.same([push(34), push(27), push(28), push(29), push(30), push(39)], ['hello', '', '', '', '😀', ' world'])
  t.same([push(27, 28), push(2), push(29, 30), stream.flush()], ['', '', '😀', ''])
  t.same([push(25), stream.flush(), push(26)], ['', '\ufffd', '\ufffd'], 'what never becomes a character')
  t.equal(push(3), 'a')
})

t.test('chat templates', async (t) => {
  const tokenizer = tokenizerFromGguf(byteLevel())
  const text = '<|im_start|>user\nhello<|im_end|>\n'
  t.equal(tokenizer.chat([{ role: 'user', content: 'hello' }]), `${text}<|im_start|>assistant\n`)
  t.equal(
    tokenizer.chat([{ role: 'user', content: [{ text: 'hel' }, 'lo'] }], { addGenerationPrompt: false }),
    text,
    'parts of text are text',
  )
  const tokens = tokenizerFromGguf(
    byteLevel({ chatTemplate: '{{ bos_token }}{{ messages[0].content[1].image }}{{ eos_token }}' }),
  )
  t.equal(
    tokens.chat([{ role: 'user', content: [{ text: 'x' }, { image: 'cat.png' }] }]),
    '<|im_start|>cat.png<|im_end|>',
  )
  const refuses = tokenizerFromGguf(byteLevel({ chatTemplate: "{{ raise_exception('roles must alternate') }}" }))
  t.throws(() => refuses.chat([{ role: 'user', content: '' }]), {
    code: 'ERR_UNSUPPORTED',
    message: /roles must alternate/,
  })
  t.throws(() => tokenizerFromGguf(byteLevel({ chatTemplate: '{% if %}' })).chat([{ role: 'user', content: '' }]), {
    code: 'ERR_UNSUPPORTED',
  })
  t.throws(() => tokenizerFromGguf(byteLevel({ chatTemplate: undefined })).chat([{ role: 'user', content: '' }]), {
    code: 'ERR_UNSUPPORTED',
    message: /no.*template|has none/,
  })
  for (const wrong of [[], 'hello', [null], [{ role: 1, content: '' }], [{ role: 'user', content: 3 }]])
    t.throws(() => tokenizer.chat(wrong as never), TypeError)
})

t.test('what is wrong is said', async (t) => {
  const tokenizer = tokenizerFromGguf(byteLevel())
  t.throws(() => tokenizer.encode(3 as never), {
    name: 'TypeError',
    message: 'Expected a string for `text` but received 3',
  })
  t.throws(() => tokenizer.decode(3 as never), TypeError)
  t.equal(tokenizer.decode([-1, ...tokenizer.encode('hello'), -(2 ** 31)]), 'hello', 'patches are no text')
  for (const id of [48, -0.5, 0.5])
    t.throws(() => tokenizer.decode([id]), { name: 'RangeError', message: /from 0 to 47 for `ids`/ })
  const refused = (changes: Partial<TokenizerSource>, code: string) =>
    t.throws(() => tokenizerFromGguf(byteLevel(changes)), { code }, JSON.stringify(changes))
  refused({ pre: 'klingon' }, 'ERR_UNSUPPORTED')
  refused({ pre: 'constructor' }, 'ERR_UNSUPPORTED')
  refused({ model: 'bert' }, 'ERR_UNSUPPORTED')
  refused({ tokens: [] }, 'ERR_FILE_FORMAT')
  refused({ types: Int32Array.of(1) }, 'ERR_FILE_FORMAT')
  refused({ types: new Int32Array(48).fill(9) }, 'ERR_FILE_FORMAT')
  refused({ scores: new Float32Array(3) }, 'ERR_FILE_FORMAT')
  refused({ bos: 48 }, 'ERR_FILE_FORMAT')
  refused({ eos: -1 }, 'ERR_FILE_FORMAT')
  t.throws(() => tokenizerFromGguf(byteLevel({ pre: 'klingon' })), TokensieveError)
})

t.test('damaged lists neither crash nor hang', async (t) => {
  const damaged = tokenizerFromGguf(
    byteLevel({
      tokens: new Array(48).fill('a'),
      types: undefined,
      merges: ['', ' ', 'a', 'a ', ' a', 'a a a', 'x y'],
    }),
  )
  t.same([...damaged.encode('aa')], [0, 0], 'of equal tokens the first')
  const many = tokenizerFromGguf({
    model: 'gpt2',
    tokens: new Array(100_000).fill('a'),
    merges: new Array(100_000).fill('a a'),
  })
  t.same([...many.encode('aa')], [0, 0])
})
