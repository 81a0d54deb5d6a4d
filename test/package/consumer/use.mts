// A user's ES module: compiled against the installed package, then run.
import { load, methods, TokensieveError } from 'tokensieve'
import type * as everything from 'tokensieve'

const error: Error = new TokensieveError('ERR_CLOSED', 'closed')
const pending: ReturnType<typeof everything.load> = load('nowhere.gguf')
await pending.catch((reason: unknown) => {
  if (!(reason instanceof TokensieveError) || reason.code !== 'ERR_FILE_NOT_FOUND') throw reason
})
console.log(typeof methods.snapkv, error instanceof Error)
