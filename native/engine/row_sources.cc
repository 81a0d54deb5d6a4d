#include "engine/row_sources.h"

#include <algorithm>
#include <new>

namespace tokensieve {

namespace {

constexpr int32_t kMost = 0xffff;
constexpr size_t kSpare =
    3;  // a first gap that takes an entry of its own; a row that goes from inside a run; first rows that go

}  // namespace

size_t runs_in(const int32_t* source, int n) noexcept {
  size_t runs = n > 0 ? 1 + static_cast<size_t>(n / kMost) : 0;
  for (int i = 1; i < n; i++) {
    const int32_t gap = source[i] - source[i - 1] - 1;
    runs += gap > kMost ? 2 : gap > 0;
  }
  return runs;
}

// ---- reading ----------------------------------------------------------------------------------------------------

// The run that holds a row, the source of its first row and that row.
size_t RowSources::find(int row, int32_t* source, int* begin) const noexcept {
  size_t at = runs_.size();
  int32_t first = end_;
  int left = rows_;
  while (true) {
    const Run& run = runs_[--at];
    first -= run.rows, left -= run.rows;
    if (run.rows > 0 && row >= left) break;
    first -= run.rows > 0 ? run.gap : run.gap * (kMost + 1);
  }
  *source = first, *begin = left;
  return at;
}

int32_t RowSources::operator[](size_t row) const noexcept {
  int32_t source;
  int begin;
  find(static_cast<int>(row), &source, &begin);
  return source + static_cast<int32_t>(row) - begin;
}

std::vector<int32_t> RowSources::all() const {
  std::vector<int32_t> out;
  out.reserve(size());
  int32_t source = 0;
  for (const Run& run : runs_) {
    source += run.rows > 0 ? run.gap : run.gap * (kMost + 1);
    for (int i = 0; i < run.rows; i++) out.push_back(source++);
  }
  return out;
}

std::vector<int32_t> RowSources::some(const int32_t* index, int n) const {
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(n));
  int32_t source = 0;
  int begin = 0, k = 0;
  for (const Run& run : runs_) {
    source += run.rows > 0 ? run.gap : run.gap * (kMost + 1);
    for (; k < n && index[k] < begin + run.rows; k++) out.push_back(source + index[k] - begin);
    source += run.rows, begin += run.rows;
  }
  return out;
}

int RowSources::up_to(int32_t last) const noexcept {
  int32_t end = end_;
  int rows = rows_;
  for (size_t at = runs_.size(); rows > 0 && last < end - 1;) {
    const Run& run = runs_[--at];
    if (run.rows > 0 && last >= end - run.rows) return rows - (end - 1 - last);
    rows -= run.rows;
    end -= run.rows > 0 ? run.rows + run.gap : run.gap * (kMost + 1);
  }
  return rows;
}

int RowSources::row_of(int32_t source) const noexcept {
  const int row = up_to(source) - 1;
  return row >= 0 && up_to(source - 1) == row ? row : -1;
}

int RowSources::leading() const noexcept {
  int rows = 0;
  for (size_t at = 0; at < runs_.size() && runs_[at].gap == 0; at++) rows += runs_[at].rows;
  return rows;
}

bool operator==(const RowSources& a, const RowSources& b) { return a.size() == b.size() && a.all() == b.all(); }

// ---- changing ---------------------------------------------------------------------------------------------------

void RowSources::reserve(size_t runs) {
  const size_t need = runs_.size() + runs + kSpare;
  if (need > runs_.capacity()) runs_.reserve(std::max(need, runs_.size() + runs_.size() / 8 + kSpare));
}

void RowSources::push(int32_t gap, uint16_t rows) noexcept {
  if (gap > kMost) runs_.push_back({static_cast<uint16_t>(gap / (kMost + 1)), 0});
  runs_.push_back({static_cast<uint16_t>(gap % (kMost + 1)), rows});
}

void RowSources::append(const int32_t* source, int n) noexcept {
  for (int i = 0; i < n; i++) {
    const int32_t gap = source[i] - end_;
    if (gap == 0 && !runs_.empty() && runs_.back().rows < kMost) {
      runs_.back().rows++;
    } else {
      push(gap, 1);
    }
    end_ = source[i] + 1;
  }
  rows_ += n;
}

void RowSources::assign(const std::vector<int32_t>& source) {
  RowSources next;
  const int n = static_cast<int>(source.size());
  next.reserve(runs_in(source.data(), n));
  next.append(source.data(), n);
  std::swap(*this, next);
}

// So many tokens more are missing before the first rows from `at` on; there is room for one more entry.
void RowSources::widen(size_t at, int32_t gap) noexcept {
  while (runs_[at].rows == 0) at++;
  const int32_t sum = runs_[at].gap + gap;
  runs_[at].gap = static_cast<uint16_t>(sum % (kMost + 1));
  if (sum > kMost)
    runs_.insert(runs_.begin() + static_cast<ptrdiff_t>(at), {static_cast<uint16_t>(sum / (kMost + 1)), 0});
}

bool RowSources::remove(int row) noexcept {
  try {
    runs_.reserve(runs_.size() + 1);
  } catch (const std::bad_alloc&) {
    return false;
  }
  int32_t source;
  int begin;
  const size_t at = find(row, &source, &begin);
  const int before = row - begin, behind = runs_[at].rows - 1 - before;
  if (rows_ - 1 == row) {
    cut(static_cast<size_t>(row));
    return true;
  }
  rows_--;
  Run& run = runs_[at];
  if (behind > 0 && before > 0) {
    run.rows = static_cast<uint16_t>(before);
    runs_.insert(runs_.begin() + static_cast<ptrdiff_t>(at) + 1, {1, static_cast<uint16_t>(behind)});
  } else if (behind > 0) {
    run.rows = static_cast<uint16_t>(behind);
    widen(at, 1);
  } else if (before > 0) {
    run.rows = static_cast<uint16_t>(before);
    widen(at + 1, 1);
  } else {
    const int32_t gap = run.gap + 1;
    runs_.erase(runs_.begin() + static_cast<ptrdiff_t>(at));
    widen(at, gap);
  }
  return true;
}

void RowSources::remove_first(int n) noexcept {
  if (n >= rows_) return cut(0);
  int32_t source;
  int begin;
  const size_t at = find(n, &source, &begin);
  const int32_t gap = source + n - begin;
  Run& run = runs_[at];
  run.rows = static_cast<uint16_t>(run.rows - (n - begin));
  run.gap = 0;
  runs_.erase(runs_.begin(), runs_.begin() + static_cast<ptrdiff_t>(at));
  rows_ -= n;
  widen(0, gap);
}

void RowSources::cut(size_t rows) noexcept {
  if (rows >= size()) return;
  if (rows == 0) {
    runs_.clear();
    rows_ = end_ = 0;
    return;
  }
  int32_t source;
  int begin;
  const size_t at = find(static_cast<int>(rows) - 1, &source, &begin);
  runs_.erase(runs_.begin() + static_cast<ptrdiff_t>(at) + 1, runs_.end());
  rows_ = static_cast<int32_t>(rows);
  runs_[at].rows = static_cast<uint16_t>(rows_ - begin);
  end_ = source + runs_[at].rows;
}

void RowSources::shrink() {
  if (runs_.capacity() > runs_.size() + runs_.size() / 2 + 8) runs_.shrink_to_fit();
}

}  // namespace tokensieve
