// The machine that this runs on, as benchmarks and doctor tell it.
import { readFileSync } from 'node:fs'
import { arch, cpus, platform, totalmem } from 'node:os'
import { native } from '../native.js'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly logical: number
  readonly memory: number
  readonly platform: string
  readonly node: string
}

export function machineOf(): Machine {
  const all = cpus()
  return {
    cpu: all[0]?.model.trim() || 'unknown processor',
    cores: native().physicalCores(),
    logical: all.length,
    memory: totalmem(),
    platform: `${platform()}-${arch()}`,
    node: process.versions.node,
  }
}

/** The instruction sets that kernels exist for, best first, with what each asks of the processor in the words of Linux. */
const LEVELS: Readonly<Record<string, readonly (readonly [isa: string, flags: readonly string[]])[]>> = {
  x64: [
    ['avx512-vnni-bf16', ['avx512_bf16']],
    ['avx512-vnni', ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl', 'avx512_vnni']],
    ['avx2', ['avx', 'avx2', 'bmi2', 'fma', 'f16c']],
  ],
  arm64: [
    ['neon-dotprod', ['asimddp']],
    ['neon', ['asimd']],
  ],
}

export interface Level {
  readonly isa: string
  readonly runs: boolean
  /** Why it does not run. */
  readonly why?: string
}

/** Every instruction set of this processor family, and `reference`; what runs is what native says. */
export function levelsOf(): Level[] {
  const runs = new Set(
    native()
      .kernels.backends()
      .map(({ isa }) => isa),
  )
  const flags = flagsOf()
  const levels = (LEVELS[arch()] ?? []).map(([isa, needed]): Level => {
    if (runs.has(isa)) return { isa, runs: true }
    const missing = needed.filter((flag) => flags !== undefined && !flags.has(flag))
    const why =
      missing.length > 0
        ? `the processor has no ${missing.join(', ')}`
        : 'the processor or the system does not offer it'
    return { isa, runs: false, why }
  })
  return [...levels, { isa: 'reference', runs: runs.has('reference') }]
}

function flagsOf(): Set<string> | undefined {
  try {
    const line = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))
    return line ? new Set(line[1]?.trim().split(/\s+/)) : undefined
  } catch {
    return undefined // not Linux
  }
}
