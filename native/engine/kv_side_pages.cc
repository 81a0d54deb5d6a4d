// The chain of a side: its pieces and their pages, and rows within pages.
#include <algorithm>

#include "core/error.h"
#include "engine/kv_side.h"

namespace tokensieve {

using kernels::kPageRows;
using kernels::Piece;

bool KvSide::page_used_beside(size_t at) const noexcept {
  const uint8_t* page = pieces_[at].page;
  return (at > 0 && pieces_[at - 1].page == page) || (at + 1 < pieces_.size() && pieces_[at + 1].page == page);
}

void KvSide::make_room(size_t more) {
  const size_t need = pieces_.size() + more;
  if (need > pieces_.capacity()) pieces_.reserve(std::max(need, pieces_.size() + pieces_.size() / 8));
}

uint8_t* KvSide::new_page(size_t bytes, PageWork& work) {
  uint8_t* page = work.allocate(bytes);
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

const uint8_t* KvSide::unlink(size_t at) noexcept {
  const Piece piece = pieces_[at];
  if (!page_used_beside(at)) page_bytes_ -= bytes_of(at);
  pieces_.erase(pieces_.begin() + static_cast<ptrdiff_t>(at));
  for (size_t& end : ends_) end -= at < end;
  return piece.page;
}

void KvSide::drop(size_t at, PageWork& work) noexcept { work.release(unlink(at)); }

void KvSide::share(Part part, const Piece& piece) {
  make_room(1);
  if (pieces_.empty() || pieces_.back().page != piece.page) page_bytes_ += format_->page(part).bytes;
  retain_page(piece.page);
  pieces_.push_back(piece);
  close(part);
}

void KvSide::own_page(size_t at, PageWork& work) {
  if (!page_is_shared(pieces_[at].page)) return;
  const size_t bytes = bytes_of(at);
  uint8_t* copy = new_page(bytes, work);
  work.copy(pieces_[at].page, copy, bytes);
  if (!page_used_beside(at)) page_bytes_ -= bytes;
  work.release(pieces_[at].page);
  pieces_[at].page = copy;
}

bool KvSide::try_own_page(size_t at, PageWork& work) noexcept {
  try {
    own_page(at, work);
    return true;
  } catch (const Error&) {
    return false;
  }
}

uint8_t* KvSide::add_page(Part part, int first, int count, PageWork& work) {
  make_room(1);
  uint8_t* page = new_page(format_->page(part).bytes, work);
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

void KvSide::move_rows(const Piece& from, int row, const Piece& to, int to_row, int n, PageWork& work) const noexcept {
  work.move(format_->side, {from.page, from.type, from.first + row}, {to.page, to.type, to.first + to_row}, n);
}

// n rows from the first of piece `at` on. They and what is made of them are one.
void KvSide::gather(size_t at, int n, int to_row, PageWork& work) const noexcept {
  work.hold(kPageRows + 1);
  for (; n > 0; at++) {
    const Piece& piece = pieces_[at];
    const int count = std::min<int>(piece.count, n);
    work.load(format_->side, {piece.page, piece.type, piece.first}, to_row, count);
    to_row += count;
    n -= count;
  }
}

void KvSide::read(float* out, PageWork& work) const {
  const size_t width = static_cast<size_t>(format_->head_size), all = static_cast<size_t>(rows()) * width;
  float* const numbers = work.device().queue ? work.numbers(all) : out;
  float* to = numbers;
  PageWork::Mark apart;
  for (const Piece& piece : pieces_) {
    work.apart(&apart);
    work.hold(2);
    work.load(format_->side, {piece.page, piece.type, piece.first}, 0, piece.count);
    work.give(0, piece.count, to);
    to += static_cast<size_t>(piece.count) * width;
  }
  work.bring(numbers, all, out);
}

void KvSide::places(const int32_t* index, int n, PageWork::Place* out) const noexcept {
  size_t at = 0;
  int begin = 0;  // of the piece
  for (int i = 0; i < n; i++) {
    for (; index[i] >= begin + pieces_[at].count; at++) begin += pieces_[at].count;
    out[i] = {pieces_[at].page, pieces_[at].type, pieces_[at].first + index[i] - begin};
  }
}

void KvSide::write(const int32_t* index, int n, const float* x, PageWork& work) {
  const size_t width = static_cast<size_t>(format_->head_size);
  work.before_reading(mark_);
  const uint8_t* page = nullptr;
  int begin = 0, i = 0;  // of the piece; of the rows
  for (size_t at = 0; i < n; begin += pieces_[at++].count) {
    if (index[i] >= begin + pieces_[at].count) continue;
    if (grouped(at)) {
      throw Error(Code::unsupported,
                  "[kv_cache] expected keys of a type that can be written row by row for keys that fold, got kivi");
    }
    // Two pieces may share a page: what is done to it is one program.
    if (pieces_[at].page != page) work.apart(&mark_);
    page = pieces_[at].page;
    own_page(at, work);
    const Piece& piece = pieces_[at];
    for (; i < n && index[i] < begin + piece.count; i++) {
      work.hold(2);
      work.take(x + static_cast<size_t>(i) * width, 0, 1);
      work.store(format_->side, 0, {piece.page, piece.type, piece.first + index[i] - begin}, 1);
    }
  }
}

}  // namespace tokensieve
