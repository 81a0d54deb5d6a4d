// Element types of weights and of the KV cache. A quantized type stores blocks of `block` elements in `bytes` bytes,
// in GGUF's own layout (little endian).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokensieve {

enum class DType : uint8_t { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, kivi4, kivi2 };

struct DTypeTraits {
  const char* name;
  int block;   // elements a block
  int bytes;   // bytes a block; 0 for cache-only types (kivi*), whose layout is kernels/kv_page.h
};

const DTypeTraits& traits(DType type) noexcept;
bool dtype_from_name(const char* name, DType* type) noexcept;

// Bytes of `elements` (a multiple of the block) in GGUF layout.
inline size_t row_bytes(DType type, size_t elements) noexcept {
  const DTypeTraits& t = traits(type);
  return elements / static_cast<size_t>(t.block) * static_cast<size_t>(t.bytes);
}

}  // namespace tokensieve
