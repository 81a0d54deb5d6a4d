// Which tokens the rows of a KV head are of: ascending, stored as runs of neighbours.
//
// Methods keep rows in runs, and heads that keep all have one: 4 bytes a run are a fraction of 4 bytes a row, and never
// more (8 for a row that stands 65,536 tokens or more behind the one before it). Looked through from the end, where the
// newest rows are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokensieve {

class RowSources {
 public:
  size_t size() const noexcept { return static_cast<size_t>(rows_); }
  bool empty() const noexcept { return rows_ == 0; }
  int32_t operator[](size_t row) const noexcept;  // walks over the runs
  std::vector<int32_t> all() const;  // [rows]; throws bad_alloc
  std::vector<int32_t> some(const int32_t* index, int n) const;  // of these rows, ascending
  int up_to(int32_t last) const noexcept;  // rows whose source is at most this
  int row_of(int32_t source) const noexcept;  // -1 where there is none
  int leading() const noexcept;  // rows that are of the tokens 0, 1, 2, … without a gap
  size_t bytes() const noexcept { return runs_.capacity() * sizeof(Run); }

  // Room for rows in so many more runs, and for one row that goes. Throws bad_alloc.
  void reserve(size_t runs);
  void append(const int32_t* source, int n) noexcept;  // behind a reserve; ascending
  void assign(const std::vector<int32_t>& source);  // in place of what was here; throws bad_alloc
  bool remove(int row) noexcept;  // false, and nothing changed, where the split of a run finds no memory
  void remove_first(int n) noexcept;
  void cut(size_t rows) noexcept;  // those behind the first so many go
  void shrink();  // gives back room where there is much; throws bad_alloc

 private:
  // Behind the run before it come `gap` tokens that have no row, then `rows` that have one; without rows it stands for
  // gap * 65,536 tokens more of the next run's gap.
  struct Run {
    uint16_t gap, rows;
  };
  size_t find(int row, int32_t* source, int* begin) const noexcept;
  void push(int32_t gap, uint16_t rows) noexcept;
  void widen(size_t at, int32_t gap) noexcept;

  std::vector<Run> runs_;
  int32_t rows_ = 0, end_ = 0;  // of all rows; the source behind the last
};

bool operator==(const RowSources& a, const RowSources& b);

size_t runs_in(const int32_t* source, int n) noexcept;  // what append takes room for

}  // namespace tokensieve
