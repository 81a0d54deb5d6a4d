#include "engine/kv_side.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <utility>

#include "core/error.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Piece;

namespace {

Piece part(const Piece& of, int offset, int count) {
  return {of.page, static_cast<int16_t>(of.first + offset), static_cast<int16_t>(count), of.type};
}

}  // namespace

// Few sinks need no whole page: 16 keys are its first half, and values lie row by row.
static SideFormat::Page sink_page(kernels::Side side, int head_size, int sinks, const kernels::Backend& backend) {
  const size_t whole = backend.page_bytes(side, DType::f16, head_size), row = whole / kPageRows;
  if (sinks == 0 || sinks > kPageRows / 2) return {DType::f16, whole, kPageRows};
  const int rows = side == kernels::Side::keys ? kPageRows / 2 : sinks;
  return {DType::f16, (row * static_cast<size_t>(rows) + 63) / 64 * 64, rows};
}

SideFormat side_format(kernels::Side side, DType type, int head_size, const FloatRows& rows,
                       const kernels::Backend& backend) {
  const bool kivi = type == DType::kivi4 || type == DType::kivi2,
             quantized = kivi || type == DType::q8_0 || type == DType::q4_0,
             packs = kivi || (quantized && type != rows.fresh && (rows.sinks > 0 || rows.recent > 0));
  const DType open = packs ? rows.fresh : type;
  const size_t open_bytes = backend.page_bytes(side, open, head_size);
  SideFormat format{side,
                    head_size,
                    packs ? rows.sinks : 0,
                    rows.recent,
                    kPageRows,
                    {{{kCoarse, backend.page_bytes(side, kCoarse, head_size), kPageRows},
                      sink_page(side, head_size, rows.sinks, backend),
                      {type, backend.page_bytes(side, type, head_size), kPageRows},
                      {open, open_bytes, kPageRows}}},
                    &backend};
  if (kivi && rows.residual > 0) {
    format.recent = format.groups(Part::packed) ? 0 : rows.residual;
    format.grain = format.groups(Part::packed) ? rows.residual : 1;
  }
  if (std::max(open_bytes, format.page(Part::packed).bytes) > kMaxPageBytes) {
    throw Error(Code::unsupported, "[kv_cache] expected a head size whose page is up to " +
                                       std::to_string(kMaxPageBytes) + " bytes, got " + std::to_string(head_size));
  }
  return format;
}

KvSide::KvSide(const KvSide& other)
    : format_(other.format_), pieces_(other.pieces_), ends_(other.ends_), rows_(other.rows_), mark_(other.mark_) {
  for (size_t i = 0; i < pieces_.size(); i++) {
    retain_page(pieces_[i].page);
    if (i == 0 || pieces_[i - 1].page != pieces_[i].page) page_bytes_ += bytes_of(i);
  }
}

KvSide::KvSide(KvSide&& other) noexcept : KvSide(*other.format_) { swap(other); }

KvSide& KvSide::operator=(KvSide&& other) noexcept {
  swap(other);
  return *this;
}

KvSide::~KvSide() {
  drop_spares();
  for (const Piece& piece : pieces_) release_page(piece.page);
}

void KvSide::swap(KvSide& other) noexcept {
  std::swap(format_, other.format_);
  pieces_.swap(other.pieces_);
  spares_.swap(other.spares_);
  std::swap(page_bytes_, other.page_bytes_);
  std::swap(ends_, other.ends_);
  std::swap(rows_, other.rows_);
  std::swap(mark_, other.mark_);
}

void KvSide::drop_spares() noexcept {
  for (Part part : kParts) {
    std::vector<uint8_t*>& spares = spares_[static_cast<size_t>(part)];
    for (uint8_t* page : spares) release_page(page);
    page_bytes_ -= spares.size() * format_->page(part).bytes;
    spares.clear();
  }
}

void KvSide::shrink() {
  drop_spares();
  if (pieces_.capacity() > pieces_.size() + pieces_.size() / 2 + 8) pieces_.shrink_to_fit();
}

// ---- growing ----------------------------------------------------------------------------------------------------

int KvSide::sinks_of(int n) const noexcept {
  return rows() > rows(Part::sinks) ? 0 : std::min(n, format_->sinks - rows(Part::sinks));
}

// Attention cuts rows at multiples of kSplit: pages that lie across a cut are read twice.
int KvSide::lead(int sinks) const noexcept {
  return rows(Part::packed) == 0 && format_->grain == kPageRows ? (rows(Part::sinks) + sinks) % kPageRows : 0;
}

int KvSide::due_rows(int open) const noexcept {
  if (!format_->packs() || open <= format_->recent) return 0;
  return std::max(0, (open - format_->recent + lead()) / format_->grain * format_->grain - lead());
}

int KvSide::tail_room(Part part) const noexcept {
  if (begin(part) == end(part) || page_is_shared(pieces_[end(part) - 1].page)) return 0;
  return format_->page(part).rows - pieces_[end(part) - 1].first - pieces_[end(part) - 1].count;
}

void KvSide::own_tail(Part part, PageWork& work) {
  if (begin(part) == end(part)) return;
  const Piece& last = pieces_[end(part) - 1];
  if (last.first + last.count < format_->page(part).rows && page_is_shared(last.page)) own_page(end(part) - 1, work);
}

void KvSide::reserve(int n, PageWork& work) {
  work.follow(&mark_);
  const int sinks = sinks_of(n), open = n - sinks, due = n == 0 ? due_rows(rows(Part::open)) : 0;
  const int more[] = {0, sinks, due, open};
  size_t wanted[4] = {}, sum = 2;
  for (Part part : kParts) {
    const size_t p = static_cast<size_t>(part);
    if (more[p] == 0) continue;
    const bool fills = part != Part::packed || !format_->groups(Part::packed);  // goes on in the page that was begun
    if (fills) own_tail(part, work);
    const bool first = part == Part::packed || (part == Part::open && rows(part) == 0);
    const int page_rows = format_->page(part).rows, skipped = first ? lead(sinks) : 0;
    const int fresh = std::max(0, skipped + more[p] - (fills ? tail_room(part) : 0));
    wanted[p] = static_cast<size_t>((fresh + page_rows - 1) / page_rows);
    sum += wanted[p];
  }
  make_room(sum);
  for (Part part : kParts) {
    std::vector<uint8_t*>& spares = spares_[static_cast<size_t>(part)];
    const size_t count = wanted[static_cast<size_t>(part)];
    if (spares.size() >= count) continue;
    spares.reserve(count);
    while (spares.size() < count) spares.push_back(new_page(format_->page(part).bytes, work));
    std::sort(spares.begin(), spares.end(), std::greater<>());  // taken from the back: rows lie in ascending order
  }
}

void KvSide::extend(int n, PageWork& work) noexcept {
  const int sinks = sinks_of(n);
  work.follow(&mark_);
  extend(Part::sinks, sinks, work);
  extend(Part::open, n - sinks, work);
}

void KvSide::extend(Part part, int n, PageWork& work) noexcept {
  while (n > 0) {
    int room = tail_room(part);
    // A full page at the end is looked at once more: its first rows may have gone while it was filled.
    if (room == 0 && end(part) >= begin(part) + 2 && merge(end(part) - 2, work)) room = tail_room(part);
    if (room == 0) {
      const int first = part == Part::open && rows(part) == 0 ? lead() : 0;
      insert_spare(part);
      pieces_[end(part) - 1].first = static_cast<int16_t>(first);
      room = format_->page(part).rows - first;
    }
    const int take = std::min(n, room);
    Piece& last = pieces_[end(part) - 1];
    last.count = static_cast<int16_t>(last.count + take);
    count(part) += take;
    n -= take;
  }
}

bool KvSide::due() const noexcept { return due_rows(rows(Part::open)) > 0; }

void KvSide::settle(PageWork& work) noexcept {
  work.follow(&mark_);
  for (int n = due_rows(rows(Part::open)); n > 0;) {
    const bool needs_page = format_->groups(Part::packed) || tail_room(Part::packed) == 0;
    if (needs_page && spares_[static_cast<size_t>(Part::packed)].empty()) return;  // float until a later reserve
    n -= format_->groups(Part::packed) ? pack_group(work) : pack_rows(n, work);
  }
}

// Places before the first row of all are as that row: neither minimum nor maximum changes.
int KvSide::pack_group(PageWork& work) noexcept {
  const int first = lead(), n = kPageRows - first;
  gather(begin(Part::open), n, first, work);
  insert_spare(Part::packed);
  Piece& to = pieces_[end(Part::packed) - 1];
  to.first = static_cast<int16_t>(first);
  to.count = static_cast<int16_t>(n);
  work.group(first, n, {to.page, to.type, 0});
  count(Part::packed) += n;
  pop_open(n, work);
  return n;
}

int KvSide::pack_rows(int n, PageWork& work) noexcept {
  if (tail_room(Part::packed) == 0) {
    const int first = lead();
    insert_spare(Part::packed);
    pieces_[end(Part::packed) - 1].first = static_cast<int16_t>(first);
  }
  Piece& to = pieces_[end(Part::packed) - 1];
  const int take = std::min({n, tail_room(Part::packed), static_cast<int>(pieces_[begin(Part::open)].count)});
  gather(begin(Part::open), take, 0, work);
  work.store(format_->side, 0, {to.page, to.type, to.first + to.count}, take);
  to.count = static_cast<int16_t>(to.count + take);
  count(Part::packed) += take;
  pop_open(take, work);
  return take;
}

void KvSide::pop_open(int n, PageWork& work) noexcept {
  count(Part::open) -= n;
  while (n > 0) {
    Piece& front = pieces_[begin(Part::open)];
    const int take = std::min<int>(n, front.count);
    front = part(front, take, front.count - take);
    n -= take;
    if (front.count == 0) drop(begin(Part::open), work);
  }
}

// ---- shrinking ----------------------------------------------------------------------------------------------------

void KvSide::remove(int index, PageWork& work) noexcept {
  work.follow(&mark_);
  size_t at = 0;
  for (; index >= pieces_[at].count; at++) index -= pieces_[at].count;
  Piece& piece = pieces_[at];
  const Part of = part_of(at);
  count(of)--;
  if (piece.count == 1) {
    drop(at, work);
  } else if (index == 0) {
    piece = part(piece, 1, piece.count - 1);
  } else if (index == piece.count - 1) {
    piece.count--;
  } else {
    remove_inside(at, index, work);
  }
  if (rows(of) > 0) merge_around(std::min(at, end(of) - 1), work);
}

void KvSide::remove_first(int n, PageWork& work) noexcept {
  work.follow(&mark_);
  while (n > 0) {
    Piece& front = pieces_.front();
    const int take = std::min<int>(n, front.count);
    count(part_of(0)) -= take;
    front = part(front, take, front.count - take);
    n -= take;
    if (front.count == 0) drop(0, work);
  }
  if (!pieces_.empty()) merge_around(0, work);
}

// A row between others of its page. The shorter side closes the gap, except at the end of the chain, where the room
// behind is needed. Where the page may not be written (a group of kivi keys has scales for its rows' places; a shared
// page that cannot be copied now) the piece is split instead.
void KvSide::remove_inside(size_t at, int offset, PageWork& work) noexcept {
  if (!grouped(at) && try_own_page(at, work)) {
    Piece& piece = pieces_[at];
    const int behind = piece.count - 1 - offset;
    if (offset < behind && at + 1 < pieces_.size()) {
      move_rows(piece, 0, piece, 1, offset, work);
      piece = part(piece, 1, piece.count - 1);
    } else {
      move_rows(piece, offset + 1, piece, offset, behind, work);
      piece.count--;
    }
    return;
  }
  const Piece whole = pieces_[at];
  pieces_[at] = part(whole, 0, offset);
  retain_page(whole.page);
  insert(at + 1, part_of(at), part(whole, offset + 1, whole.count - offset - 1));
}

void KvSide::merge_around(size_t at, PageWork& work) noexcept {
  if (grouped(at)) {
    regroup(at, work);
  } else if (at == 0 || !merge(at - 1, work)) {
    merge(at, work);
  }
}

// Moves the rows of one of two neighbours into the other's page if all fit. The last page of a part is left alone until
// it could hold no more than half: it is being filled.
bool KvSide::merge(size_t at, PageWork& work) noexcept {
  if (at >= pieces_.size()) return false;
  const size_t end = this->end(part_of(at));
  if (at + 1 >= end || grouped(at)) return false;
  const int page_rows = format_->page(part_of(at)).rows;
  Piece &a = pieces_[at], &b = pieces_[at + 1];
  const int total = a.count + b.count,
            room = at + 2 < end || b.first + b.count == page_rows ? page_rows : page_rows / 2;
  if (total > room) return false;
  const bool a_shared = page_is_shared(a.page), b_shared = page_is_shared(b.page);
  if (a_shared && b_shared) return false;
  if (b_shared || (!a_shared && a.count >= b.count)) {
    if (a.first + total > page_rows) {
      const Piece slid{a.page, 0, a.count, a.type};
      move_rows(a, 0, slid, 0, a.count, work);
      a = slid;
    }
    move_rows(b, 0, a, a.count, b.count, work);
    a.count = static_cast<int16_t>(total);
    drop(at + 1, work);
  } else {
    if (b.first < a.count) {
      const Piece slid{b.page, a.count, b.count, b.type};
      move_rows(b, 0, slid, 0, b.count, work);
      b = slid;
    }
    b = part(b, -a.count, total);
    move_rows(a, 0, b, 0, a.count, work);
    drop(at, work);
  }
  return true;
}

// Two neighbouring groups of kivi keys that together fill three quarters of a page at most are quantized again as one.
bool KvSide::regroup(size_t at, PageWork& work) noexcept {
  const uint8_t* page = pieces_[at].page;
  const Part of = part_of(at);
  const size_t first = this->begin(of), last = this->end(of);
  auto extent = [&](size_t from, int* live) {
    size_t to = from;
    for (*live = 0; to < last && pieces_[to].page == pieces_[from].page; to++) *live += pieces_[to].count;
    return to;
  };
  size_t begin = at;
  while (begin > first && pieces_[begin - 1].page == page) begin--;
  int live, other;
  size_t end = extent(begin, &live);
  size_t before = begin;
  while (before > first && pieces_[before - 1].page == pieces_[begin - 1].page) before--;
  if (before < begin && extent(before, &other) && live + other <= kSparseRows) {
    begin = before;
  } else {
    const size_t after = end < last ? extent(end, &other) : end;
    if (after == end || live + other > kSparseRows) return false;
    end = after;
  }
  uint8_t* fresh;
  try {
    make_room(1);
    fresh = new_page(format_->page(of).bytes, work);
  } catch (const std::exception&) {
    return false;
  }
  gather(begin, live + other, 0, work);
  work.group(0, live + other, {fresh, format_->page(of).type, 0});
  for (size_t i = begin; i < end; i++) drop(begin, work);
  insert(begin, of, {fresh, 0, static_cast<int16_t>(live + other), format_->page(of).type});
  return true;
}

void KvSide::clear(PageWork& work) noexcept {
  drop_spares();
  while (!pieces_.empty()) drop(pieces_.size() - 1, work);
  rows_ = {};
}

}  // namespace tokensieve
