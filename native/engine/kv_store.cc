// Rows that are set aside: in chains of their own, in the cache's type, out of the way of attention, to come back bit for bit.
#include <algorithm>
#include <new>

#include "core/error.h"
#include "engine/kv_cache.h"

namespace tokensieve {

using kernels::Piece;
using kernels::Side;

KvSide KvSide::picked(const KvSide& other, const std::vector<Pick>& picks, PageWork& work) const {
  KvSide next(*format_);
  work.before_reading(mark_);
  work.before_reading(other.mark_);
  PageWork::Making making{work};
  const SideFormat::Page& page = format_->page(Part::open);
  const KvSide* const from[] = {this, &other};
  size_t at[] = {0, 0};
  int begin[] = {0, 0};  // of the piece
  int room = 0;
  for (const Pick& pick : picks) {
    const int s = pick.other;
    const std::vector<Piece>& pieces = from[s]->pieces_;
    for (; pick.row >= begin[s] + pieces[at[s]].count; at[s]++) begin[s] += pieces[at[s]].count;
    if (room == 0) {
      next.make_room(1);
      next.pieces_.push_back({next.new_page(page.bytes, work), 0, 0, page.type});
      work.apart(&next.mark_);
      room = page.rows;
    }
    Piece& open = next.pieces_.back();
    move_rows(pieces[at[s]], pick.row - begin[s], open, open.count, 1, work);
    open.count++;
    room--;
  }
  next.close(Part::open);
  next.count(Part::open) = static_cast<int>(picks.size());
  making.made = true;
  return next;
}

namespace {

using Picks = std::vector<KvSide::Pick>;

// Where these rows are: in the first table or the other one.
Picks located(const std::vector<int32_t>& sources, const HeadRows& here, const HeadRows& there) {
  Picks picks;
  picks.reserve(sources.size());
  for (size_t i = 0; i < sources.size(); i++) {
    const int32_t source = sources[i];
    if (i > 0 && source <= sources[i - 1])
      throw Error(Code::plan, "[plan] expected ascending cache rows, got " + std::to_string(sources[i - 1]) +
                                  " before " + std::to_string(source));
    const int32_t row = here.source.row_of(source), other = row < 0 ? there.source.row_of(source) : -1;
    if (row < 0 && other < 0)
      throw Error(Code::plan, "[plan] expected cache rows that are there or set aside, token " +
                                  std::to_string(source) + " is neither");
    picks.push_back({row < 0, row < 0 ? other : row});
  }
  return picks;
}

template <class Values>
Values take(const Picks& picks, const Values& here, const Values& there, typename Values::value_type missing) {
  Values out(here.get_allocator());
  if (here.empty() && there.empty()) return out;
  out.reserve(picks.size());
  for (const KvSide::Pick& pick : picks) {
    const Values& from = pick.other ? there : here;
    out.push_back(from.empty() ? missing : from[static_cast<size_t>(pick.row)]);
  }
  return out;
}

HeadRows take(const std::vector<int32_t>& sources, const Picks& picks, const HeadRows& here, const HeadRows& there) {
  HeadRows rows;
  rows.source.assign(sources);
  rows.size = take(picks, here.size, there.size, 1.f);
  rows.mass = take(picks, here.mass, there.mass, 0.f);
  return rows;
}

}  // namespace

void KvCache::exchange(int layer, int head, const std::vector<int32_t>& kept, const std::vector<int32_t>& stored,
                       PageWork* batch) {
  const size_t i = at(layer, head);
  const SideFormat &keys = heads_[i].keys.format(), &values = heads_[i].values.format();
  if (keys.packs() || values.packs() || coarse_rows(layer, head) > 0) {
    throw Error(Code::unsupported,
                "[kv_cache] expected a cache whose rows all have one type for rows that are set aside, got one that "
                "keeps some in float");
  }
  Work work(*this, layer, batch);
  try {
    Head &here = heads_[i], &there = stored_[i];
    Head next(keys, values), aside(keys, values);
    for (Head* made : {&next, &aside}) {
      const std::vector<int32_t>& sources = made == &next ? kept : stored;
      const Picks picks = located(sources, here.table, there.table);
      made->table = take(sources, picks, here.table, there.table);
      made->table.dropped = (made == &next ? here : there).table.dropped;
      made->keys = here.keys.picked(there.keys, picks, *work);
      made->values = here.values.picked(there.values, picks, *work);
    }
    std::swap(here, next);
    std::swap(there, aside);
    for (Head* gone : {&next, &aside}) gone->keys.clear(*work), gone->values.clear(*work);
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[kv_cache] expected memory for rows that are set aside, the system gave none");
  }
  publish(i);
}

void KvCache::open_store() {
  if (!stored_.empty()) return;
  try {
    std::vector<Head> stored;
    stored.reserve(heads_.size());
    for (const Head& head : heads_) stored.emplace_back(head.keys.format(), head.values.format());
    stored_.swap(stored);
  } catch (const std::bad_alloc&) {
    throw Error(Code::out_of_memory, "[kv_cache] expected memory for rows that are set aside, the system gave none");
  }
}

const RowSources& KvCache::stored(int layer, int head) const noexcept {
  static const RowSources none;
  return stored_.empty() ? none : stored_[at(layer, head)].table.source;
}

void KvCache::read_stored(Side side, int layer, int head, float* out) const {
  if (stored_.empty()) return;
  Work work(*this, layer);
  stored_[at(layer, head)].side(side).read(out, *work);
}

size_t KvCache::stored_bytes() const noexcept {
  size_t sum = 0;
  for (size_t i = 0; i < at(shape_.layers, 0); i++) sum += counts_[i].stored.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace tokensieve
