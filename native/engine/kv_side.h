// One side (keys or values) of one KV head: its rows in a chain of page pieces, in order.
//
// New rows go to the open part at the end. Where rows are packed, the open part is f16 (or q8_0) and holds the newest
// ones; the oldest of it move to the packed part before it, and the first rows of all stay in f16 for good:
//   pieces   [ coarse part: kivi2 ][ sinks: f16 ][ packed part: pages of the quantized type ][ open part: f16 or q8_0 ]
// Rows that a method finds unimportant move to the coarse part at the front, whatever part they were in: only there, and
// where rows were asked to go, is the order of a chain not the order in which its rows came.
// The first page behind them leaves as many places free as there are sinks. Other sides have the open part alone. Sinks are the rows that came when nothing stood behind them: where they are
// removed, no later row takes their place. Rows are written only into pages that nobody else refers to; a piece may be
// any range of its page, and two pieces of a chain may share a page (rows between them were removed where the page
// could not be written).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/page_work.h"
#include "kernels/backend.h"

namespace tokensieve {

constexpr int kSparseRows = 24;  // a group of kivi keys with more rows left than these keeps its page and its scales

// Rows of a quantized side that stay in a finer type.
struct FloatRows {
  int sinks = 0;  // the first ones
  int recent = 0;  // the newest ones, at least; what is older is packed, kPageRows rows at once
  int residual = 0;  // kivi, where not 0: the split of its paper instead (keys in whole residuals, values one by one)
  DType fresh = DType::f16;  // of rows that were not packed yet, sinks apart, which are f16: f16 or q8_0
};
inline bool operator==(const FloatRows& a, const FloatRows& b) noexcept {
  return a.sinks == b.sinks && a.recent == b.recent && a.residual == b.residual && a.fresh == b.fresh;
}

enum class Part : uint8_t { coarse, sinks, packed, open };
constexpr Part kParts[] = {Part::coarse, Part::sinks, Part::packed, Part::open};
constexpr DType kCoarse = DType::kivi2;

// What all chains of one side of a cache have in common.
struct SideFormat {
  struct Page {
    DType type;
    size_t bytes;
    int rows;
  };
  kernels::Side side;
  int head_size;
  int sinks, recent, grain;  // rows of the first part; of the open part that stay; that are packed at once
  std::array<Page, 4> pages;
  const kernels::Backend* backend;

  const Page& page(Part part) const noexcept { return pages[static_cast<size_t>(part)]; }
  bool packs() const noexcept { return page(Part::packed).type != page(Part::open).type; }
  bool groups(Part part) const noexcept {  // scales over the rows of a page
    const DType type = page(part).type;
    return side == kernels::Side::keys && (type == DType::kivi4 || type == DType::kivi2);
  }
};

// A quantized side without any float rows is quantized row by row as it comes; kivi's keys never are.
SideFormat side_format(kernels::Side side, DType type, int head_size, const FloatRows& rows,
                       const kernels::Backend& backend);

class KvSide {
 public:
  explicit KvSide(const SideFormat& format) noexcept : format_(&format) {}
  KvSide(const KvSide& other);  // shares the pages
  KvSide(KvSide&& other) noexcept;
  KvSide& operator=(KvSide&& other) noexcept;
  ~KvSide();
  void swap(KvSide& other) noexcept;

  const SideFormat& format() const noexcept { return *format_; }
  const std::vector<kernels::Piece>& pieces() const noexcept { return pieces_; }
  int rows() const noexcept { return rows_[0] + rows_[1] + rows_[2] + rows_[3]; }
  int rows(Part part) const noexcept { return rows_[static_cast<size_t>(part)]; }
  size_t begin(Part part) const noexcept { return part == Part::coarse ? 0 : ends_[static_cast<size_t>(part) - 1]; }
  size_t end(Part part) const noexcept { return ends_[static_cast<size_t>(part)]; }  // of its pieces
  size_t bytes() const noexcept { return page_bytes_ + pieces_.capacity() * sizeof(kernels::Piece); }

  // Takes what extend(n) needs; 0: what settle does, not before, since a prompt in f16 is large enough. Throws
  // Error(out_of_memory) or bad_alloc; the rows are the same then.
  void reserve(int n, PageWork& work);
  void drop_spares() noexcept;
  void shrink();
  void extend(int n, PageWork& work) noexcept;  // n more rows, of undefined content
  // Tells `job` how the last n rows, just extended, are written: from rows of x, page by page from the newest.
  template <class Job>
  void fill(const float* x, size_t ldx, int n, Job&& job) const noexcept {
    for (size_t i = pieces_.size(); n > 0;) {
      const kernels::Piece& piece = pieces_[--i];
      const int take = std::min<int>(n, piece.count);
      n -= take;
      job(kernels::StoreJob{format_->side, piece.type, x + static_cast<size_t>(n) * ldx, ldx, take,
                            const_cast<uint8_t*>(piece.page), piece.first + piece.count - take});
    }
  }
  bool due() const noexcept;  // settle has something to do
  void settle(PageWork& work) noexcept;
  void remove(int index, PageWork& work) noexcept;
  void remove_first(int n, PageWork& work) noexcept;
  KvSide kept(const int32_t* index, int n, PageWork& work) const;  // a chain of these rows only; throws as reserve
  // A chain of rows of this side and of another one of its format, both without a packed part; of each side ascending.
  // Throws as reserve.
  struct Pick {
    bool other;
    int32_t row;
  };
  KvSide picked(const KvSide& other, const std::vector<Pick>& picks, PageWork& work) const;
  // Rows in this order in the coarse part, which begins with those that are there or some of them; of the others these,
  // ascending, as they are. Throws as reserve.
  KvSide coarsened(const std::vector<int32_t>& coarse, const std::vector<int32_t>& others, PageWork& work) const;
  void truncate(int coarse, int others) noexcept;  // the first rows of the coarse part, and of the rest
  void clear(PageWork& work) noexcept;  // no rows, once what reads them is done
  void read(float* out, PageWork& work) const;  // [rows][head_size]; waits for a device, throws as it does
  // Where these rows are, ascending.
  void places(const int32_t* index, int n, PageWork::Place* out) const noexcept;
  // Rows anew, ascending, from x [n][head_size], which stays until the work is handed over: throws Error(unsupported)
  // within a group of kivi keys, which share their scales; out_of_memory.
  void write(const int32_t* index, int n, const float* x, PageWork& work);

  // For loading: one more piece on a page of its own, which the caller fills, or on the page of the last piece.
  uint8_t* add_page(Part part, int first, int count, PageWork& work);
  void add_piece(int first, int count);

 private:
  using Piece = kernels::Piece;
  Part part_of(size_t at) const noexcept {
    size_t part = 0;
    while (part + 1 < ends_.size() && at >= ends_[part]) part++;
    return kParts[part];
  }
  size_t bytes_of(size_t at) const noexcept { return format_->page(part_of(at)).bytes; }
  bool grouped(size_t at) const noexcept { return format_->groups(part_of(at)); }
  int& count(Part part) noexcept { return rows_[static_cast<size_t>(part)]; }
  void close(Part part) noexcept;  // the chain as it stands ends with this part
  int sinks_of(int n) const noexcept;  // rows of n more that are sinks
  // Places that the first page behind the sinks (and as many more) leaves free: all pages then end at multiples of
  // kPageRows.
  int lead(int sinks = 0) const noexcept;
  int due_rows(int open) const noexcept;  // rows that settle packs when the open part has so many
  int tail_room(Part part) const noexcept;  // rows that fit behind the last piece of a part, in its page
  void own_tail(Part part, PageWork& work);
  void extend(Part part, int n, PageWork& work) noexcept;
  bool page_used_beside(size_t at) const noexcept;  // by the piece before or after

  // Changes of the chain. Where memory may be missing the page is taken first, then nothing fails.
  void make_room(size_t more);
  uint8_t* new_page(size_t bytes, PageWork& work);
  void insert(size_t at, Part part, const Piece& piece) noexcept;
  void insert_spare(Part part) noexcept;  // at its end, without rows
  const uint8_t* unlink(size_t at) noexcept;  // gives the page that has to be released
  void drop(size_t at, PageWork& work) noexcept;
  void share(Part part, const Piece& piece);
  void own_page(size_t at, PageWork& work);
  bool try_own_page(size_t at, PageWork& work) noexcept;

  // Rows within pages.
  void move_rows(const Piece& from, int row, const Piece& to, int to_row, int n, PageWork& work) const noexcept;
  void gather(size_t at, int n, int to_row, PageWork& work) const noexcept;  // to the scratch of the work
  void pop_open(int n, PageWork& work) noexcept;
  int pack_group(PageWork& work) noexcept;
  int pack_rows(int n, PageWork& work) noexcept;
  void remove_inside(size_t at, int offset, PageWork& work) noexcept;
  void merge_around(size_t at, PageWork& work) noexcept;
  bool merge(size_t at, PageWork& work) noexcept;
  bool regroup(size_t at, PageWork& work) noexcept;

  // kept (kv_side_keep.cc): a part of the chain, by what becomes of its pages.
  struct Group;
  void keep_parts(Part first, int row, const int32_t* index, int n, PageWork& work, KvSide* next) const;
  void keep_part(Part part, int row, const int32_t* index, int n, PageWork& work, KvSide* next) const;
  void keep_groups(Part part, int row, const int32_t* index, int n, PageWork& work, KvSide* next) const;
  void keep_group(Part part, const Group& group, const int32_t* index, KvSide* next) const;
  void merge_groups(Part part, const Group* groups, size_t n, const int32_t* index, PageWork& work, KvSide* next) const;
  int share_coarse(const std::vector<int32_t>& coarse, KvSide* next) const;
  void cut(Part part, int n) noexcept;

  const SideFormat* format_;
  std::vector<Piece> pieces_;
  std::array<std::vector<uint8_t*>, 4> spares_;  // reserved pages
  size_t page_bytes_ = 0;  // of pages in pieces and spares, each once
  std::array<size_t, 4> ends_{};  // of the pieces of each part
  std::array<int, 4> rows_{};
  PageWork::Mark mark_;  // of what was done to its pages and is not handed over
};

}  // namespace tokensieve
