// Which of the products a call is. Up to 8 tokens the weights are what takes time (matmul_few.cu); more are a product
// on tensor cores (matmul_tiles.cu). An output depends on its row, its token and on which of the two it was. A gate is
// applied where the sums are at hand, which spares a launch, and the sums their way to L2 and back.
#include "kernels/cuda/matmul_parts.h"

namespace tokensieve::kernels::cuda {
namespace {

// Large tiles read least, once there are about as many as a card has multiprocessors.
constexpr int kEnoughBlocks = 96;

Tile tile_for(int rows, int n) {
  return (rows + 255) / 256 * ((n + 127) / 128) >= kEnoughBlocks ? Tile::large : Tile::small;
}

void multiply(const PackedMatrix& w, const Prepared& x, const Output& to, Stream stream) noexcept {
  if (x.n == 0 || w.rows == 0) return;
  if (w.type == DType::f32) return multiply_f32(w, x, to, stream);
  const Panels panels = panels_of(w.type, w.data, w.rows, w.cols);
  const Tokens tokens{x.bf16, x.n, w.cols, (w.cols + 1) / 2 * 2, w.cols % 8 == 0};
  if (x.n <= kFewTokens) return multiply_few(w.type, panels, tokens, to, stream);
  multiply_tiles(w.type, tile_for(w.rows, x.n), panels, tokens, to, stream);
}

}  // namespace

Kind activation_kind(DType type) noexcept { return type == DType::f32 ? Kind::f32 : Kind::bf16; }

void matmul(const PackedMatrix& w, const Prepared& x, const float* bias, bool accumulate, float* out, size_t ldo,
            Team& team) noexcept {
  multiply(w, x, Output{out, ldo, bias, w.rows, x.n, accumulate}, stream_of(team));
}

void matmul_gate(const PackedMatrix& w, const Prepared& x, const float* bias, Activation act, float* out, size_t ldo,
                 Team& team) noexcept {
  multiply(w, x, Output{out, ldo, bias, w.rows, x.n, false, true, any_activation(act)}, stream_of(team));
}

}  // namespace tokensieve::kernels::cuda
