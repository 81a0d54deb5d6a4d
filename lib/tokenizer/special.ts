// Special tokens in text: leftmost, then longest. Two letters decide where to look closer, a tree of letters what is there.

interface Node {
  id: number // -1 where no token ends
  readonly next: Map<number, Node>
}

export interface Special {
  readonly id: number
  readonly text: string
  /** True for tokens that plain text must not make: beginnings, ends and roles. False for those that are ordinary words to the model. */
  readonly control: boolean
  /** White space before or after belongs to the token (`lstrip`, `rstrip` of tokenizer.json). */
  readonly takesLeft?: boolean
  readonly takesRight?: boolean
}

export class Specials {
  readonly #words: Finder
  readonly #all: Finder

  constructor(specials: readonly Special[]) {
    const named = specials.filter((special) => special.text !== '')
    const words = named.filter((special) => !special.control)
    this.#words = new Finder(words)
    this.#all = words.length === named.length ? this.#words : new Finder(named)
  }

  /** Cuts `text`: `plain(piece)` and `special(id)` in the order of the text. Control tokens are found only with `parseSpecial`. */
  cut(text: string, parseSpecial: boolean, plain: (piece: string) => void, special: (id: number) => void): void {
    const finder = parseSpecial ? this.#all : this.#words
    let from = 0
    for (let found = finder.find(text, 0); found !== undefined; found = finder.find(text, from)) {
      const { start, end, token } = found
      let before = text.slice(from, start)
      if (token.takesLeft) before = before.trimEnd()
      if (before !== '') plain(before)
      special(token.id)
      from = end
      if (token.takesRight) while (from < text.length && /\s/.test(text[from])) from++
    }
    if (from === 0) plain(text)
    else if (from < text.length) plain(text.slice(from))
  }
}

class Finder {
  readonly #root: Node = { id: -1, next: new Map() }
  readonly #tokens: readonly Special[]
  readonly #start: RegExp | undefined

  constructor(tokens: readonly Special[]) {
    this.#tokens = tokens
    const starts = new Set<string>()
    tokens.forEach((token, index) => {
      starts.add(token.text.slice(0, 2))
      this.#add(token.text, index)
    })
    const escaped = [...starts].map((start) =>
      start.replaceAll(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
    )
    this.#start = escaped.length > 0 ? new RegExp(escaped.join('|'), 'g') : undefined
  }

  find(text: string, from: number): { start: number; end: number; token: Special } | undefined {
    const pattern = this.#start
    if (pattern === undefined) return undefined
    pattern.lastIndex = from
    for (let start = pattern.exec(text); start !== null; start = pattern.exec(text)) {
      const found = this.#longest(text, start.index)
      if (found !== undefined) return { start: start.index, ...found }
      pattern.lastIndex = start.index + 1
    }
    return undefined
  }

  #longest(text: string, start: number): { end: number; token: Special } | undefined {
    let best: { end: number; token: Special } | undefined
    let node: Node | undefined = this.#root
    for (let i = start; i < text.length; i++) {
      node = node.next.get(text.charCodeAt(i))
      if (node === undefined) break
      if (node.id >= 0) best = { end: i + 1, token: this.#tokens[node.id] }
    }
    return best
  }

  #add(text: string, index: number): void {
    let node = this.#root
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      let next = node.next.get(unit)
      if (next === undefined) {
        next = { id: -1, next: new Map() }
        node.next.set(unit, next)
      }
      node = next
    }
    if (node.id < 0) node.id = index
  }
}
