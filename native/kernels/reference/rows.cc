#include <cstring>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

void gather(const float* x, size_t ldx, int d, const int32_t* index, int n, float* out, size_t ldo, Team&) noexcept {
  for (int i = 0; i < n; ++i) {
    std::memmove(out + i * ldo, x + static_cast<size_t>(index[i]) * ldx, static_cast<size_t>(d) * sizeof(float));
  }
}

void merge(const float* x, size_t ldx, int d, const int32_t* into, const float* size, int n, int groups, float* out,
           size_t ldo, float* out_size, Team&) noexcept {
  for (int g = 0; g < groups; ++g) {
    double weight = 0;
    int members = 0, first = 0;
    for (int i = n - 1; i >= 0; --i) {
      if (into[i] != g) continue;
      weight += size[i];
      ++members;
      first = i;
    }
    for (int c = 0; c < d; ++c) {
      double sum = 0;
      for (int i = first; i < n; ++i) {
        if (into[i] == g) sum += static_cast<double>(size[i]) * x[i * ldx + c];
      }
      out[g * ldo + c] = members == 1 ? x[first * ldx + c] : static_cast<float>(sum / weight);
    }
    out_size[g] = static_cast<float>(weight);
  }
}

}  // namespace tokensieve::kernels::reference
