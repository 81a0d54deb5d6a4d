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

uint8_t* writable(const Piece& piece) {
  return const_cast<uint8_t*>(piece.page);
}  // pieces are const for the kernels, their pages are ours
Piece part(const Piece& of, int offset, int count) {
  return {of.page, static_cast<int16_t>(of.first + offset), static_cast<int16_t>(count), of.type};
}

}  // namespace

SideFormat side_format(kernels::Side side, DType type, int head_size, int residual, const kernels::Backend& backend) {
  const bool kivi = type == DType::kivi4 || type == DType::kivi2;
  const DType open = kivi ? DType::f16 : type;
  SideFormat format{side,
                    open,
                    type,
                    head_size,
                    residual,
                    backend.page_bytes(side, open, head_size),
                    backend.page_bytes(side, type, head_size),
                    &backend};
  if (std::max(format.open_bytes, format.packed_bytes) > kMaxPageBytes) {
    throw Error(Code::unsupported, "[kv_cache] expected a head size whose page is up to " +
                                       std::to_string(kMaxPageBytes) + " bytes, got " + std::to_string(head_size));
  }
  return format;
}

KvSide::KvSide(const KvSide& other)
    : format_(other.format_),
      pieces_(other.pieces_),
      packed_pieces_(other.packed_pieces_),
      rows_(other.rows_),
      packed_rows_(other.packed_rows_) {
  for (size_t i = 0; i < pieces_.size(); i++) {
    retain_page(pieces_[i].page);
    if (i == 0 || pieces_[i - 1].page != pieces_[i].page) page_bytes_ += format_->page_bytes(pieces_[i].type);
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
  spare_open_.swap(other.spare_open_);
  spare_packed_.swap(other.spare_packed_);
  std::swap(page_bytes_, other.page_bytes_);
  std::swap(packed_pieces_, other.packed_pieces_);
  std::swap(rows_, other.rows_);
  std::swap(packed_rows_, other.packed_rows_);
}

void KvSide::drop_spares() noexcept {
  for (uint8_t* page : spare_open_) release_page(page);
  for (uint8_t* page : spare_packed_) release_page(page);
  page_bytes_ -= spare_open_.size() * format_->open_bytes + spare_packed_.size() * format_->packed_bytes;
  spare_open_.clear();
  spare_packed_.clear();
}

void KvSide::shrink() {
  drop_spares();
  if (pieces_.capacity() > pieces_.size() + pieces_.size() / 2 + 8) pieces_.shrink_to_fit();
}

// ---- growing ----------------------------------------------------------------------------------------------------

int KvSide::due_rows(int open) const noexcept {
  if (!format_->packs()) return 0;
  return format_->groups() ? open / format_->residual * format_->residual : std::max(0, open - format_->residual);
}

int KvSide::tail_room(size_t begin, size_t end) const noexcept {
  if (begin == end || page_is_shared(pieces_[end - 1].page)) return 0;
  return kPageRows - pieces_[end - 1].first - pieces_[end - 1].count;
}

void KvSide::reserve(int n, PageAllocator& pages) {
  const int due = due_rows(open_rows() + n);
  const bool packs_rows = due > 0 && !format_->groups();
  auto own_tail = [&](size_t begin, size_t end) {
    if (begin != end && pieces_[end - 1].first + pieces_[end - 1].count < kPageRows &&
        page_is_shared(pieces_[end - 1].page))
      own_page(end - 1, pages);
  };
  if (n > 0) own_tail(packed_pieces_, pieces_.size());
  if (packs_rows) own_tail(0, packed_pieces_);
  auto pages_for = [](int rows) { return static_cast<size_t>(std::max(0, rows) + kPageRows - 1) / kPageRows; };
  const size_t open = pages_for(n - tail_room(packed_pieces_, pieces_.size()));
  const size_t packed = pages_for(due - (packs_rows ? tail_room(0, packed_pieces_) : 0));
  make_room(open + packed + 2);
  spare_open_.reserve(open);
  spare_packed_.reserve(packed);
  const auto fill = [&](std::vector<uint8_t*>& spares, size_t count, size_t bytes) {
    if (spares.size() >= count) return;
    while (spares.size() < count) spares.push_back(new_page(bytes, pages));
    std::sort(spares.begin(), spares.end(), std::greater<>());  // taken from the back: rows lie in ascending order
  };
  fill(spare_open_, open, format_->open_bytes);
  fill(spare_packed_, packed, format_->packed_bytes);
}

void KvSide::extend(int n) noexcept {
  while (n > 0) {
    int room = tail_room(packed_pieces_, pieces_.size());
    // A full page at the end is looked at once more: its first rows may have gone while it was filled.
    if (room == 0 && pieces_.size() >= packed_pieces_ + 2 && merge(pieces_.size() - 2))
      room = tail_room(packed_pieces_, pieces_.size());
    if (room == 0) {
      insert(pieces_.size(), {spare_open_.back(), 0, 0, format_->open_type});
      spare_open_.pop_back();
      room = kPageRows;
    }
    const int take = std::min(n, room);
    pieces_.back().count = static_cast<int16_t>(pieces_.back().count + take);
    rows_ += take;
    n -= take;
  }
}

void KvSide::fill(const float* x, size_t ldx, int n) const noexcept {
  for (size_t i = pieces_.size(); n > 0;) {
    const Piece& piece = pieces_[--i];
    const int take = std::min<int>(n, piece.count);
    n -= take;
    format_->backend->store_rows(format_->side, piece.type, format_->head_size, x + static_cast<size_t>(n) * ldx, ldx,
                                 take, writable(piece), piece.first + piece.count - take);
  }
}

bool KvSide::due() const noexcept { return due_rows(open_rows()) > 0; }

void KvSide::settle(float* scratch) noexcept {
  for (int n = due_rows(open_rows()); n > 0;) {
    const bool needs_page = format_->groups() || tail_room(0, packed_pieces_) == 0;
    if (needs_page && spare_packed_.empty()) return;  // rows stay in float until a later reserve
    if (format_->groups()) {
      pack_group(scratch);
      n -= kPageRows;
    } else {
      n -= pack_rows(n, scratch);
    }
  }
}

void KvSide::pack_group(float* scratch) noexcept {
  gather(packed_pieces_, kPageRows, scratch);
  uint8_t* page = spare_packed_.back();
  spare_packed_.pop_back();
  store_group(scratch, kPageRows, page);
  insert(packed_pieces_, {page, 0, kPageRows, format_->packed_type});
  packed_rows_ += kPageRows;
  pop_open(kPageRows);
}

int KvSide::pack_rows(int n, float* scratch) noexcept {
  if (tail_room(0, packed_pieces_) == 0) {
    insert(packed_pieces_, {spare_packed_.back(), 0, 0, format_->packed_type});
    spare_packed_.pop_back();
  }
  Piece& to = pieces_[packed_pieces_ - 1];
  const int take = std::min({n, tail_room(0, packed_pieces_), static_cast<int>(pieces_[packed_pieces_].count)});
  gather(packed_pieces_, take, scratch);
  format_->backend->store_rows(format_->side, to.type, format_->head_size, scratch,
                               static_cast<size_t>(format_->head_size), take, writable(to), to.first + to.count);
  to.count = static_cast<int16_t>(to.count + take);
  packed_rows_ += take;
  pop_open(take);
  return take;
}

void KvSide::pop_open(int n) noexcept {
  while (n > 0) {
    Piece& front = pieces_[packed_pieces_];
    const int take = std::min<int>(n, front.count);
    front = part(front, take, front.count - take);
    n -= take;
    if (front.count == 0) drop(packed_pieces_);
  }
}

// ---- shrinking ----------------------------------------------------------------------------------------------------

void KvSide::truncate(int rows) noexcept {
  while (rows_ > rows) {
    Piece& last = pieces_.back();
    const int cut = std::min<int>(last.count, rows_ - rows);
    if (packed_pieces_ == pieces_.size()) packed_rows_ -= cut;
    rows_ -= cut;
    last.count = static_cast<int16_t>(last.count - cut);
    if (last.count == 0) drop(pieces_.size() - 1);
  }
}

void KvSide::remove(int index, PageAllocator& pages) noexcept {
  size_t at = 0;
  for (; index >= pieces_[at].count; at++) index -= pieces_[at].count;
  Piece& piece = pieces_[at];
  const bool packed = at < packed_pieces_;
  rows_--;
  packed_rows_ -= packed;
  if (piece.count == 1) {
    drop(at);
  } else if (index == 0) {
    piece = part(piece, 1, piece.count - 1);
  } else if (index == piece.count - 1) {
    piece.count--;
  } else {
    remove_inside(at, index, pages);
  }
  if (!packed || packed_pieces_ > 0) merge_around(packed ? std::min(at, packed_pieces_ - 1) : at, pages);
}

void KvSide::remove_first(int n, PageAllocator& pages) noexcept {
  rows_ -= n;
  packed_rows_ -= std::min(n, packed_rows_);
  while (n > 0) {
    Piece& front = pieces_.front();
    const int take = std::min<int>(n, front.count);
    front = part(front, take, front.count - take);
    n -= take;
    if (front.count == 0) drop(0);
  }
  if (!pieces_.empty()) merge_around(0, pages);
}

// A row between others of its page. The shorter side closes the gap, except at the end of the chain, where the room
// behind is needed. Where the page may not be written (a group of kivi keys has scales for its rows' places; a shared
// page that cannot be copied now) the piece is split instead.
void KvSide::remove_inside(size_t at, int offset, PageAllocator& pages) noexcept {
  if (!grouped(at) && try_own_page(at, pages)) {
    Piece& piece = pieces_[at];
    const int behind = piece.count - 1 - offset;
    if (offset < behind && at + 1 < pieces_.size()) {
      move_rows(piece, 0, piece, 1, offset);
      piece = part(piece, 1, piece.count - 1);
    } else {
      move_rows(piece, offset + 1, piece, offset, behind);
      piece.count--;
    }
    return;
  }
  const Piece whole = pieces_[at];
  pieces_[at] = part(whole, 0, offset);
  retain_page(whole.page);
  insert(at + 1, part(whole, offset + 1, whole.count - offset - 1));
}

void KvSide::merge_around(size_t at, PageAllocator& pages) noexcept {
  if (grouped(at)) {
    regroup(at, pages);
  } else if (at == 0 || !merge(at - 1)) {
    merge(at);
  }
}

// Moves the rows of one of two neighbours into the other's page if all fit. The last page of a part is left alone until
// it could hold no more than half: it is being filled.
bool KvSide::merge(size_t at) noexcept {
  const size_t end = at < packed_pieces_ ? packed_pieces_ : pieces_.size();
  if (at + 1 >= end || grouped(at)) return false;
  Piece &a = pieces_[at], &b = pieces_[at + 1];
  const int total = a.count + b.count,
            room = at + 2 < end || b.first + b.count == kPageRows ? kPageRows : kPageRows / 2;
  if (total > room) return false;
  const bool a_shared = page_is_shared(a.page), b_shared = page_is_shared(b.page);
  if (a_shared && b_shared) return false;
  if (b_shared || (!a_shared && a.count >= b.count)) {
    if (a.first + total > kPageRows) {
      const Piece slid{a.page, 0, a.count, a.type};
      move_rows(a, 0, slid, 0, a.count);
      a = slid;
    }
    move_rows(b, 0, a, a.count, b.count);
    a.count = static_cast<int16_t>(total);
    drop(at + 1);
  } else {
    if (b.first < a.count) {
      const Piece slid{b.page, a.count, b.count, b.type};
      move_rows(b, 0, slid, 0, b.count);
      b = slid;
    }
    b = part(b, -a.count, total);
    move_rows(a, 0, b, 0, a.count);
    drop(at);
  }
  return true;
}

// Two neighbouring groups of kivi keys that together fill three quarters of a page at most are quantized again as one.
bool KvSide::regroup(size_t at, PageAllocator& pages) noexcept {
  const uint8_t* page = pieces_[at].page;
  auto extent = [&](size_t from, int* live) {
    size_t to = from;
    for (*live = 0; to < packed_pieces_ && pieces_[to].page == pieces_[from].page; to++) *live += pieces_[to].count;
    return to;
  };
  size_t begin = at;
  while (begin > 0 && pieces_[begin - 1].page == page) begin--;
  int live, other;
  size_t end = extent(begin, &live);
  size_t before = begin;
  while (before > 0 && pieces_[before - 1].page == pieces_[begin - 1].page) before--;
  if (before < begin && extent(before, &other) && live + other <= kSparseRows) {
    begin = before;
  } else {
    const size_t after = end < packed_pieces_ ? extent(end, &other) : end;
    if (after == end || live + other > kSparseRows) return false;
    end = after;
  }
  std::unique_ptr<float[]> scratch(new (std::nothrow) float[static_cast<size_t>(kPageRows * format_->head_size)]);
  if (!scratch) return false;
  uint8_t* fresh;
  try {
    make_room(1);
    fresh = new_page(format_->packed_bytes, pages);
  } catch (const std::exception&) {
    return false;
  }
  gather(begin, live + other, scratch.get());
  store_group(scratch.get(), live + other, fresh);
  for (size_t i = begin; i < end; i++) drop(begin);
  insert(begin, {fresh, 0, static_cast<int16_t>(live + other), format_->packed_type});
  return true;
}

void KvSide::read(float* out) const noexcept { gather(0, rows_, out); }

}  // namespace tokensieve
