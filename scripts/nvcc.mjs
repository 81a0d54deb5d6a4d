// Where nvcc is: CUDACXX, PATH, or NVIDIA's wheels, which pip puts into .cache (104 MB, no card or driver needed).
import { existsSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { runs } from '../native/tools.mjs'
import { root, run } from './step.mjs'

export const CUDA = '13.0'
// All pinned: nvcc's wheel takes any nvvm. cccl: the headers of bf16 include some of it.
const WHEELS = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
  'nvidia-cuda-cccl==13.0.85',
]

/** A path, or null where none is to be had. */
export function findNvcc() {
  for (const own of [process.env.CUDACXX, 'nvcc']) if (own && runs(own)) return own
  const home = join(root, '.cache', `cuda-${CUDA}`)
  const kit = join(home, 'nvidia', 'cu13')
  const nvcc = join(kit, 'bin', 'nvcc')
  const wanted = ['--quiet', '--disable-pip-version-check', '--root-user-action=ignore', '--no-deps', '--target', home]
  if (!existsSync(nvcc) && !run('python3', ['-m', 'pip', 'install', ...wanted, ...WHEELS])) return null
  if (!existsSync(nvcc)) return null
  if (!existsSync(join(kit, 'lib64'))) symlinkSync('lib', join(kit, 'lib64')) // where nvcc links from
  return nvcc
}
