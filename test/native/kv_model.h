// A KV cache as plain vectors of rows: what the paged one is held against. Values are what a stored row reads back as,
// taken from a page of its own; of kivi only what its card and kv_side.h say is predicted here (which rows are
// quantized, groups of new keys), a group that was quantized again is checked by its bound and then believed.
#pragma once

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "check.h"
#include "engine/kv_cache.h"

namespace kv {

using tokensieve::CacheShape;
using tokensieve::DType;
using tokensieve::KvCache;
using tokensieve::Team;
using tokensieve::kernels::kPageRows;
using tokensieve::kernels::Piece;
using tokensieve::kernels::Side;

// Both sides of every comparison use the kernels of one instruction set, the reference unless a test sets another.
inline const tokensieve::kernels::Backend*& current_backend() {
  static const tokensieve::kernels::Backend* backend = &tokensieve::kernels::reference_backend();
  return backend;
}
inline const tokensieve::kernels::Backend& backend() { return *current_backend(); }

inline bool is_kivi(DType type) { return type == DType::kivi4 || type == DType::kivi2; }
inline DType type_of(const CacheShape& shape, Side side) { return side == Side::keys ? shape.keys : shape.values; }

// Whether some rows of a side are in f16 while others are quantized, how many of the newest ones are, and how many are
// quantized at once.
struct Split {
  bool packs;
  int sinks, recent, grain;
};
inline Split split_of(const CacheShape& shape, Side side) {
  const DType type = type_of(shape, side);
  const auto& floats = shape.in_float;
  if (is_kivi(type) && floats.residual > 0)
    return side == Side::keys ? Split{true, floats.sinks, 0, floats.residual}
                              : Split{true, floats.sinks, floats.residual, 1};
  const bool quantized = is_kivi(type) || type == DType::q8_0 || type == DType::q4_0;
  const bool packs = is_kivi(type) || (quantized && type != floats.fresh && floats.sinks + floats.recent > 0);
  return {packs, packs ? floats.sinks : 0, floats.recent, 32};
}
inline DType open_type(const CacheShape& shape, Side side) {
  return split_of(shape, side).packs ? shape.in_float.fresh : type_of(shape, side);
}

// Rows as they read back once stored in one page; a kivi key group needs all 32.
inline std::vector<float> round_trip(Side side, DType type, int head_size, const float* x, int n) {
  std::vector<uint64_t> page(backend().page_bytes(side, type, head_size) / 8);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(page.data());
  const size_t width = static_cast<size_t>(head_size);
  Team alone(1);
  if (is_kivi(type) && side == Side::keys) {
    backend().store_kivi_keys(type, head_size, x, width, bytes, alone);
  } else {
    const tokensieve::kernels::StoreJob job{side, type, x, width, n, bytes, 0};
    backend().store_rows(head_size, &job, 1, alone);
  }
  std::vector<float> y(static_cast<size_t>(n) * width);
  backend().load_rows(side, head_size, {bytes, 0, static_cast<int16_t>(n), type}, y.data(), width, alone);
  return y;
}

struct Row {
  int source;
  float size, mass;
  std::vector<float> key, value;
  std::vector<float>& of(Side side) { return side == Side::keys ? key : value; }
};

// Rows of a side that stay float, that were quantized behind them, and the rest.
struct Counts {
  int sinks = 0, packed = 0;

  void erase(int index) {
    if (index < sinks) {
      sinks--;
    } else if (index < sinks + packed) {
      packed--;
    }
  }
  template <class Below>
  void keep(Below below) {  // below(n): rows that stay of the first n
    const int first = below(sinks);
    packed = below(sinks + packed) - first;
    sinks = first;
  }
};

struct ModelHead {
  std::vector<Row> rows;
  Counts keys, values;
  std::vector<float> low, high;  // of each key channel, over all rows since the last look
  Counts& of(Side side) { return side == Side::keys ? keys : values; }

  void widen(const Row& row) {
    low.resize(row.key.size(), 0), high.resize(row.key.size(), 0);
    for (size_t c = 0; c < low.size(); c++)
      low[c] = std::min(low[c], row.key[c]), high[c] = std::max(high[c], row.key[c]);
  }
  void erase(int index) {
    rows.erase(rows.begin() + index);
    keys.erase(index);
    values.erase(index);
  }
  void keep(const std::vector<int32_t>& index) {
    std::vector<Row> next;
    for (int32_t i : index) next.push_back(rows[static_cast<size_t>(i)]);
    auto below = [&](int n) {
      return static_cast<int>(std::lower_bound(index.begin(), index.end(), n) - index.begin());
    };
    keys.keep(below);
    values.keep(below);
    rows.swap(next);
  }
  void truncate(int tokens) {
    while (!rows.empty() && rows.back().source >= tokens) rows.pop_back();
    const auto below = [&](int n) { return std::min(n, static_cast<int>(rows.size())); };
    keys.keep(below);
    values.keep(below);
  }
  bool takes_sink(const CacheShape& shape, Side side) {  // what comes when nothing stands behind the sinks
    const int sinks = of(side).sinks;
    return static_cast<int>(rows.size()) == sinks && sinks < split_of(shape, side).sinks;
  }
  DType type_of_next(const CacheShape& shape, Side side) {
    return takes_sink(shape, side) ? DType::f16 : open_type(shape, side);
  }
  void append(const CacheShape& shape, const Row& row) {
    for (Side side : {Side::keys, Side::values}) of(side).sinks += takes_sink(shape, side);
    rows.push_back(row);
    widen(row);
  }
  void settle(const CacheShape& shape) {
    for (Side side : {Side::keys, Side::values}) {
      const Split split = split_of(shape, side);
      Counts& counts = of(side);
      const int open = static_cast<int>(rows.size()) - counts.sinks - counts.packed;
      if (!split.packs || open <= split.recent) continue;
      int lead = counts.packed == 0 && split.grain == 32 ? counts.sinks % 32 : 0;  // the first group is so much smaller
      const int end = counts.sinks + counts.packed + (open - split.recent + lead) / split.grain * split.grain - lead;
      while (counts.sinks + counts.packed < end) {
        const int n = is_kivi(type_of(shape, side)) && side == Side::keys ? kPageRows - lead : 1;
        quantize(side, type_of(shape, side), counts.sinks + counts.packed, n);
        counts.packed += n;
        lead = 0;
      }
    }
  }
  void quantize(Side side, DType type, int first, int n) {
    std::vector<float> x;
    for (int i = first; i < first + n; i++) {
      const std::vector<float>& row = rows[static_cast<size_t>(i)].of(side);
      x.insert(x.end(), row.begin(), row.end());
    }
    const int width = static_cast<int>(x.size()) / n;
    while (n > 1 && x.size() < static_cast<size_t>(kPageRows * width))
      x.push_back(x[x.size() - static_cast<size_t>(width)]);
    const std::vector<float> y = round_trip(side, type, width, x.data(), n);
    for (int i = 0; i < n; i++)
      rows[static_cast<size_t>(first + i)].of(side).assign(y.begin() + i * width, y.begin() + (i + 1) * width);
  }
};

// A cache and its model, changed together. Each head gets other numbers.
struct Pair {
  CacheShape shape;
  std::unique_ptr<KvCache> cache;
  std::vector<ModelHead> model;
  int tokens = 0;

  explicit Pair(const CacheShape& s)
      : shape(s), cache(std::make_unique<KvCache>(s, backend())), model(static_cast<size_t>(s.layers * s.kv_heads)) {}
  ModelHead& at(int layer, int head) { return model[static_cast<size_t>(layer * shape.kv_heads + head)]; }
  Pair fork() const {
    Pair twin(shape);
    twin.cache = cache->clone();
    twin.model = model;
    twin.tokens = tokens;
    return twin;
  }

  void append(int n, check::Random& random, bool sized = false, bool settle = true) {
    Team team(2);
    const size_t heads = static_cast<size_t>(shape.kv_heads), width = static_cast<size_t>(shape.head_size),
                 ld = heads * width + 3;
    std::vector<int32_t> source;
    std::vector<float> size;
    for (int i = 0; i < n; i++)
      source.push_back(tokens++), size.push_back(sized ? static_cast<float>(1 + random.below(3)) : 1.f);
    for (int l = 0; l < shape.layers; l++) {
      if (!cache->holds(l)) continue;
      const std::vector<float> k = random.normals(static_cast<size_t>(n) * ld),
                               v = random.normals(static_cast<size_t>(n) * ld);
      cache->reserve(l, n, sized);
      cache->append(backend(), l, k.data(), ld, v.data(), ld, n, source.data(), sized ? size.data() : nullptr, team);
      for (int h = 0; h < shape.kv_heads; h++) {
        for (int i = 0; i < n; i++) {
          const size_t from = static_cast<size_t>(i) * ld + static_cast<size_t>(h) * width;
          ModelHead& m = at(l, h);
          const auto stored = [&](Side side, const float* x) {
            return round_trip(side, m.type_of_next(shape, side), shape.head_size, x, 1);
          };
          m.append(shape, {source[static_cast<size_t>(i)], size[static_cast<size_t>(i)], 0,
                           stored(Side::keys, &k[from]), stored(Side::values, &v[from])});
        }
      }
    }
    if (settle) this->settle();
  }
  void settle() {
    for (int l = 0; l < shape.layers; l++) {
      cache->settle(l);
      for (int h = 0; h < shape.kv_heads; h++) at(l, h).settle(shape);
    }
  }
  void remove(int layer, int head, int index) {
    cache->remove_row(layer, head, index);
    at(layer, head).erase(index);
  }
  void keep(int layer, int head, const std::vector<int32_t>& index) {
    cache->keep_rows(layer, head, index.data(), static_cast<int>(index.size()));
    at(layer, head).keep(index);
  }
  void truncate(int to) {
    tokens = std::min(tokens, to);
    cache->truncate(to);
    for (ModelHead& head : model) head.truncate(to);
  }

  void check_tables(int layer, int head) {
    ModelHead& m = at(layer, head);
    const tokensieve::HeadRows& table = cache->head(layer, head);
    CHECK_EQ(static_cast<size_t>(cache->rows(layer, head)), m.rows.size());
    if (!CHECK(table.source.size() == m.rows.size())) return;
    CHECK(table.size.empty() || table.size.size() == m.rows.size());
    bool same = true;
    for (size_t i = 0; i < m.rows.size(); i++) {
      same =
          same && table.source[i] == m.rows[i].source && (table.size.empty() ? 1.f : table.size[i]) == m.rows[i].size;
      same = same && (table.mass.empty() ? 0.f : table.mass[i]) == m.rows[i].mass;
    }
    CHECK(same);
    for (Side side : {Side::keys, Side::values}) {
      CHECK_EQ(cache->packed_rows(side, layer, head), m.of(side).packed);
      CHECK_EQ(cache->sink_rows(side, layer, head), m.of(side).sinks);
    }
  }

  // 16 keys are half of a page, values lie row by row.
  int sink_page_rows(Side side) const {
    const int sinks = shape.in_float.sinks;
    if (sinks > kPageRows / 2) return kPageRows;
    return side == Side::keys ? kPageRows / 2 : sinks;
  }

  // Pieces: sinks, quantized rows, open ones; within their pages, none empty; as many rows as there are.
  void check_pieces(Side side, int layer, int head) {
    const tokensieve::Pieces pieces = cache->pieces(side, layer, head);
    const Counts& counts = at(layer, head).of(side);
    const int behind = counts.sinks + counts.packed;
    int rows = 0;
    bool fine = true;
    for (int i = 0; i < pieces.count; i++) {
      const Piece& p = pieces.data[i];
      fine = fine && p.count > 0 && p.first >= 0 && p.first + p.count <= kPageRows &&
             reinterpret_cast<uintptr_t>(p.page) % 64 == 0;
      const int end = rows + p.count;
      if (end <= counts.sinks) fine = fine && p.type == DType::f16 && p.first + p.count <= sink_page_rows(side);
      const bool packed = rows >= counts.sinks && end <= behind;
      fine = fine && (packed || end <= counts.sinks || rows >= behind);
      if (end > counts.sinks) fine = fine && p.type == (packed ? type_of(shape, side) : open_type(shape, side));
      rows = end;
    }
    CHECK(fine);
    CHECK_EQ(rows, cache->rows(layer, head));
  }

  // Values bit for bit; packed kivi keys may have been quantized again: half a step (range / levels) of any group of
  // these rows then, and the model takes them over.
  void check_values(Side side, int layer, int head) {
    ModelHead& m = at(layer, head);
    const size_t width = static_cast<size_t>(shape.head_size);
    std::vector<float> got(m.rows.size() * width);
    cache->read(side, layer, head, got.data());
    const bool groups = is_kivi(shape.keys) && side == Side::keys;
    const float levels = shape.keys == DType::kivi2 ? 3 : 15;
    bool same = true;
    for (size_t i = 0; i < m.rows.size(); i++) {
      for (size_t c = 0; c < width; c++) {
        float& want = m.rows[i].of(side)[c];
        const float value = got[i * width + c];
        const int row = static_cast<int>(i) - m.keys.sinks;
        const bool again = groups && row >= 0 && row < m.keys.packed;
        same = same && (value == want ||
                        (again && std::fabs(value - want) <= slack * (m.high[c] - m.low[c]) * (0.5f / levels + 2e-3f)));
        want = value;
      }
    }
    CHECK(same);
    if (side == Side::values) m.low.clear(), m.high.clear();
    for (const Row& row : m.rows) m.widen(row);
  }
  float slack = 1;  // re-quantizations between two looks

  void check(bool values) {
    for (int l = 0; l < shape.layers; l++) {
      for (int h = 0; h < shape.kv_heads; h++) {
        check_tables(l, h);
        for (Side side : {Side::keys, Side::values}) {
          check_pieces(side, l, h);
          if (values) check_values(side, l, h);
        }
      }
    }
  }

  // Bytes of the distinct pages in the pieces, added to `pages` too.
  size_t page_bytes(std::set<const uint8_t*>* pages, size_t* all) const {
    std::set<const uint8_t*> own;
    size_t sum = 0;
    for (int l = 0; l < shape.layers; l++) {
      for (int h = 0; h < shape.kv_heads; h++) {
        for (Side side : {Side::keys, Side::values}) {
          const tokensieve::Pieces pieces = cache->pieces(side, l, h);
          int left = cache->sink_rows(side, l, h);
          for (int i = 0; i < pieces.count; left -= pieces.data[i++].count) {
            const size_t page = backend().page_bytes(side, pieces.data[i].type, shape.head_size),
                         bytes = left > 0 ? page * static_cast<size_t>(sink_page_rows(side)) / kPageRows : page;
            if (own.insert(pieces.data[i].page).second) sum += bytes;
            if (pages && pages->insert(pieces.data[i].page).second) *all += bytes;
          }
        }
      }
    }
    return sum;
  }
};

inline CacheShape shape_of(DType keys, DType values, int layers = 2, int kv_heads = 2, int head_size = 32,
                           int residual = 64) {
  CacheShape shape;
  shape.layers = layers;
  shape.kv_heads = kv_heads;
  shape.head_size = head_size;
  shape.keys = keys;
  shape.values = values;
  shape.in_float.residual = residual;
  return shape;
}

inline std::vector<int32_t> some_of(int rows, double share, check::Random& random) {
  std::vector<int32_t> index;
  for (int i = 0; i < rows; i++) {
    if (random.uniform() < share) index.push_back(i);
  }
  return index;
}

}  // namespace kv
