// The chain of a side: its pieces and their pages, and rows within pages.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "engine/kv_side.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Piece;

namespace {
uint8_t* writable(const Piece& piece) { return const_cast<uint8_t*>(piece.page); }
}  // namespace

bool KvSide::page_used_beside(size_t at) const noexcept {
  const uint8_t* page = pieces_[at].page;
  return (at > 0 && pieces_[at - 1].page == page) || (at + 1 < pieces_.size() && pieces_[at + 1].page == page);
}

void KvSide::make_room(size_t more) {
  const size_t need = pieces_.size() + more;
  if (need > pieces_.capacity()) pieces_.reserve(std::max(need, pieces_.size() + pieces_.size() / 8));
}

uint8_t* KvSide::new_page(size_t bytes, PageAllocator& pages) {
  uint8_t* page = pages.allocate(bytes);
  page_bytes_ += bytes;
  return page;
}

void KvSide::insert(size_t at, Part part, const Piece& piece) noexcept {
  pieces_.insert(pieces_.begin() + static_cast<ptrdiff_t>(at), piece);
  for (size_t p = static_cast<size_t>(part); p < ends_.size(); p++) ends_[p]++;
}

void KvSide::insert_spare(Part part) noexcept {
  std::vector<uint8_t*>& spares = spares_[static_cast<size_t>(part)];
  insert(end(part), part, {spares.back(), 0, 0, format_->page(part).type});
  spares.pop_back();
}

void KvSide::close(Part part) noexcept {
  for (size_t p = static_cast<size_t>(part); p < ends_.size(); p++) ends_[p] = pieces_.size();
}

void KvSide::drop(size_t at) noexcept {
  const Piece piece = pieces_[at];
  if (!page_used_beside(at)) page_bytes_ -= bytes_of(at);
  pieces_.erase(pieces_.begin() + static_cast<ptrdiff_t>(at));
  for (size_t& end : ends_) end -= at < end;
  release_page(piece.page);
}

void KvSide::share(Part part, const Piece& piece) {
  make_room(1);
  if (pieces_.empty() || pieces_.back().page != piece.page) page_bytes_ += format_->page(part).bytes;
  retain_page(piece.page);
  pieces_.push_back(piece);
  close(part);
}

void KvSide::own_page(size_t at, PageAllocator& pages) {
  if (!page_is_shared(pieces_[at].page)) return;
  const size_t bytes = bytes_of(at);
  uint8_t* copy = new_page(bytes, pages);
  std::memcpy(copy, pieces_[at].page, bytes);
  if (!page_used_beside(at)) page_bytes_ -= bytes;
  release_page(pieces_[at].page);
  pieces_[at].page = copy;
}

bool KvSide::try_own_page(size_t at, PageAllocator& pages) noexcept {
  try {
    own_page(at, pages);
    return true;
  } catch (const Error&) {
    return false;
  }
}

uint8_t* KvSide::add_page(Part part, int first, int count, PageAllocator& pages) {
  make_room(1);
  uint8_t* page = new_page(format_->page(part).bytes, pages);
  pieces_.push_back({page, static_cast<int16_t>(first), static_cast<int16_t>(count), format_->page(part).type});
  close(part);
  this->count(part) += count;
  return page;
}

void KvSide::add_piece(int first, int count) {
  const Piece last = pieces_.back();
  const Part part = part_of(pieces_.size() - 1);
  share(part, {last.page, static_cast<int16_t>(first), static_cast<int16_t>(count), last.type});
  this->count(part) += count;
}

// Rows of one page may overlap with where they go: the order of the copies is such that none is overwritten before it
// has moved.
void KvSide::move_rows(const Piece& from, int row, const Piece& to, int to_row, int n) const noexcept {
  Team alone(1);
  const bool up = from.page == to.page && to.first + to_row > from.first + row;
  for (int i = 0; i < n; i++) {
    const int k = up ? n - 1 - i : i;
    format_->backend->copy_row(format_->side, to.type, format_->head_size, from.page, from.first + row + k,
                               writable(to), to.first + to_row + k, alone);
  }
}

// n rows from the first of piece `at` on -> f32 [n][head_size].
void KvSide::gather(size_t at, int n, float* out) const noexcept {
  Team alone(1);
  const size_t width = static_cast<size_t>(format_->head_size);
  for (; n > 0; at++) {
    Piece piece = pieces_[at];
    piece.count = static_cast<int16_t>(std::min<int>(piece.count, n));
    format_->backend->load_rows(format_->side, format_->head_size, piece, out, width, alone);
    out += static_cast<size_t>(piece.count) * width;
    n -= piece.count;
  }
}

// Quantizes n <= kPageRows rows of scratch as one group of keys; the last one is repeated behind them, which changes
// neither minimum nor maximum.
void KvSide::store_group(float* scratch, int n, uint8_t* page) const noexcept {
  const size_t width = static_cast<size_t>(format_->head_size);
  for (int row = n; row < kPageRows; row++)
    std::memcpy(scratch + static_cast<size_t>(row) * width, scratch + static_cast<size_t>(n - 1) * width,
                width * sizeof(float));
  Team alone(1);
  format_->backend->store_kivi_keys(format_->page(Part::packed).type, format_->head_size, scratch, width, page, alone);
}

}  // namespace tokensieve
