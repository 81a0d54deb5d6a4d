// The same hand-made vocabularies as tokenizer.json has them: what comes out must be what comes out of the GGUF form.
import t from 'tap'
import { tokenizerFromGguf, tokenizerFromJson } from '../lib/tokenizer/index.js'
import { byteLevel, fixture, sentencePiece } from './tokenizer-source.js'

const ranks = (tokens: readonly string[]) => Object.fromEntries(tokens.map((token, id) => [token, id]))
function byteLevelJson(changes: object = {}) {
  const { tokens, types, merges } = fixture('byte-level')
  const added = tokens.flatMap((content: string, id: number) =>
    types[id] === 1 ? [] : [{ id, content, special: types[id] === 3 }],
  )
  return {
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: ranks(tokens), merges },
    ...changes,
  }
}

t.test('tokenizer.json, byte level', async (t) => {
  const { chatTemplate } = fixture('byte-level')
  const config = {
    bos_token: { content: '<|im_start|>' },
    eos_token: '<|im_end|>',
    chat_template: [
      { name: 'tools', template: 'x' },
      { name: 'default', template: chatTemplate },
    ],
  }
  const tokenizer = tokenizerFromJson(byteLevelJson(), config)
  const same = tokenizerFromGguf(byteLevel())
  for (const text of ['hello world', 'in 42  hello\n', 'é😀!!', 'a<think>a<|im_end|>']) {
    for (const parseSpecial of [true, false])
      t.same(tokenizer.encode(text, { parseSpecial }), same.encode(text, { parseSpecial }), text)
  }
  t.equal(tokenizer.bos, 1)
  t.notOk(tokenizer.addBos)
  t.same([...tokenizer.endIds], [2, 0])
  t.equal(tokenizer.chat([{ role: 'user', content: 'hello' }]), same.chat([{ role: 'user', content: 'hello' }]))
  t.throws(() => tokenizerFromJson(byteLevelJson()).chat([{ role: 'user', content: 'hello' }]), {
    code: 'ERR_UNSUPPORTED',
  })
})

t.test('tokenizer.json, steps before merging', async (t) => {
  const encode = (changes: object, text: string, options = {}) => [
    ...tokenizerFromJson(byteLevelJson(changes)).encode(text, options),
  ]
  const isolated = (Regex: string) => {
    const split = { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }
    return { pre_tokenizer: { type: 'Sequence', pretokenizers: [split, { type: 'ByteLevel', use_regex: false }] } }
  }
  const cl100k = isolated("(?i:'s|'t|'re|'ve|'m|'ll|'d)|\\s+|[^\\s']+")
  t.same(encode(cl100k, "in'tT\u0085in"), [42, 41, 42], 'T and U+0085 have no tokens')
  t.same(encode(isolated('\\d'), '42'), [19, 18])
  t.same(encode(isolated('x'), '42 hello'), [44, 23, 34], 'what no pattern takes is a piece')
  const prefix = { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } }
  t.same(encode(prefix, 'world'), [39])
  t.same(encode(prefix, ' world'), [39])
  const replace = { type: 'Replace', pattern: { String: '.' }, content: '!' }
  const normalizers = [{ type: 'NFC' }, { type: 'Lowercase' }, replace]
  t.same(encode({ normalizer: { type: 'Sequence', normalizers } }, 'E\u0301.'), [45, 20])
  const single = [{ SpecialToken: { id: '<|im_start|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }]
  const processors = [{ type: 'ByteLevel' }, { type: 'TemplateProcessing', single }]
  t.same(encode({ post_processor: { type: 'Sequence', processors } }, 'hello'), [1, 34])
  const stripping = { id: 2, content: '<|im_end|>', special: true, lstrip: true, rstrip: true }
  const text = 'hello  <|im_end|> \nhello'
  t.same(encode({ added_tokens: [stripping] }, text, { parseSpecial: true }), [34, 2, 34])
  const model = { type: 'BPE', vocab: ranks(fixture('byte-level').tokens), merges: [], ignore_merges: true }
  t.same(encode({ model }, 'hello!'), [34, 20], 'whole words without merges')
})

t.test('tokenizer.json, SentencePiece', async (t) => {
  const source = sentencePiece({ addBos: true })
  const tokens = (source.tokens as string[]).slice(0, 278)
  // Pairs in the order of the scores of what they make: lo lle ll he _w or ld _wor aa el
  const merges = ['l o', 'll e', 'l l', 'h e', '▁ w', 'o r', 'l d', '▁w or', 'a a', 'e l'].map((pair) =>
    pair.split(' '),
  )
  const json = (changes: object) => ({
    added_tokens: [0, 1, 2].map((id) => ({ id, content: tokens[id], special: true })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: { type: 'BPE', vocab: ranks(tokens), merges, byte_fallback: true, unk_token: '<unk>' },
    ...changes,
  })
  const config = { bos_token: '<s>', eos_token: '</s>', add_bos_token: true }
  const tokenizer = tokenizerFromJson(json({}), config)
  const same = tokenizerFromGguf(source)
  for (const text of ['hello', 'elle', 'aaa', 'hello world', 'é\n', 'he▁world', ' he']) {
    t.same(tokenizer.encode(text), same.encode(text), text)
    t.equal(tokenizer.decode(tokenizer.encode(text)), same.decode(same.encode(text)))
  }
  const metaspace = (fields: object) =>
    json({ normalizer: null, pre_tokenizer: { type: 'Metaspace', replacement: '▁', ...fields } })
  const encode = (fields: object, text: string) => [
    ...tokenizerFromJson(metaspace(fields), { ...config, add_bos_token: false }).encode(text, { parseSpecial: true }),
  ]
  t.same(encode({ prepend_scheme: 'first', split: false }, 'he</s>he'), [259, 269, 2, 269])
  t.same(encode({ prepend_scheme: 'always', split: false }, 'he</s>he'), [259, 269, 2, 259, 269])
  t.same(encode({ prepend_scheme: 'first', split: false }, ' he'), [259, 269], 'not before a space')
  t.same(encode({ prepend_scheme: 'never', split: true }, 'he  wor'), [269, 259, 274])
  t.same(encode({ add_prefix_space: true }, 'he'), [259, 269])
})

t.test('tokenizer.json: what is not supported or not one', async (t) => {
  const refused = (changes: object, code: string) =>
    t.throws(() => tokenizerFromJson(byteLevelJson(changes)), { code }, JSON.stringify(changes))
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [] }
  refused({ model: { type: 'Unigram' } }, 'ERR_UNSUPPORTED')
  refused({ model: { ...model, end_of_word_suffix: '</w>' } }, 'ERR_UNSUPPORTED')
  refused({ normalizer: { type: 'Precompiled' } }, 'ERR_UNSUPPORTED')
  refused({ pre_tokenizer: { type: 'BertPreTokenizer' } }, 'ERR_UNSUPPORTED')
  refused({ pre_tokenizer: { type: 'Split', pattern: { Regex: 'a' }, behavior: 'MergedWithNext' } }, 'ERR_UNSUPPORTED')
  refused({ pre_tokenizer: { type: 'Split', pattern: {}, behavior: 'Isolated' } }, 'ERR_UNSUPPORTED')
  refused({ pre_tokenizer: { type: 'Split', pattern: { Regex: 'a++' }, behavior: 'Isolated' } }, 'ERR_UNSUPPORTED')
  refused({ model: undefined }, 'ERR_FILE_FORMAT')
  refused({ model: { type: 'BPE', merges: [] } }, 'ERR_FILE_FORMAT')
  refused({ model: { type: 'BPE', vocab: {} } }, 'ERR_FILE_FORMAT')
  refused({ model: { ...model, vocab: { a: 1e9 } } }, 'ERR_FILE_FORMAT')
  refused({ model: { ...model, vocab: { a: 'b' } } }, 'ERR_FILE_FORMAT')
  refused({ model: { ...model, merges: [['a']] } }, 'ERR_FILE_FORMAT')
  refused({ added_tokens: [{ id: 'x' }] }, 'ERR_FILE_FORMAT')
  t.throws(() => tokenizerFromJson('{}' as never), TypeError)
  t.throws(() => tokenizerFromJson(byteLevelJson(), [] as never), TypeError)
})
