// Every pair, by the formula.
#include "kernels/partners.h"

#include <cmath>

#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

namespace {

double dot(const float* a, const float* b, int d) {
  double sum = 0;
  for (int c = 0; c < d; c++) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

double likeness(const PartnersJob& job, int32_t i, int32_t j) {
  double product = 1;
  for (int s = 0; s < job.sides; s++) {
    const float *a = job.x[s] + static_cast<size_t>(i) * job.ldx, *b = job.x[s] + static_cast<size_t>(j) * job.ldx;
    const double lengths = std::sqrt(dot(a, a, job.d)) * std::sqrt(dot(b, b, job.d));
    const double cosine = lengths > 0 ? dot(a, b, job.d) / lengths : 0;
    product *= job.sides > 1 && cosine < 0 ? 0 : cosine;
  }
  return product;
}

}  // namespace

size_t partners_scratch(const PartnersJob&, int) noexcept { return 0; }

void partners(const PartnersJob& job, int32_t* partner, float* similarity, void*, Team& team) noexcept {
  team.each(job.rows, [&](int i, int) {
    double best = -2;
    for (int j = 0; j < job.columns; j++) {
      const double value = likeness(job, job.a[i], job.b[j]);
      if (value <= best) continue;
      best = value;
      partner[i] = j;
    }
    similarity[i] = static_cast<float>(best);
  });
}

}  // namespace tokensieve::kernels::reference
