// The products that matmul chooses between. All but `multiply_f32` take activations in bf16.
#pragma once

#include "kernels/cuda/weights.h"
#include "kernels/matmul.h"

namespace tokensieve::kernels::cuda {

constexpr int kFewTokens = 8;  // up to here a product is bound by reading the weights: one mma is 8 tokens wide

// 256 rows x 128 tokens a block, or 128 x 64: the same sums in the same order.
enum class Tile { large, small };

void multiply_few(DType type, const Panels& w, const Tokens& x, const Output& out, Stream stream) noexcept;
void multiply_tiles(DType type, Tile tile, const Panels& w, const Tokens& x, const Output& out, Stream stream) noexcept;
void multiply_f32(const PackedMatrix& w, const Prepared& x, const Output& out, Stream stream) noexcept;

// f(Type<type>) for every type that lies in panels.
template <DType type>
struct Type {
  static constexpr DType value = type;
};
template <class F>
void with_type(DType type, F&& f) noexcept {
  switch (type) {
    case DType::f16: return f(Type<DType::f16>{});
    case DType::bf16: return f(Type<DType::bf16>{});
    case DType::q8_0: return f(Type<DType::q8_0>{});
    case DType::q4_0: return f(Type<DType::q4_0>{});
    case DType::q4_1: return f(Type<DType::q4_1>{});
    case DType::q5_0: return f(Type<DType::q5_0>{});
    case DType::q5_1: return f(Type<DType::q5_1>{});
    case DType::q4_k: return f(Type<DType::q4_k>{});
    case DType::q5_k: return f(Type<DType::q5_k>{});
    case DType::q6_k: return f(Type<DType::q6_k>{});
    default: return;  // f32 has its own; the others are no weights
  }
}

}  // namespace tokensieve::kernels::cuda
