// The words of native/kernels/cuda/nvcc/device.h on the host: each .cu file is compiled once more with these, and its
// kernels run as fibers, one a thread, under a schedule that is meant to find what is missing (simt.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/half.h"
#include "core/pool.h"
#include "kernels/cuda/recording.h"
#include "simt.h"

// ---- words of the language ----------------------------------------------------------------------------------------

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#define TS_VECTOR(T, name, align)                            \
  struct alignas(2 * (align)) name##2 { T x, y; };           \
  struct alignas(4 * (align)) name##4 { T x, y, z, w; };     \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
TS_VECTOR(float, float, 4)
TS_VECTOR(int, int, 4)
TS_VECTOR(unsigned, uint, 4)
TS_VECTOR(short, short, 2)
TS_VECTOR(unsigned short, ushort, 2)
TS_VECTOR(signed char, char, 1)
TS_VECTOR(unsigned char, uchar, 1)
#undef TS_VECTOR

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;
constexpr int warpSize = 32;

using std::max;
using std::min;
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __int_as_float(int x) { return tokensieve::bits_to_float(static_cast<uint32_t>(x)); }
inline int __float_as_int(float x) { return static_cast<int>(tokensieve::float_to_bits(x)); }
inline float __uint_as_float(unsigned x) { return tokensieve::bits_to_float(x); }
inline unsigned __float_as_uint(float x) { return tokensieve::float_to_bits(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
  return c;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  const uint64_t all = static_cast<uint64_t>(b) << 32 | a;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) out |= static_cast<unsigned>(all >> 8 * (s >> 4 * i & 7) & 255) << 8 * i;
  return out;
}

// Fibers take turns of their own will only: a plain operation is atomic.
template <class T, class U>
T atomicAdd(T* p, U value) {
  const T before = *p;
  *p = static_cast<T>(before + static_cast<T>(value));
  return before;
}
template <class T, class U>
T atomicMax(T* p, U value) {
  const T before = *p;
  *p = std::max(before, static_cast<T>(value));
  return before;
}
template <class T, class U>
T atomicMin(T* p, U value) {
  const T before = *p;
  *p = std::min(before, static_cast<T>(value));
  return before;
}
template <class T, class U, class V>
T atomicCAS(T* p, U compare, V value) {
  const T before = *p;
  if (before == static_cast<T>(compare)) *p = static_cast<T>(value);
  return before;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- what threads do together -------------------------------------------------------------------------------------

inline void __syncthreads() { simt::block_barrier(0); }
inline int __syncthreads_count(int p) { return simt::block_barrier(p != 0); }
inline int __syncthreads_or(int p) { return simt::block_barrier(p != 0) > 0; }
inline int __syncthreads_and(int p) {
  return simt::block_barrier(p != 0) == static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { simt::meet("__syncwarp", mask, nullptr, 0); }

namespace simt {
template <class T>
T shuffled(const char* what, unsigned mask, T value, int from) {
  static_assert(sizeof(T) <= kSlot, "a shuffled value fits a slot");
  const uint8_t* const all = meet(what, mask, &value, sizeof value);
  T got;
  std::memcpy(&got, all + from * kSlot, sizeof got);
  return got;
}
}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int own = simt::lane();
  return simt::shuffled("__shfl_sync", mask, value, own / width * width + (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  const int own = simt::lane(), other = own ^ with;
  return simt::shuffled("__shfl_xor_sync", mask, value, other / width == own / width ? other : own);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32) {
  const int own = simt::lane(), other = own + by;
  return simt::shuffled("__shfl_down_sync", mask, value, other / width == own / width ? other : own);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32) {
  const int own = simt::lane(), other = own - by;
  return simt::shuffled("__shfl_up_sync", mask, value, other >= own / width * width ? other : own);
}
inline unsigned __ballot_sync(unsigned mask, int p) {
  const int vote = p != 0;
  const uint8_t* const all = simt::meet("__ballot_sync", mask, &vote, sizeof vote);
  unsigned bits = 0;
  for (int i = 0; i < 32; i++) {
    int one;
    std::memcpy(&one, all + i * simt::kSlot, sizeof one);
    bits |= static_cast<unsigned>(one) << i;
  }
  return bits;
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == 0xffffffffu; }

// ---- launches -----------------------------------------------------------------------------------------------------

namespace tokensieve::kernels::cuda {

using Stream = Queue*;

Stream stream_of(const Team& team) noexcept;
const void* upload_bytes(Stream stream, const void* host, size_t bytes) noexcept;
void out_of_memory(Stream stream) noexcept;
void hand_over(Stream stream, const Launch& launch, const Arguments& arguments) noexcept;

template <class T>
const T* upload(const Team& team, const T* host, size_t n) noexcept {
  return static_cast<const T*>(upload_bytes(stream_of(team), host, n * sizeof(T)));
}

template <class... P>
void launch_kernel(void (*kernel)(P...), const char* name, dim3 grid, dim3 block, size_t bytes, Stream stream,
                   std::common_type_t<P>... values) noexcept {
  const void* const all[] = {&values...};
  const size_t sizes[] = {sizeof(P)...};
  const Launch launch = {reinterpret_cast<const void*>(kernel),
                         {grid.x, grid.y, grid.z},
                         {block.x, block.y, block.z},
                         bytes,
                         Parameters<P...>::call,
                         name};
  hand_over(stream, launch, {all, sizes, static_cast<int>(sizeof...(P))});
}

#define LAUNCH(kernel, grid, block, bytes, queue, ...) \
  ::tokensieve::kernels::cuda::launch_kernel(kernel, #kernel, dim3(grid), dim3(block), (bytes), (queue), __VA_ARGS__)
#define SHARED_MEMORY(T, name) T* const name = static_cast<T*>(simt::shared_memory())

template <class Kernel>
void allow_shared(Kernel*, size_t) noexcept {}

inline float half_to_float(uint16_t h) { return f16_to_float(h); }
inline uint16_t float_to_half(float f) { return float_to_f16(f); }
inline float bf16_to_float(uint16_t h) { return tokensieve::bf16_to_float(h); }
inline uint16_t float_to_bf16(float f) { return tokensieve::float_to_bf16(f); }
inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(float_to_bf16(high)) << 16 | float_to_bf16(low);
}

inline uint32_t add_bf16x2(uint32_t a, uint32_t b) {
  const auto half = [](uint32_t pair, int at) { return bf16_to_float(static_cast<uint16_t>(pair >> at)); };
  return pack_bf16(half(a, 0) + half(b, 0), half(a, 16) + half(b, 16));
}

// ---- tensor cores -------------------------------------------------------------------------------------------------

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_int8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void load_matrices(uint32_t* r, int count, bool transposed, const void* row);
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { load_matrices(r, 4, false, row); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) { load_matrices(r, 4, true, row); }
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row) { load_matrices(r, 2, false, row); }
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) { load_matrices(r, 2, true, row); }

// Done when it is waited for, so that a forgotten wait is found.
inline void copy_async_16(void* shared, const void* global, bool valid = true) {
  simt::copy_later(shared, global, valid ? 16 : 0, 16);
}
inline void commit_copies() { simt::commit_copies(); }
template <int N>
void wait_copies() {
  simt::wait_copies(N);
}

}  // namespace tokensieve::kernels::cuda
