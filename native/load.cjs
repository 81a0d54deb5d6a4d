// The addon, for lib/native.ts alone. CommonJS, because it must find its own folder from lib (in tests) and from dist.
'use strict'
const { join } = require('node:path')

/** The folder of the package. */
exports.packageRoot = () => join(__dirname, '..')

exports.loadAddon = () => require('node-gyp-build')(join(__dirname, '..'))
