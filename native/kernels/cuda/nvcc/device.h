// What the kernels of this folder are written in, for nvcc. test/native/simt/device.h is the same on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/pool.h"
#include "kernels/cuda/recording.h"

namespace tokensieve {

// The stream of one device, and what hands work to it: queue.cu.
struct Queue;

namespace kernels::cuda {

using Stream = Queue*;

Stream stream_of(const Team& team) noexcept;
const void* upload_bytes(Stream stream, const void* host, size_t bytes) noexcept;
void hand_over(Stream stream, const Launch& launch, const Arguments& arguments) noexcept;
void out_of_memory(Stream stream) noexcept;  // for a launcher that got none for its own lists

// A small host array, so that kernels launched from here on may read it. The array may change when this returns.
template <class T>
const T* upload(const Team& team, const T* host, size_t n) noexcept {
  return static_cast<const T*>(upload_bytes(stream_of(team), host, n * sizeof(T)));
}

template <class... P>
void launch_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t bytes, Stream stream,
                   std::common_type_t<P>... values) noexcept {
  const void* const all[] = {&values...};
  const size_t sizes[] = {sizeof(P)...};
  const Launch launch = {
      reinterpret_cast<const void*>(kernel), {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, bytes, nullptr, ""};
  hand_over(stream, launch, {all, sizes, static_cast<int>(sizeof...(P))});
}

#define LAUNCH(kernel, grid, block, bytes, queue, ...) \
  ::tokensieve::kernels::cuda::launch_kernel(kernel, dim3(grid), dim3(block), (bytes), (queue), __VA_ARGS__)

#define SHARED_MEMORY(T, name)                                    \
  extern __shared__ __align__(16) unsigned char shared_memory_[]; \
  T* const name = reinterpret_cast<T*>(shared_memory_)

// More than 48 KB of shared memory has to be asked for once.
template <class Kernel>
void allow_shared(Kernel* kernel, size_t bytes) noexcept {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

// ---- halves -------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float half_to_float(uint16_t h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
__device__ __forceinline__ uint16_t float_to_half(float f) {
  uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
__device__ __forceinline__ float bf16_to_float(uint16_t h) { return __uint_as_float(static_cast<uint32_t>(h) << 16); }
__device__ __forceinline__ uint16_t float_to_bf16(float f) {
  uint16_t h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// Sums of two pairs, each rounded to bf16.
__device__ __forceinline__ uint32_t add_bf16x2(uint32_t a, uint32_t b) {
  uint32_t sum;  // bf16 has no addition of its own before sm_90: a * 1 + b
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
  return sum;
}

// ---- tensor cores: of a whole warp, registers as in the PTX manual ------------------------------------------------

// d [16][8] += a [16][16] b [16][8]; d: rows lane / 4 and + 8, columns lane % 4 * 2 and + 1.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// d [16][8] += a [16][32] b [32][8], 8-bit integers.
__device__ __forceinline__ void mma_int8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
// 8 x 8 matrices of 16 bits from shared memory; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row)));
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row)));
}

// ---- copies from global to shared memory that run beside the arithmetic -------------------------------------------

// 16 bytes, zeros where not valid.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes));
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }
// All but the newest N groups are there for this thread; others need a barrier behind it.
template <int N>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace kernels::cuda
}  // namespace tokensieve
