// npm run demo: installs and builds what is missing, then the main job on a real model and a real text.
import { prepare } from './prepare.mjs'
import { node } from './step.mjs'

prepare({ tests: false })
process.exitCode = node(['--enable-source-maps', 'dist/cli/main.js', 'demo', ...process.argv.slice(2)]) ? 0 : 1
