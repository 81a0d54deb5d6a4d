#include "engine/expected.h"

#include <algorithm>
#include <cmath>

#include "engine/block.h"

namespace tokensieve {

QueryStats::QueryStats(int size)
    : size(size),
      sum(static_cast<size_t>(size)),
      squares(static_cast<size_t>(size) * static_cast<size_t>(size)),
      part_(sum.size() + squares.size()) {}

// A call adds at most kStageRows rows: they are added up in float, calls in double.
void QueryStats::add(const float* q, size_t ldq, int n) noexcept {
  const size_t d = static_cast<size_t>(size);
  std::fill(part_.begin(), part_.end(), 0.f);
  float* outer = part_.data() + d;
  for (int row = 0; row < n; row++, q += ldq) {
    for (size_t i = 0; i < d; i++) {
      const float x = q[i];
      float* line = outer + i * d;
      part_[i] += x;
      for (size_t j = i; j < d; j++) line[j] += x * q[j];
    }
  }
  for (size_t i = 0; i < d; i++) sum[i] += part_[i];
  for (size_t i = 0; i < d * d; i++) squares[i] += outer[i];
  count += n;
}

namespace {

// x -> R x for a vector whose elements are `step` apart.
void rotate(double* x, size_t step, const MeanRotation& r) {
  const size_t half = r.cos.size();
  for (size_t i = 0; i < half; i++) {
    double &a = x[i * step], &b = x[(i + half) * step];
    const double turned = a * r.cos[i] - b * r.sin[i];
    b = b * r.cos[i] + a * r.sin[i];
    a = turned;
  }
}

// Row after row, softmax over those from `first` on, added to `out` with a weight; rows before `first` get nothing.
void add_softmax(const float* z, size_t first, size_t n, float weight, float* out) {
  if (first >= n) return;
  const float most = *std::max_element(z + first, z + n);
  double total = 0;
  for (size_t j = first; j < n; j++) total += std::exp(static_cast<double>(z[j]) - most);
  for (size_t j = first; j < n; j++)
    out[j] += weight * static_cast<float>(std::exp(static_cast<double>(z[j]) - most) / total);
}

}  // namespace

Outlook outlook(const QueryStats& stats, const MeanRotation& rotation) {
  const size_t d = static_cast<size_t>(stats.size);
  std::vector<double> mean(d), covariance(d * d);
  if (stats.count > 0) {
    for (size_t i = 0; i < d; i++) mean[i] = stats.sum[i] / stats.count;
    for (size_t i = 0; i < d; i++) {
      for (size_t j = i; j < d; j++)
        covariance[i * d + j] = covariance[j * d + i] = stats.squares[i * d + j] / stats.count - mean[i] * mean[j];
    }
  }
  rotate(mean.data(), 1, rotation);
  for (size_t j = 0; j < d; j++) rotate(covariance.data() + j, d, rotation);
  for (size_t i = 0; i < d; i++) rotate(covariance.data() + i * d, 1, rotation);
  return {{mean.begin(), mean.end()}, {covariance.begin(), covariance.end()}};
}

void expected_scores(const Outlook& ahead, const float* keys, int n, float scale, float* turned, float* z) noexcept {
  const size_t d = ahead.mean.size();
  for (int row = 0; row < n; row++, keys += d) {
    std::fill(turned, turned + d, 0.f);
    for (size_t i = 0; i < d; i++) {
      const float* line = ahead.covariance.data() + i * d;
      for (size_t j = 0; j < d; j++) turned[j] += keys[i] * line[j];
    }
    double first = 0, second = 0;
    for (size_t i = 0; i < d; i++) first += static_cast<double>(keys[i]) * ahead.mean[i];
    for (size_t i = 0; i < d; i++) second += static_cast<double>(keys[i]) * turned[i];
    z[row] = static_cast<float>(scale * first + 0.5 * scale * scale * second);
  }
}

// ---- in a layer ---------------------------------------------------------------------------------------------------

// Before q is rotated. Rows of the session's first tokens are no example of what is to come.
void Block::watch_queries(int layer) {
  const Config& c = model_.config;
  for (size_t i = 0; i < entries_.size(); i++) {
    const StageEntry& e = *entries_[i];
    Session& s = *e.session;
    const Look* look = s.look(layer);
    if (look == nullptr || look->ahead == 0) continue;
    device_.wait();
    std::vector<QueryStats>& stats = s.query_stats(layer);
    const std::vector<int32_t>& source = s.rows().source;
    int begin = e.begin;
    while (begin < e.end && source[static_cast<size_t>(begin)] < look->skip) begin++;
    const float* q = stage_.qkv_.as<float>() + static_cast<size_t>(at_[i] + begin - e.begin) * width_;
    if (begin < e.end)
      team_.each(c.heads,
                 [&](int h, int) { stats[static_cast<size_t>(h)].add(q + h * c.head_size, width_, e.end - begin); });
  }
}

// The mean rotation of the positions [from, from + n).
MeanRotation Block::rotation_ahead(int layer, int from, int n, int length) {
  const int rotary = model_.layers[static_cast<size_t>(layer)].rotary;
  const size_t half = static_cast<size_t>(model_.rotaries[static_cast<size_t>(rotary)].rotated / 2);
  std::vector<int32_t> position(static_cast<size_t>(n));
  for (int i = 0; i < n; i++) position[static_cast<size_t>(i)] = from + i;
  const Stage::Angles& a = stage_.angles(device_, rotary, position, length);
  device_.wait();  // the host reads them
  MeanRotation mean{std::vector<double>(half), std::vector<double>(half)};
  for (size_t i = 0; i < static_cast<size_t>(n) * half; i++) {
    mean.cos[i % half] += a.cos[i] / static_cast<double>(n);
    mean.sin[i % half] += a.sin[i] / static_cast<double>(n);
  }
  return mean;
}

// Keys of a head as attention sees them: [rows][head_size].
std::vector<float> Block::keys_seen(const Session& s, int layer, int head) {
  const Config& c = model_.config;
  const int rows = s.cache().rows(layer, head), rotary = model_.layers[static_cast<size_t>(layer)].rotary;
  std::vector<float> keys(static_cast<size_t>(rows) * static_cast<size_t>(c.head_size));
  s.read(kernels::Side::keys, layer, head, keys.data());
  if (!s.options().repack) return keys;
  std::vector<int32_t> slot(static_cast<size_t>(rows));
  for (int i = 0; i < rows; i++) slot[static_cast<size_t>(i)] = i;
  const Stage::Angles& a = stage_.angles(device_, rotary, slot, 0);
  device_.wait();
  model_.backend->rope(keys.data(), static_cast<size_t>(c.head_size), rows, 1, c.head_size,
                       model_.rotaries[static_cast<size_t>(rotary)].rotated, a.cos.data(), a.sin.data(), team_);
  return keys;
}

// When the last row of a call is in the cache: what queries like the call's would give each row, mean over the group.
void Block::look_ahead(int layer) {
  for (const StageEntry* e : entries_) {
    Session& s = *e->session;
    const Look* look = s.look(layer);
    if (look == nullptr || look->ahead == 0 || e->end < static_cast<int>(s.rows().source.size())) continue;
    device_.wait();
    for (int h = 0; h < model_.config.kv_heads; h++) s.expect(layer, h, expect_rows(s, layer, h, *look));
  }
}

std::vector<float> Block::expect_rows(Session& s, int layer, int head, const Look& look) {
  constexpr size_t kRows = 128;  // of a task
  const Config& c = model_.config;
  const size_t group = static_cast<size_t>(c.heads / c.kv_heads), d = static_cast<size_t>(c.head_size);
  const HeadRows& held = s.cache().head(layer, head);
  const size_t rows = held.rows(), parts = (rows + kRows - 1) / kRows;
  const size_t first = static_cast<size_t>(held.up_to(look.skip - 1));
  const std::vector<float> keys = keys_seen(s, layer, head);
  const int from = s.options().repack ? static_cast<int>(rows) : s.length(layer);
  const MeanRotation rotation = rotation_ahead(layer, from, look.ahead, s.length(layer));
  std::vector<Outlook> ahead;
  for (size_t g = 0; g < group; g++)
    ahead.push_back(outlook(s.query_stats(layer)[static_cast<size_t>(head) * group + g], rotation));
  std::vector<float> z(group * rows), turned(static_cast<size_t>(team_.size()) * d), mean(rows);
  team_.each(static_cast<int>(group * parts), [&](int task, int thread) {
    const size_t g = static_cast<size_t>(task) / parts, begin = static_cast<size_t>(task) % parts * kRows;
    expected_scores(ahead[g], keys.data() + begin * d, static_cast<int>(std::min(kRows, rows - begin)),
                    c.attention_scale, turned.data() + static_cast<size_t>(thread) * d, z.data() + g * rows + begin);
  });
  for (size_t g = 0; g < group; g++)
    add_softmax(z.data() + g * rows, first, rows, 1.f / static_cast<float>(group), mean.data());
  return mean;
}

}  // namespace tokensieve
