// Every error that leaves the package: misuse is TypeError or RangeError in one sentence, all else is TokensieveError.

/** What each code of a {@link TokensieveError} means. */
export const ERROR_CODES = {
  ERR_FILE_NOT_FOUND: 'A model, image or saved session is not where it was said to be, or cannot be opened.',
  ERR_FILE_FORMAT: 'A file is there but does not hold what its format asks for.',
  ERR_FILE_TRUNCATED: 'A file ends before what its own header announces.',
  ERR_UNSUPPORTED: 'The file or the request is valid, but this version cannot do it.',
  ERR_CONTEXT_FULL: 'The prompt does not fit into the context of the session.',
  ERR_OUT_OF_MEMORY: 'The weights or the cache need more memory than there is.',
  ERR_METHOD_CONFLICT: 'Two methods claim the same thing in the same layer.',
  ERR_PLAN: 'A plan does not fit the tokens, the layers or the cache that it is applied to.',
  ERR_CLOSED: 'The model or session was closed before or during the call.',
  ERR_DEVICE: 'A device, an instruction set or the addon cannot be used on this machine.',
  ERR_DOWNLOAD: 'A model could not be downloaded.',
  ERR_HASH: 'A downloaded file is not the one that was expected: its size or hash differs.',
  ERR_INTERNAL: 'A promise between our own parts was broken; please report it.',
} as const

export type ErrorCode = keyof typeof ERROR_CODES

/** A failure that is not misuse. `code` says what kind (see {@link ERROR_CODES}), the message what was expected and what came. */
export class TokensieveError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'TokensieveError'
    this.code = code
  }
}

/** A native failure as TokensieveError, with its own stack; anything else comes back as it is. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof TokensieveError) return error
  const { code } = error as Error & { code?: unknown }
  if (typeof code !== 'string' || !Object.hasOwn(ERROR_CODES, code)) return error
  const translated = new TokensieveError(code as ErrorCode, error.message)
  if (error.stack !== undefined) translated.stack = error.stack.replace(/^Error\b/, 'TokensieveError')
  return translated
}

/** "Expected a string for `prompt` but received 42": the sentence of every misuse. */
export function expected(what: string, name: string, received: unknown): string {
  return `Expected ${what} for \`${name}\` but received ${show(received)}`
}

/** A wrong type, an unknown name or an unknown option. */
export function typeError(what: string, name: string, received: unknown): TypeError {
  return new TypeError(expected(what, name, received))
}

/** A number out of its range. */
export function rangeError(what: string, name: string, received: unknown): RangeError {
  return new RangeError(expected(what, name, received))
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return value.name ? `the function ${value.name}` : 'a function'
  if (typeof value === 'symbol') return value.toString()
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '-0' : String(value)
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`
  const maker = Object.getPrototypeOf(value)?.constructor?.name
  if (maker && maker !== 'Object') return `an instance of ${maker}`
  const keys = Object.keys(value)
  return keys.length === 0
    ? 'an empty object'
    : `an object with ${keys.slice(0, 5).join(', ')}${keys.length > 5 ? ', …' : ''}`
}
