// What attention and its probe share in the reference: the keys of one head as doubles, and the probabilities of one
// query row over them.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "kernels/reference/functions.h"

namespace tokensieve::kernels::reference {

inline int most_rows(const AttentionShape& shape, const AttentionJob* jobs, int count) {
  int rows = 0;
  for (int i = 0; i < count; i++) {
    for (int h = 0; h < shape.kv_heads; h++) {
      if (jobs[i].views[h].rows > rows) rows = jobs[i].views[h].rows;
    }
  }
  return rows;
}

inline void load_side(Side side, int head_size, const Piece* pieces, int count, float* y) {
  Team alone(1);
  for (int i = 0; i < count; i++) {
    load_rows(side, head_size, pieces[i], y, static_cast<size_t>(head_size), alone);
    y += static_cast<size_t>(pieces[i].count) * static_cast<size_t>(head_size);
  }
}

// keys [rows][head_size], rotated where the shape says so.
inline void load_keys(const AttentionShape& shape, const View& view, double* keys) {
  const int d = shape.head_size, half = shape.rotated / 2;
  double* y = keys;
  float row[256];
  int slot = 0;
  Team alone(1);
  for (int i = 0; i < view.key_pieces; i++) {
    Piece one = view.keys[i];
    const int end = one.first + one.count;
    for (one.count = 1; one.first < end; one.first++, slot++, y += d) {
      load_rows(Side::keys, d, one, row, 0, alone);
      for (int c = 0; c < d; c++) y[c] = static_cast<double>(row[c]);
      for (int c = 0; shape.cos && c < half; c++) {
        const double cos = static_cast<double>(shape.cos[c * shape.table_rows + slot]);
        const double sin = static_cast<double>(shape.sin[c * shape.table_rows + slot]);
        const double a = y[c], b = y[c + half];
        y[c] = a * cos - b * sin;
        y[c + half] = b * cos + a * sin;
      }
    }
  }
}

// p[j] for j in [0, rows), 0 outside [first, end); returns the natural logarithm of the sum of the exponentials.
inline double probabilities(const AttentionShape& shape, const View& view, const double* keys, const float* q,
                            int first, int end, double* p) {
  double top = -std::numeric_limits<double>::infinity();
  for (int j = 0; j < view.rows; j++) p[j] = top;
  for (int j = first; j < end; j++) {
    double dot = 0;
    for (int c = 0; c < shape.head_size; c++) dot += static_cast<double>(q[c]) * keys[j * shape.head_size + c];
    p[j] = dot * static_cast<double>(shape.scale) + static_cast<double>(view.bias ? view.bias[j] : 0.0f);
    top = std::fmax(top, p[j]);
  }
  double sum = 0;
  for (int j = 0; j < view.rows; j++) {
    p[j] = std::isinf(p[j]) ? 0 : std::exp(p[j] - top);
    sum += p[j];
  }
  for (int j = 0; j < view.rows && sum > 0; j++) p[j] /= sum;
  return sum > 0 ? top + std::log(sum) : -std::numeric_limits<double>::infinity();
}

}  // namespace tokensieve::kernels::reference
