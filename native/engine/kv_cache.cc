#include "engine/kv_cache.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "core/error.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Side;

namespace {

constexpr int kStoreJobs = 128;  // pages that one call fills

[[noreturn]] void no_memory(const char* what) {
  throw Error(Code::out_of_memory, std::string("[kv_cache] expected memory for ") + what + ", the system gave none");
}

// Grows by a 32nd at least, so that a token at a time costs no copy each.
template <class Values>
void grow(Values& values, size_t need) {
  if (need > values.capacity()) values.reserve(std::max(need, values.size() + values.size() / 32 + 4));
}

template <class Values>
void gather(const Values& from, const int32_t* index, int n, Values* to) {
  if (from.empty()) return;
  to->reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; i++) to->push_back(from[static_cast<size_t>(index[i])]);
}

template <class Values>
void erase(Values& values, int index, int n) noexcept {
  if (values.empty()) return;
  values.erase(values.begin() + index, values.begin() + index + n);
}

template <class Values>
void cut(Values& values, size_t rows) noexcept {
  if (values.size() > rows) values.erase(values.begin() + static_cast<ptrdiff_t>(rows), values.end());
}

size_t table_bytes(const HeadRows& table) {
  return table.coarse.bytes() + table.source.bytes() + (table.size.capacity() + table.mass.capacity()) * sizeof(float);
}

template <class Values>
void shrink(Values& values) {
  if (values.capacity() > values.size() + values.size() / 2 + 8) values.shrink_to_fit();
}

// What of it the rows `index` do not hold.
double mass_beside(const HeadRows& table, const int32_t* index, int n) {
  double gone = 0;
  for (size_t row = 0, k = 0; row < table.mass.size(); row++) {
    const bool stays = k < static_cast<size_t>(n) && static_cast<size_t>(index[k]) == row;
    k += stays;
    if (!stays) gone += static_cast<double>(table.mass[row]);
  }
  return gone;
}

void check(const FloatRows& floats) {
  if (floats.residual < 0 || floats.residual % kPageRows != 0) {
    throw Error(Code::internal, "[kv_cache] expected a residual of a multiple of " + std::to_string(kPageRows) +
                                    " rows, got " + std::to_string(floats.residual));
  }
  if (floats.fresh != DType::f16 && floats.fresh != DType::q8_0)
    throw Error(Code::internal, "[kv_cache] expected new rows in f16 or q8_0");
  if (floats.sinks < 0 || floats.recent < 0) {
    throw Error(Code::internal, "[kv_cache] expected 0 or more rows in float, got " + std::to_string(floats.sinks) +
                                    " sinks and " + std::to_string(floats.recent) + " recent ones");
  }
}

}  // namespace

KvCache::KvCache(const CacheShape& shape, const kernels::Backend& host, const std::vector<Placement>* stages)
    : shape_(shape) {
  try {
    stages_ = stages ? *stages : std::vector<Placement>{{0, shape.layers, {&host, nullptr}}};
    make_heads(host);
    for (const Placement& stage : stages_) pages_.push_back(PageAllocator::open(stage.device.memory()));
    counts_ = std::make_unique<Counts[]>(heads_.size());
  } catch (const std::bad_alloc&) {
    no_memory("the tables of a cache");
  }
}

void KvCache::make_heads(const kernels::Backend& host) {
  const size_t count = static_cast<size_t>(shape_.layers) * static_cast<size_t>(shape_.kv_heads);
  std::vector<HeadFormat> kinds;
  std::vector<size_t> kind_of(count);
  for (size_t i = 0; i < count; i++) {
    const HeadFormat& format = shape_.format(i);
    kind_of[i] = static_cast<size_t>(std::find(kinds.begin(), kinds.end(), format) - kinds.begin());
    if (kind_of[i] < kinds.size()) continue;
    check(format.in_float);
    kinds.push_back(format);
  }
  auto formats = std::make_shared<Formats>();
  for (const HeadFormat& kind : kinds) {
    formats->keys.push_back(side_format(Side::keys, kind.keys, shape_.head_size, kind.in_float, host));
    formats->values.push_back(side_format(Side::values, kind.values, shape_.head_size, kind.in_float, host));
  }
  heads_.reserve(count);
  for (size_t kind : kind_of) heads_.emplace_back(formats->keys[kind], formats->values[kind]);
  formats_ = std::move(formats);
}

KvCache::~KvCache() = default;

void KvCache::publish(size_t head) noexcept {
  const Head& h = heads_[head];
  counts_[head].rows.store(h.keys.rows(), std::memory_order_relaxed);
  counts_[head].bytes.store(h.keys.bytes() + h.values.bytes() + table_bytes(h.table), std::memory_order_relaxed);
  if (stored_.empty()) return;
  const Head& s = stored_[head];
  counts_[head].stored.store(s.keys.bytes() + s.values.bytes() + table_bytes(s.table), std::memory_order_relaxed);
}

// ---- growing ----------------------------------------------------------------------------------------------------

void KvCache::reserve_head(Head& head, int n, bool sized, size_t runs, PageWork& work) {
  const size_t need = head.table.rows() + static_cast<size_t>(n);
  head.table.source.reserve(std::min(runs, static_cast<size_t>(n)));
  if (sized || !head.table.size.empty()) grow(head.table.size, need);
  if (!head.table.mass.empty()) grow(head.table.mass, need);
  head.keys.reserve(n, work);
  head.values.reserve(n, work);
}

void KvCache::reserve(int layer, int n, bool sized, size_t runs) {
  if (n <= 0 || !holds(layer)) return;
  const size_t first = at(layer, 0), end = at(layer + 1, 0);
  Work work(*this, layer);
  auto give_up = [&] {
    for (size_t i = first; i < end; i++) heads_[i].keys.drop_spares(), heads_[i].values.drop_spares(), publish(i);
  };
  try {
    for (size_t i = first; i < end; i++) reserve_head(heads_[i], n, sized, runs, *work), publish(i);
  } catch (const std::bad_alloc&) {
    give_up();
    no_memory("the rows of a cache");
  } catch (...) {
    give_up();
    throw;
  }
}

void KvCache::append_table(HeadRows& table, int n, const int32_t* source, const float* size) noexcept {
  const size_t before = table.rows();
  table.source.append(source, n);
  const bool sized = size && std::any_of(size, size + n, [](float s) { return s != 1; });
  if (sized || !table.size.empty()) {
    table.size.resize(before, 1.f);
    if (size) {
      table.size.insert(table.size.end(), size, size + n);
    } else {
      table.size.resize(before + static_cast<size_t>(n), 1.f);
    }
  }
  if (!table.mass.empty()) table.mass.resize(before + static_cast<size_t>(n), 0.f);
}

void KvCache::append(const kernels::Backend& backend, int layer, const float* k, size_t ldk, const float* v, size_t ldv,
                     int n, const int32_t* source, const float* size, Team& team) noexcept {
  if (n <= 0 || !holds(layer)) return;
  const size_t first = at(layer, 0);
  Work work(*this, layer);
  for (int h = 0; h < shape_.kv_heads; h++) {
    Head& head = heads_[first + static_cast<size_t>(h)];
    append_table(head.table, n, source, size);
    head.keys.extend(n, *work);
    head.values.extend(n, *work);
    publish(first + static_cast<size_t>(h));
  }
  (*work).flush();
  kernels::StoreJob jobs[kStoreJobs];
  int count = 0;
  const auto store = [&] { backend.store_rows(shape_.head_size, jobs, count, team), count = 0; };
  const auto add = [&](const kernels::StoreJob& job) {
    if (count == kStoreJobs) store();
    jobs[count++] = job;
  };
  for (int h = 0; h < shape_.kv_heads; h++) {
    const Head& head = heads_[first + static_cast<size_t>(h)];
    const size_t offset = static_cast<size_t>(h) * static_cast<size_t>(shape_.head_size);
    head.keys.fill(k + offset, ldk, n, add);
    if (v) head.values.fill(v + offset, ldv, n, add);
  }
  store();
}

void KvCache::settle(int layer, PageWork* batch) noexcept {
  Work work(*this, layer, batch);
  try {
    for (size_t i = at(layer, 0); i < at(layer + 1, 0); i++) {
      for (KvSide* side : {&heads_[i].keys, &heads_[i].values}) {
        if (!side->due()) continue;
        side->reserve(0, *work);
        side->settle(*work);
        publish(i);
      }
    }
  } catch (const std::exception&) {  // no memory: rows stay in float until the next call
  }
}

// ---- shrinking ----------------------------------------------------------------------------------------------------

void KvCache::keep_rows(int layer, int head, const int32_t* index, int n, PageWork* batch) {
  const size_t i = at(layer, head);
  Head& h = heads_[i];
  const int rows = h.keys.rows();
  for (int k = 0; k < n; k++) {
    if (index[k] < 0 || index[k] >= rows || (k > 0 && index[k] <= index[k - 1])) {
      throw Error(Code::internal, "[kv_cache] expected ascending rows below " + std::to_string(rows) + ", got " +
                                      std::to_string(index[k]));
    }
  }
  if (n == rows) return;
  Work work(*this, layer, batch);
  try {
    HeadRows table;
    const int coarse = static_cast<int>(h.table.coarse.size());
    const int first = static_cast<int>(std::lower_bound(index, index + n, coarse) - index);
    std::vector<int32_t> others(index + first, index + n);
    for (int32_t& row : others) row -= coarse;
    if (coarse > 0) table.coarse.assign(h.table.coarse.some(index, first));
    table.source.assign(h.table.source.some(others.data(), n - first));
    gather(h.table.size, index, n, &table.size);
    gather(h.table.mass, index, n, &table.mass);
    table.dropped = h.table.dropped + mass_beside(h.table, index, n);
    KvSide keys = h.keys.kept(index, n, *work), values = h.values.kept(index, n, *work);
    h.become(table, keys, values, *work);
  } catch (const std::bad_alloc&) {
    no_memory("the rows that stay after an eviction");
  }
  publish(i);
}

bool KvCache::remove_row(int layer, int head, int index, PageWork* batch) noexcept {
  const size_t i = at(layer, head);
  Head& h = heads_[i];
  const int coarse = static_cast<int>(h.table.coarse.size());
  if (index < 0 || index >= h.keys.rows()) return false;
  if (!(index < coarse ? h.table.coarse.remove(index) : h.table.source.remove(index - coarse))) return false;
  if (!h.table.mass.empty()) h.table.dropped += static_cast<double>(h.table.mass[static_cast<size_t>(index)]);
  erase(h.table.size, index, 1);
  erase(h.table.mass, index, 1);
  Work work(*this, layer, batch);
  h.keys.remove(index, *work);
  h.values.remove(index, *work);
  publish(i);
  return true;
}

void KvCache::remove_first(int layer, int head, int n, PageWork* batch) noexcept {
  const size_t i = at(layer, head);
  Head& h = heads_[i];
  n = std::min(n, h.keys.rows());
  if (n <= 0) return;
  h.table.source.remove_first(n);
  erase(h.table.size, 0, n);
  erase(h.table.mass, 0, n);
  Work work(*this, layer, batch);
  h.keys.remove_first(n, *work);
  h.values.remove_first(n, *work);
  publish(i);
}

void KvCache::cut_head(Head& head, int tokens) noexcept {
  HeadRows& table = head.table;
  const int coarse = table.coarse.up_to(tokens - 1), others = table.source.up_to(tokens - 1);
  const size_t held = table.coarse.size(), rows = held + static_cast<size_t>(others);
  if (static_cast<size_t>(coarse) == held && rows == table.rows()) return;
  cut(table.size, rows);
  cut(table.mass, rows);
  erase(table.size, coarse, static_cast<int>(held) - coarse);
  erase(table.mass, coarse, static_cast<int>(held) - coarse);
  table.coarse.cut(static_cast<size_t>(coarse));
  table.source.cut(static_cast<size_t>(others));
  head.keys.truncate(coarse, others);
  head.values.truncate(coarse, others);
}

void KvCache::truncate(int tokens) noexcept {
  for (Head& head : stored_) cut_head(head, tokens);
  for (size_t i = 0; i < heads_.size(); i++) cut_head(heads_[i], tokens), publish(i);
}

void KvCache::give_back() noexcept {
  for (size_t i = 0; i < heads_.size(); i++) {
    Head& h = heads_[i];
    try {
      h.keys.shrink();
      h.values.shrink();
      h.table.coarse.shrink();
      h.table.source.shrink();
      shrink(h.table.size);
      shrink(h.table.mass);
    } catch (const std::bad_alloc&) {  // the tables stay as long as they were
    }
    publish(i);
  }
  for (const PageAllocator::Handle& pages : pages_) pages->give_back();
}

// ---- reading ----------------------------------------------------------------------------------------------------

Pieces KvCache::pieces(Side side, int layer, int head) const noexcept {
  const std::vector<kernels::Piece>& pieces = heads_[at(layer, head)].side(side).pieces();
  return {pieces.data(), static_cast<int>(pieces.size())};
}

void KvCache::view(int layer, int head, kernels::View* out) const noexcept {
  const Pieces keys = pieces(Side::keys, layer, head), values = pieces(Side::values, layer, head);
  out->keys = keys.data;
  out->key_pieces = keys.count;
  out->values = values.data;
  out->value_pieces = values.count;
  out->rows = heads_[at(layer, head)].keys.rows();
}

void KvCache::read(Side side, int layer, int head, float* out) const {
  Work work(*this, layer);
  heads_[at(layer, head)].side(side).read(out, *work);
}

int KvCache::packed_rows(Side side, int layer, int head) const noexcept {
  const KvSide& s = heads_[at(layer, head)].side(side);
  return s.format().packs() ? s.rows(Part::packed) : 0;
}

int KvCache::sink_rows(Side side, int layer, int head) const noexcept {
  return heads_[at(layer, head)].side(side).rows(Part::sinks);
}

float* KvCache::mass(int layer, int head) {
  const size_t i = at(layer, head);
  HeadRows& table = heads_[i].table;
  if (table.mass.size() != table.rows()) {
    try {
      table.mass.resize(table.rows(), 0.f);
    } catch (const std::bad_alloc&) {
      no_memory("the attention mass of a cache");
    }
    publish(i);
  }
  return table.mass.data();
}

std::unique_ptr<KvCache> KvCache::clone() const {
  try {
    auto twin = std::make_unique<KvCache>(shape_, *formats_->keys.front().backend, &stages_);
    {
      std::vector<Head> heads(heads_), stored(stored_);
      twin->heads_.swap(heads);
      twin->stored_.swap(stored);
    }  // the twin's first heads end before the formats that they point to
    twin->formats_ = formats_;
    for (size_t i = 0; i < heads_.size(); i++) twin->publish(i);
    return twin;
  } catch (const std::bad_alloc&) {
    no_memory("the tables of a fork");
  }
}

void KvCache::swap(KvCache& other) noexcept {
  formats_.swap(other.formats_);
  heads_.swap(other.heads_);
  stored_.swap(other.stored_);
  for (size_t i = 0; i < heads_.size(); i++) publish(i), other.publish(i);
}

size_t KvCache::layer_bytes(int layer) const noexcept {
  size_t sum = 0;
  for (size_t i = at(layer, 0); i < at(layer + 1, 0); i++) sum += counts_[i].bytes.load(std::memory_order_relaxed);
  return sum;
}

size_t KvCache::bytes() const noexcept {
  size_t sum = 0;
  for (int l = 0; l < shape_.layers; l++) sum += layer_bytes(l);
  return sum + stored_bytes();
}

size_t page_allocator_bytes() noexcept { return page_counts().held; }

}  // namespace tokensieve
