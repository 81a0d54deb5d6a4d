// Caches and query rows for the tests of attention and its probe: pages of any types, cut into pieces anywhere, and
// what should come out, by the formula in double over the rows as load_rows of the reference reads them.
#pragma once

#include <algorithm>
#include <memory>

#include "kernel_test.h"

namespace kernel_test {

using tokensieve::DType;
using namespace tokensieve::kernels;

inline const char* type_name(DType type) { return tokensieve::traits(type).name; }
inline bool is_kivi(DType type) { return type == DType::kivi4 || type == DType::kivi2; }

// 64-byte aligned memory that a sanitizer watches to its last byte.
class Bytes {
 public:
  explicit Bytes(size_t n, int fill = 0xee)
      : n_(n), data_(static_cast<uint8_t*>(std::aligned_alloc(64, (n + 63) / 64 * 64)), std::free) {
    std::memset(data_.get(), fill, n);
  }
  uint8_t* data() const { return data_.get(); }
  size_t size() const { return n_; }

 private:
  size_t n_;
  std::unique_ptr<uint8_t, void (*)(void*)> data_;
};

// One side of one KV head. Rows that belong to no piece hold bytes that are NaN in every float type.
struct Rows {
  std::vector<Bytes> pages;
  std::vector<Piece> pieces;
  Matrix read{0, 0};  // what the pages hold

  // x [rows][head_size]. ragged: pieces begin and end anywhere in their pages. A kivi type is kept for what is settled:
  // whole pages of keys, all values but the last few; the rest is f16.
  Rows(Side side, DType type, const Matrix& x, bool ragged, check::Random& random) {
    const int d = x.columns();
    int settled = x.rows();
    if (is_kivi(type)) settled = side == Side::keys ? x.rows() / 32 * 32 : std::max(0, x.rows() - 9);
    for (int row = 0; row < x.rows();) {
      const bool rest = row >= settled, whole = is_kivi(type) && side == Side::keys && !rest;
      const DType now = rest && is_kivi(type) ? DType::f16 : type;
      const int first = ragged && !whole ? random.below(12) : 0;
      int count = std::min((rest ? x.rows() : settled) - row, kPageRows - first);
      if (ragged && !whole) count = std::min(count, 1 + random.below(kPageRows - first));
      add(side, now, x, row, first, count, whole);
      row += count;
    }
    read = Matrix(x.rows(), d);
    int row = 0;
    for (const Piece& piece : pieces) {
      if (piece.count > 0) reference_backend().load_rows(side, d, piece, &read.at(row, 0), read.ld(), alone);
      row += piece.count;
    }
  }

 private:
  void add(Side side, DType type, const Matrix& x, int row, int first, int count, bool whole) {
    const Backend& reference = reference_backend();
    pages.emplace_back(reference.page_bytes(side, type, x.columns()), 0xff);
    uint8_t* const page = pages.back().data();
    if (whole) {
      reference.store_kivi_keys(type, x.columns(), &x.at(row, 0), x.ld(), page, alone);
    } else {
      const StoreJob job{side, type, &x.at(row, 0), x.ld(), count, page, first};
      reference.store_rows(x.columns(), &job, 1, alone);
    }
    pieces.push_back({page, static_cast<int16_t>(first), static_cast<int16_t>(count), type});
  }
};

struct Spec {
  DType keys = DType::f16, values = DType::f16;
  int head_size = 64, kv_heads = 2, group = 3, n = 1;
  std::vector<int> rows = {100};  // of each KV head, repeated
  bool ragged = false, bias = false, mass = false;
  int rotated = 0;  // late rotation of so many channels
  int window = 0;  // 0: all rows up to the query's own
  bool fine = false;  // as AttentionShape
  float loud = 0;  // added to channel 5 of every key, which holds most of it then
  bool turned = false;  // keys after a Hadamard transform
  float first = 1;  // factor of the first value of a head
  uint64_t seed = 1;

  std::string text() const {
    return std::string(type_name(keys)) + "/" + type_name(values) + " head size " + std::to_string(head_size) +
           " group " + std::to_string(group) + " n " + std::to_string(n) + " rows " + std::to_string(rows[0]);
  }
};

struct Answer {
  Matrix out{0, 0}, lse{0, 0};
  std::vector<std::vector<float>> mass;

  bool same_bits(const Answer& other) const {
    bool same = out.same_bits(other.out) && lse.same_bits(other.lse);
    for (size_t h = 0; h < mass.size(); ++h) {
      same = same && (mass[h].empty() || std::memcmp(mass[h].data(), other.mass[h].data(), 4 * mass[h].size()) == 0);
    }
    return same;
  }
};

class Problem {
 public:
  explicit Problem(const Spec& spec) : spec_(spec), random_(spec.seed) {
    const int d = spec.head_size, most = *std::max_element(spec.rows.begin(), spec.rows.end());
    shape_ = {spec.group * spec.kv_heads,
              spec.kv_heads,
              d,
              1 / std::sqrt(static_cast<float>(d)),
              nullptr,
              nullptr,
              0,
              0,
              spec.fine};
    q_ = Matrix::normal(spec.n, shape_.heads * d, random_);
    for (int h = 0; h < spec.kv_heads; ++h) add_head(spec.rows[static_cast<size_t>(h) % spec.rows.size()]);
    if (spec.rotated == 0) return;
    for (int i = 0; i < spec.rotated / 2 * most; ++i) {
      const double angle = (i % most) * std::pow(1000.0, -2.0 * (i / most) / spec.rotated);
      cos_.push_back(static_cast<float>(std::cos(angle)));
      sin_.push_back(static_cast<float>(std::sin(angle)));
    }
    shape_.cos = cos_.data();
    shape_.sin = sin_.data();
    shape_.rotated = spec.rotated;
    shape_.table_rows = most;
  }

  const AttentionShape& shape() const { return shape_; }
  const Spec& spec() const { return spec_; }
  int rows(int kv) const { return static_cast<int>(keys_[static_cast<size_t>(kv)].read.rows()); }
  // The rows that query row i sees of a head.
  int& first(int kv, int i) { return first_[static_cast<size_t>(kv)][static_cast<size_t>(i)]; }
  int& end(int kv, int i) { return end_[static_cast<size_t>(kv)][static_cast<size_t>(i)]; }

  Answer empty() const {
    Answer a;
    a.out = Matrix(spec_.n, shape_.heads * shape_.head_size);
    a.lse = Matrix(spec_.n, shape_.heads, 0, 0);
    for (int h = 0; h < spec_.kv_heads; ++h) a.mass.emplace_back(static_cast<size_t>(spec_.mass ? rows(h) : 0), 0.5f);
    return a;
  }

  // Query rows [from, to) as a job that writes into `answer`, row 0 first. The views live until the next call.
  AttentionJob job(Answer* answer, int from, int to) {
    views_.clear();
    for (int h = 0; h < spec_.kv_heads; ++h) {
      const size_t at = static_cast<size_t>(h);
      View view;
      view.keys = keys_[at].pieces.data();
      view.values = values_[at].pieces.data();
      view.key_pieces = static_cast<int>(keys_[at].pieces.size());
      view.value_pieces = static_cast<int>(values_[at].pieces.size());
      view.rows = rows(h);
      view.bias = spec_.bias ? bias_[at].data() : nullptr;
      view.mass = spec_.mass && answer ? answer->mass[at].data() : nullptr;
      view.first = first_[at].data() + from;
      view.end = end_[at].data() + from;
      views_.push_back(view);
    }
    AttentionJob job;
    job.q = &q_.at(from, 0);
    job.ldq = q_.ld();
    job.n = to - from;
    job.views = views_.data();
    if (answer) {
      job.out = answer->out.data();
      job.ldo = answer->out.ld();
      job.lse = answer->lse.data();
    }
    return job;
  }

  Answer run(const Backend& backend, tokensieve::Team& team, int from = 0, int to = -1) {
    Answer answer = empty();
    const AttentionJob one = job(&answer, from, to < 0 ? spec_.n : to);
    run_jobs(backend, shape_, {one}, team);
    return answer;
  }

  static void run_jobs(const Backend& backend, const AttentionShape& shape, const std::vector<AttentionJob>& jobs,
                       tokensieve::Team& team) {
    const Bytes scratch(backend.attention_scratch(shape, jobs.data(), static_cast<int>(jobs.size()), team.size()),
                        0xff);
    backend.attention(shape, jobs.data(), static_cast<int>(jobs.size()), scratch.data(), team);
  }

  // Probabilities of query row i and head h over the cache rows; returns the logarithm of the sum of exponentials.
  double probabilities(int i, int head, std::vector<double>* p) const {
    const size_t kv = static_cast<size_t>(head / spec_.group);
    const Matrix& keys = keys_[kv].read;
    double sum = 0, top = -INFINITY;
    p->assign(static_cast<size_t>(keys.rows()), -INFINITY);
    for (int j = first_[kv][static_cast<size_t>(i)]; j < end_[kv][static_cast<size_t>(i)]; ++j) {
      double s = score(i, head, keys, j) * static_cast<double>(shape_.scale);
      if (spec_.bias) s += static_cast<double>(bias_[kv][static_cast<size_t>(j)]);
      (*p)[static_cast<size_t>(j)] = s;
      top = std::max(top, s);
    }
    for (double& x : *p) sum += x = x > -INFINITY ? std::exp(x - top) : 0;
    for (double& x : *p) x = sum > 0 ? x / sum : 0;
    return sum > 0 ? top + std::log(sum) : -INFINITY;
  }

  Answer expected() const {
    Answer answer = empty();
    std::vector<double> p;
    std::vector<std::vector<double>> mass;
    for (const std::vector<float>& line : answer.mass) mass.emplace_back(line.size());
    for (int i = 0; i < spec_.n; ++i) {
      for (int h = 0; h < shape_.heads; ++h) {
        const size_t kv = static_cast<size_t>(h / spec_.group);
        answer.lse.at(i, h) = static_cast<float>(probabilities(i, h, &p));
        std::vector<double> sum(static_cast<size_t>(shape_.head_size));
        for (size_t j = 0; j < p.size(); ++j) {
          if (p[j] == 0) continue;
          const float* value = &values_[kv].read.at(static_cast<int>(j), 0);
          for (size_t c = 0; c < sum.size(); ++c) sum[c] += p[j] * static_cast<double>(value[c]);
          if (spec_.mass) mass[kv][j] += p[j] / spec_.group;
        }
        for (size_t c = 0; c < sum.size(); ++c) {
          answer.out.at(i, h * shape_.head_size + static_cast<int>(c)) = static_cast<float>(sum[c]);
        }
      }
    }
    for (size_t h = 0; h < mass.size(); ++h) {
      for (size_t j = 0; j < mass[h].size(); ++j) answer.mass[h][j] += static_cast<float>(mass[h][j]);
    }
    return answer;
  }

 private:
  void add_head(int rows) {
    const int d = spec_.head_size;
    Matrix k = Matrix::normal(rows, d, random_), v = Matrix::normal(rows, d, random_);
    for (int j = 0; j < rows; ++j) {
      k.at(j, 5) += spec_.loud;
      if (spec_.turned) turn(&k.at(j, 0), d);
    }
    for (int c = 0; c < d; ++c) v.at(0, c) *= spec_.first;
    keys_.emplace_back(Side::keys, spec_.keys, k, spec_.ragged, random_);
    values_.emplace_back(Side::values, spec_.values, v, spec_.ragged, random_);
    std::vector<int32_t> first, end;
    for (int i = 0; i < spec_.n; ++i) {
      end.push_back(std::max(0, rows - spec_.n + 1 + i));
      first.push_back(spec_.window > 0 ? std::max(0, end.back() - spec_.window) : 0);
    }
    first_.push_back(first);
    end_.push_back(end);
    bias_.emplace_back();
    for (int j = 0; j < rows; ++j) bias_.back().push_back(j % 7 == 3 ? -INFINITY : std::log(1 + random_.uniform(0, 3)));
  }

  static void turn(float* x, int d) {
    for (int step = 1; step < d; step *= 2) {
      for (int c = 0; c < d; ++c) {
        if (c & step) continue;
        const float a = x[c], b = x[c + step];
        x[c] = (a + b) / std::sqrt(2.0f);
        x[c + step] = (a - b) / std::sqrt(2.0f);
      }
    }
  }

  double score(int i, int head, const Matrix& keys, int j) const {
    const float* q = &q_.at(i, head * shape_.head_size);
    const float* k = &keys.at(j, 0);
    const int half = spec_.rotated / 2;
    double sum = 0;
    for (int c = 0; c < half; ++c) {
      const size_t at = static_cast<size_t>(c * shape_.table_rows + j);
      const double cos = cos_[at], sin = sin_[at], a = k[c], b = k[c + half];
      sum += q[c] * (a * cos - b * sin) + q[c + half] * (b * cos + a * sin);
    }
    for (int c = 2 * half; c < shape_.head_size; ++c) sum += static_cast<double>(q[c]) * static_cast<double>(k[c]);
    return sum;
  }

  Spec spec_;
  check::Random random_;
  AttentionShape shape_;
  Matrix q_{0, 0};
  std::vector<Rows> keys_, values_;
  std::vector<std::vector<int32_t>> first_, end_;
  std::vector<std::vector<float>> bias_;
  std::vector<float> cos_, sin_;
  std::vector<View> views_;
};

}  // namespace kernel_test
