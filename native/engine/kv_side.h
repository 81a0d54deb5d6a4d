// One side (keys or values) of one KV head: its rows in a chain of page pieces, in order.
//
// New rows go to the open part at the end. kivi: the open part is the float residual, and full groups move from its
// front to the packed part before it:
//   pieces   [ packed part: kivi pages ][ open part: f16 pages ]
// Other types have no packed part. Rows are written only into pages that nobody else refers to; a piece may be any
// range of its page, and two pieces of a chain may share a page (rows between them were removed where the page could
// not be written).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/page_allocator.h"
#include "kernels/backend.h"

namespace tokensieve {

constexpr int kSparseRows = 24;  // a group of kivi keys with more rows left than these keeps its page and its scales

// What all chains of one side of a cache have in common.
struct SideFormat {
  kernels::Side side;
  DType open_type, packed_type;  // equal where there is no packed part
  int head_size, residual;
  size_t open_bytes, packed_bytes;  // of a page
  const kernels::Backend* backend;

  bool packs() const noexcept { return packed_type != open_type; }
  bool groups() const noexcept { return packs() && side == kernels::Side::keys; }  // scales over the rows of a page
  size_t page_bytes(DType type) const noexcept { return type == open_type ? open_bytes : packed_bytes; }
};

SideFormat side_format(kernels::Side side, DType type, int head_size, int residual, const kernels::Backend& backend);

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
  int rows() const noexcept { return rows_; }
  int packed_rows() const noexcept { return packed_rows_; }
  size_t packed_pieces() const noexcept { return packed_pieces_; }
  size_t bytes() const noexcept { return page_bytes_ + pieces_.capacity() * sizeof(kernels::Piece); }

  // Takes what extend(n) and the settle after it need. Throws Error(out_of_memory) or bad_alloc; the rows are the same
  // then.
  void reserve(int n, PageAllocator& pages);
  void drop_spares() noexcept;
  void shrink();
  void extend(int n) noexcept;  // n more rows, of undefined content
  void fill(const float* x, size_t ldx, int n) const noexcept;  // writes the last n rows, just extended
  bool due() const noexcept;  // settle has something to do
  void settle(float* scratch) noexcept;  // scratch [kPageRows][head_size]
  void remove(int index, PageAllocator& pages) noexcept;
  void remove_first(int n, PageAllocator& pages) noexcept;
  KvSide kept(const int32_t* index, int n,
              PageAllocator& pages) const;  // a chain of these rows only; throws as reserve
  void truncate(int rows) noexcept;
  void read(float* out) const noexcept;  // [rows][head_size]
  // One row anew: throws Error(unsupported) within a group of kivi keys, which share their scales; out_of_memory.
  void write(int row, const float* x, PageAllocator& pages);

  // For loading: one more piece on a page of its own, which the caller fills, or on the page of the last piece.
  uint8_t* add_page(bool packed, int first, int count, PageAllocator& pages);
  void add_piece(int first, int count);

 private:
  using Piece = kernels::Piece;
  bool grouped(size_t at) const noexcept { return format_->groups() && at < packed_pieces_; }
  int open_rows() const noexcept { return rows_ - packed_rows_; }
  int due_rows(int open) const noexcept;  // rows that settle packs when the open part has so many
  int tail_room(size_t begin, size_t end) const noexcept;  // rows that fit behind the last of these pieces, in its page
  bool page_used_beside(size_t at) const noexcept;  // by the piece before or after

  // Changes of the chain. Where memory may be missing the page is taken first, then nothing fails.
  void make_room(size_t more);
  uint8_t* new_page(size_t bytes, PageAllocator& pages);
  void insert(size_t at, const Piece& piece) noexcept;
  void drop(size_t at) noexcept;
  void share(const Piece& piece);
  void own_page(size_t at, PageAllocator& pages);
  bool try_own_page(size_t at, PageAllocator& pages) noexcept;

  // Rows within pages.
  void move_rows(const Piece& from, int row, const Piece& to, int to_row, int n) const noexcept;
  void gather(size_t at, int n, float* out) const noexcept;
  void store_group(float* scratch, int n, uint8_t* page) const noexcept;
  void pop_open(int n) noexcept;
  void pack_group(float* scratch) noexcept;
  int pack_rows(int n, float* scratch) noexcept;
  void remove_inside(size_t at, int offset, PageAllocator& pages) noexcept;
  void merge_around(size_t at, PageAllocator& pages) noexcept;
  bool merge(size_t at) noexcept;
  bool regroup(size_t at, PageAllocator& pages) noexcept;

  // kept (kv_side_keep.cc): a part of the chain, by what becomes of its pages.
  struct Group;
  void keep_part(size_t from, size_t to, int row, const int32_t* index, int n, PageAllocator& pages,
                 KvSide* next) const;
  void keep_groups(const int32_t* index, int n, PageAllocator& pages, KvSide* next) const;
  void keep_group(const Group& group, const int32_t* index, KvSide* next) const;
  void merge_groups(const Group* groups, size_t n, const int32_t* index, PageAllocator& pages, KvSide* next) const;

  const SideFormat* format_;
  std::vector<Piece> pieces_;
  std::vector<uint8_t*> spare_open_, spare_packed_;  // reserved pages
  size_t page_bytes_ = 0;  // of pages in pieces and spares, each once
  size_t packed_pieces_ = 0;
  int rows_ = 0, packed_rows_ = 0;
};

}  // namespace tokensieve
