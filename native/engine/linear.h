// Packed matrices and what owns them: the parts that models of every kind are made of.
#pragma once

#include <string>
#include <vector>

#include "core/buffer.h"
#include "kernels/backend.h"

namespace tokensieve {

// What a model's matrices and vectors point into.
struct WeightStore {
  const kernels::Backend* backend = nullptr;  // the processor's
  int threads = 1;
  std::vector<Buffer> buffers;
  size_t weight_bytes = 0;
  std::string fingerprint;
};

// One or several matrices with the same input, their outputs side by side; neighbours of one type are packed as one.
struct Linear {
  struct Part {
    kernels::PackedMatrix w;
    int offset = 0;  // first output column
    const float* bias = nullptr;
  };
  std::vector<Part> parts;
  int rows = 0;  // all outputs
  bool gated = false;  // one part, gate rows and up rows in turn as kernel matmul_gate takes them
};

// How finely activations are rounded where weights are not float (kernels/matmul.h): once, or what that leaves of them
// a second time, so that about 15 bits of int8 and of bf16 take part, for twice the time.
enum class Arithmetic : uint8_t { fast, fine };

// rms_norm before a linear. weight: [cols] or null; room [n][cols] takes the rows where products read them in f32.
struct Norm {
  const float* weight;
  float eps;
  float* room;
};

// What a linear reads: n rows of `cols` numbers, or what `norm` makes of them.
struct Input {
  const float* x;
  size_t ld;
  int n, cols;
  const Norm* norm = nullptr;
  const kernels::Prepared* rounded = nullptr;  // all of this, where the forms that the linear reads are there already
};

// out (+)= linear(in). prepared: scratch.
void apply_linear(const kernels::Backend& backend, const Linear& linear, Arithmetic arithmetic, const Input& in,
                  bool accumulate, float* out, size_t ldo, Buffer& prepared, Team& team);
// act(gate(in)) * up(in) of a gated linear, in the forms that `next` reads: held by `out` and, where made of f32, `prepared`.
kernels::Prepared apply_gated(const kernels::Backend& backend, const Linear& linear, kernels::Activation act,
                              const Input& in, const Linear& next, Buffer& out, Buffer& prepared, Team& team);

// Kernel screen for n rows of x, w.cols numbers each; w is in two planes.
void screen_linear(const kernels::Backend& backend, const kernels::PackedMatrix& w, const float* x, int n,
                   kernels::Screened* out, Buffer& prepared, Buffer& scratch, Team& team);

}  // namespace tokensieve
