#!/usr/bin/env node
// The program that package.json names.
import { Interrupts } from './io.js'
import { run } from './program.js'

const interrupts = new Interrupts()
process.on('SIGINT', () => interrupts.interrupt())
process.on('SIGTERM', () => interrupts.end())
// Whoever reads may leave: `tokensieve methods | head -1` is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
}

void run(process.argv.slice(2), { out: process.stdout, err: process.stderr, in: process.stdin, interrupts }).then(
  (code) => {
    process.exitCode = code
  },
)
