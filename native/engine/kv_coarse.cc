// Rows that move to the coarse part of their chains, and heads whose rows do not lie in the order of their tokens for it.
#include <algorithm>
#include <limits>
#include <new>
#include <numeric>

#include "core/error.h"
#include "engine/kv_cache.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Piece;
using kernels::Side;

// ---- a side -----------------------------------------------------------------------------------------------------

// Pages at the front all of whose rows stay at the front, and so many that their group keeps its scales.
int KvSide::share_coarse(const std::vector<int32_t>& coarse, KvSide* next) const {
  const size_t end = this->end(Part::coarse);
  int row = 0;
  for (size_t from = 0; from < end;) {
    size_t to = from;
    int rows = 0;
    for (; to < end && pieces_[to].page == pieces_[from].page; to++) rows += pieces_[to].count;
    const int last = row + rows - 1;
    if (rows <= kSparseRows || last >= static_cast<int>(coarse.size()) || coarse[static_cast<size_t>(last)] != last)
      break;
    for (; from < to; from++) next->share(Part::coarse, pieces_[from]);
    row += rows;
  }
  next->count(Part::coarse) = row;
  return row;
}

KvSide KvSide::coarsened(const std::vector<int32_t>& coarse, const std::vector<int32_t>& others, PageWork& work) const {
  KvSide next(*format_);
  work.before_reading(mark_);
  PageWork::Making making{work};
  std::vector<int32_t> all(static_cast<size_t>(rows()));
  std::iota(all.begin(), all.end(), 0);
  std::vector<PageWork::Place> at(all.size());
  places(all.data(), rows(), at.data());
  const int n = static_cast<int>(coarse.size());
  for (int begin = share_coarse(coarse, &next); begin < n; begin += kPageRows) {
    const int count = std::min(kPageRows, n - begin);
    work.apart(&next.mark_);
    work.hold(kPageRows + 1);
    for (int i = 0; i < count; i++)
      work.load(format_->side, at[static_cast<size_t>(coarse[static_cast<size_t>(begin + i)])], i, 1);
    uint8_t* const page = next.add_page(Part::coarse, 0, count, work);
    if (format_->groups(Part::coarse)) {
      work.group(0, count, {page, kCoarse, 0});
    } else {
      work.store(format_->side, 0, {page, kCoarse, 0}, count);
    }
  }
  next.close(Part::coarse);
  keep_parts(Part::sinks, rows(Part::coarse), others.data(), static_cast<int>(others.size()), work, &next);
  making.made = true;
  return next;
}

void KvSide::truncate(int coarse, int others) noexcept {
  int over = rows() - rows(Part::coarse) - others;
  for (Part part : {Part::open, Part::packed, Part::sinks}) {
    const int n = std::max(0, std::min(over, rows(part)));
    cut(part, n);
    over -= n;
  }
  cut(Part::coarse, rows(Part::coarse) - coarse);
}

// The last n rows of a part go.
void KvSide::cut(Part part, int n) noexcept {
  while (n > 0) {
    const size_t at = end(part) - 1;
    Piece& last = pieces_[at];
    const int take = std::min<int>(n, last.count);
    count(part) -= take;
    n -= take;
    last.count = static_cast<int16_t>(last.count - take);
    if (last.count == 0) release_page(unlink(at));
  }
}

// ---- a head -----------------------------------------------------------------------------------------------------

std::vector<int32_t> HeadRows::all() const {
  if (coarse.empty()) return source.all();
  std::vector<int32_t> sources = coarse.all();
  const std::vector<int32_t> others = source.all();
  sources.insert(sources.end(), others.begin(), others.end());
  return sources;
}

std::vector<int32_t> HeadRows::order() const {
  if (coarse.empty()) return {};
  const std::vector<int32_t> sources = all();
  std::vector<int32_t> order(sources.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return sources[static_cast<size_t>(a)] < sources[static_cast<size_t>(b)]; });
  return order;
}

namespace {

template <class Values>
void reorder(Values& values, const std::vector<int32_t>& coarse, const std::vector<int32_t>& others) {
  if (values.empty()) return;
  Values next(values.get_allocator());
  next.reserve(values.size());
  for (const std::vector<int32_t>* rows : {&coarse, &others}) {
    for (int32_t row : *rows) next.push_back(values[static_cast<size_t>(row)]);
  }
  values.swap(next);
}

// Rows as they lie -> those that are coarse with the tokens `sources` (ascending) and the others, each by token; false
// where no row changes.
bool divide(const std::vector<int32_t>& sources, HeadRows* table, std::vector<int32_t>* coarse,
            std::vector<int32_t>* others) {
  const std::vector<int32_t> before = table->coarse.all(), held = table->source.all();
  std::vector<int32_t> are, stay;
  size_t b = 0;
  const auto take_before = [&](int32_t source) {
    for (; b < before.size() && before[b] < source; b++)
      are.push_back(before[b]), coarse->push_back(static_cast<int32_t>(b));
  };
  for (size_t i = 0; i < held.size(); i++) {
    const int32_t row = static_cast<int32_t>(before.size() + i);
    if (!std::binary_search(sources.begin(), sources.end(), held[i])) {
      stay.push_back(held[i]), others->push_back(row);
      continue;
    }
    take_before(held[i]);
    are.push_back(held[i]), coarse->push_back(row);
  }
  if (stay.size() == held.size()) return false;
  take_before(std::numeric_limits<int32_t>::max());
  table->coarse.assign(are);
  table->source.assign(stay);
  return true;
}

}  // namespace

void KvCache::coarsen(int layer, int head, const std::vector<int32_t>& sources, PageWork* batch) {
  const size_t i = at(layer, head);
  Head& h = heads_[i];
  if (shape_.head_size % 32 != 0)
    throw Error(Code::unsupported, "[kv_cache] expected a head size that is a multiple of 32 for coarse rows, got " +
                                       std::to_string(shape_.head_size));
  Work work(*this, layer, batch);
  try {
    HeadRows table = h.table;
    std::vector<int32_t> coarse, others;
    if (!divide(sources, &table, &coarse, &others)) return;
    reorder(table.size, coarse, others);
    reorder(table.mass, coarse, others);
    KvSide keys = h.keys.coarsened(coarse, others, *work), values = h.values.coarsened(coarse, others, *work);
    h.become(table, keys, values, *work);
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[kv_cache] expected memory for rows that become coarse, the system gave none");
  }
  publish(i);
}

int KvCache::coarse_rows(int layer, int head) const noexcept {
  return static_cast<int>(heads_[at(layer, head)].table.coarse.size());
}

}  // namespace tokensieve
