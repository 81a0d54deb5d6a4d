// The same as CommonJS.
import tokensieve = require('tokensieve')

const { load, methods, TokensieveError } = tokensieve
load('nowhere.gguf').then(
  () => process.exit(1),
  (reason: unknown) => {
    if (!(reason instanceof TokensieveError) || reason.code !== 'ERR_FILE_NOT_FOUND') throw reason
    console.log(typeof methods.snapkv, reason instanceof Error)
  },
)
