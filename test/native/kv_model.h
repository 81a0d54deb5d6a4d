// A KV cache as plain vectors of rows: what the paged one is held against. Values are what a stored row reads back as,
// taken from a page of its own; of kivi only what the card says is predicted here (which rows are quantized, groups of
// new keys), a group that was quantized again is checked by its bound and then believed.
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
inline DType open_type(DType type) { return is_kivi(type) ? DType::f16 : type; }

// Rows as they read back once stored in one page; a kivi key group needs all 32.
inline std::vector<float> round_trip(Side side, DType type, int head_size, const float* x, int n) {
  std::vector<uint64_t> page(backend().page_bytes(side, type, head_size) / 8);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(page.data());
  const size_t width = static_cast<size_t>(head_size);
  if (is_kivi(type) && side == Side::keys) {
    backend().store_kivi_keys(type, head_size, x, width, bytes);
  } else {
    backend().store_rows(side, type, head_size, x, width, n, bytes, 0);
  }
  std::vector<float> y(static_cast<size_t>(n) * width);
  backend().load_rows(side, head_size, {bytes, 0, static_cast<int16_t>(n), type}, y.data(), width);
  return y;
}

struct Row {
  int source;
  float size, mass;
  std::vector<float> key, value;
  std::vector<float>& of(Side side) { return side == Side::keys ? key : value; }
};

struct ModelHead {
  std::vector<Row> rows;
  int packed_keys = 0, packed_values = 0;
  std::vector<float> low, high;  // of each key channel, over all rows since the last look
  int& packed(Side side) { return side == Side::keys ? packed_keys : packed_values; }

  void widen(const Row& row) {
    low.resize(row.key.size(), 0), high.resize(row.key.size(), 0);
    for (size_t c = 0; c < low.size(); c++)
      low[c] = std::min(low[c], row.key[c]), high[c] = std::max(high[c], row.key[c]);
  }
  void erase(int index) {
    rows.erase(rows.begin() + index);
    packed_keys -= index < packed_keys;
    packed_values -= index < packed_values;
  }
  void keep(const std::vector<int32_t>& index) {
    std::vector<Row> next;
    for (int32_t i : index) next.push_back(rows[static_cast<size_t>(i)]);
    auto below = [&](int n) {
      return static_cast<int>(std::lower_bound(index.begin(), index.end(), n) - index.begin());
    };
    packed_keys = below(packed_keys);
    packed_values = below(packed_values);
    rows.swap(next);
  }
  void truncate(int tokens) {
    while (!rows.empty() && rows.back().source >= tokens) rows.pop_back();
    packed_keys = std::min(packed_keys, static_cast<int>(rows.size()));
    packed_values = std::min(packed_values, static_cast<int>(rows.size()));
  }
  void settle(const CacheShape& shape) {
    const int width = shape.head_size;
    if (is_kivi(shape.keys)) {
      const int open = static_cast<int>(rows.size()) - packed_keys;
      for (int end = packed_keys + open / shape.residual * shape.residual; packed_keys < end;
           packed_keys += kPageRows) {
        std::vector<float> group;
        for (int i = 0; i < kPageRows; i++)
          group.insert(group.end(), rows[static_cast<size_t>(packed_keys + i)].key.begin(),
                       rows[static_cast<size_t>(packed_keys + i)].key.end());
        const std::vector<float> back = round_trip(Side::keys, shape.keys, width, group.data(), kPageRows);
        for (int i = 0; i < kPageRows; i++)
          rows[static_cast<size_t>(packed_keys + i)].key.assign(back.begin() + i * width,
                                                                back.begin() + (i + 1) * width);
      }
    }
    for (; is_kivi(shape.values) && static_cast<int>(rows.size()) - packed_values > shape.residual; packed_values++) {
      std::vector<float>& value = rows[static_cast<size_t>(packed_values)].value;
      value = round_trip(Side::values, shape.values, width, value.data(), 1);
    }
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
      cache->append(l, k.data(), ld, v.data(), ld, n, source.data(), sized ? size.data() : nullptr, team);
      for (int h = 0; h < shape.kv_heads; h++) {
        for (int i = 0; i < n; i++) {
          const size_t from = static_cast<size_t>(i) * ld + static_cast<size_t>(h) * width;
          at(l, h).rows.push_back({source[static_cast<size_t>(i)], size[static_cast<size_t>(i)], 0,
                                   round_trip(Side::keys, open_type(shape.keys), shape.head_size, &k[from], 1),
                                   round_trip(Side::values, open_type(shape.values), shape.head_size, &v[from], 1)});
          at(l, h).widen(at(l, h).rows.back());
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
    for (Side side : {Side::keys, Side::values}) CHECK_EQ(cache->packed_rows(side, layer, head), m.packed(side));
  }

  // Pieces: in order of type, within their pages, none empty; as many rows as there are.
  void check_pieces(Side side, int layer, int head) {
    const tokensieve::Pieces pieces = cache->pieces(side, layer, head);
    int rows = 0, packed = 0;
    bool fine = true;
    for (int i = 0; i < pieces.count; i++) {
      const Piece& p = pieces.data[i];
      fine = fine && p.count > 0 && p.first >= 0 && p.first + p.count <= kPageRows &&
             reinterpret_cast<uintptr_t>(p.page) % 64 == 0;
      rows += p.count;
      if (is_kivi(p.type)) packed = rows;
      fine = fine && (p.type == (side == Side::keys ? shape.keys : shape.values) || p.type == DType::f16);
    }
    CHECK(fine);
    CHECK_EQ(rows, cache->rows(layer, head));
    CHECK_EQ(packed, cache->packed_rows(side, layer, head));
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
        const bool again = groups && static_cast<int>(i) < m.packed_keys;
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
          for (int i = 0; i < pieces.count; i++) {
            const size_t bytes = backend().page_bytes(side, pieces.data[i].type, shape.head_size);
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
  shape.residual = residual;
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
