// How alike the patches of each crop are, where the work stands.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "engine/vision/tower.h"

namespace tokensieve {

namespace {

void make_unit(const float* x, int width, float* y) {
  double squares = 0;
  for (int c = 0; c < width; c++) squares += static_cast<double>(x[c]) * x[c];
  const float scale = squares > 0 ? static_cast<float>(1 / std::sqrt(squares)) : 0;
  for (int c = 0; c < width; c++) y[c] = x[c] * scale;
}

}  // namespace

void Tower::make_units(const float* x, int rows, int width, float* y, Team& team) {
  team.each(rows, [&](int row, int) {
    const size_t at = static_cast<size_t>(row) * static_cast<size_t>(width);
    make_unit(x + at, width, y + at);
  });
}

// The unit rows of a crop are both the weights and the activations of one product.
void Tower::compare(const float* units, int rows, int width, float* out, Team& team) {
  const kernels::Backend& backend = *model_->backend;
  prepared_.need(backend.packed_bytes(DType::f32, rows, width));
  const int panels = (rows + 15) / 16;
  team.each(panels, [&](int panel, int) {
    backend.pack(DType::f32, units, rows, width, nullptr, panel * 16, std::min(rows, panel * 16 + 16),
                 prepared_.data());
  });
  kernels::PackedMatrix w;
  w.type = DType::f32, w.rows = rows, w.cols = width, w.data = prepared_.data();
  kernels::Prepared x;
  x.n = rows, x.cols = width, x.f32 = units, x.ld = static_cast<size_t>(width);
  backend.matmul(w, x, nullptr, false, out, static_cast<size_t>(rows), team);
}

std::vector<float> Tower::cosines(Glance& glance) {
  if (glance.broken_) throw Error(Code::internal, "[vision] expected a glance whose work was not stopped");
  Team team(model_->threads, &glance.stop_);
  const int width = glance.width_;
  size_t total = 0;
  for (int crop = 0; crop < glance.crops(); crop++) {
    const size_t rows = static_cast<size_t>(glance.begin(crop + 1) - glance.begin(crop) - glance.class_rows(crop));
    total += rows * rows;
  }
  std::vector<float> out(total);
  float* to = out.data();
  for (int crop = 0; crop < glance.crops(); crop++) {
    const int first = glance.begin(crop) + glance.class_rows(crop), rows = glance.begin(crop + 1) - first;
    if (rows == 0) continue;
    normed_.need(static_cast<size_t>(rows) * static_cast<size_t>(width) * sizeof(float));
    float* const units = normed_.as<float>();
    make_units(glance.hidden() + static_cast<size_t>(first) * static_cast<size_t>(width), rows, width, units, team);
    compare(units, rows, width, to, team);
    if (team.stopped()) throw Error(Code::aborted, "[vision] the work was stopped");
    to += static_cast<size_t>(rows) * static_cast<size_t>(rows);
  }
  return out;
}

}  // namespace tokensieve
