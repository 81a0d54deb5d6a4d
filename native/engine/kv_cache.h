// The KV cache of one session: pages per layer, KV head and side, ragged, shared copy-on-write between forks and snapshots.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "kernels/backend.h"

namespace tokensieve {

struct CacheShape {
  int layers = 0, kv_heads = 0, head_size = 0;
  DType keys = DType::f16, values = DType::f16;   // f32 f16 bf16 q8_0 q4_0 kivi4 kivi2
  int residual = 128;                             // kivi: rows of the float residual (a multiple of kPageRows)
  std::vector<uint8_t> holds;                     // [layers]: 0 where the layer has no cache (skipped attention)
};

// Pages come from slabs that are mapped and unmapped (mmap / VirtualAlloc), one size class each. One allocator a process; it counts.
// A page is reference counted: a snapshot or fork shares it, a write to a shared page copies it first.
class PageAllocator;

// Rows of one KV head: what attention and methods read. Both sides always have the same number of rows.
struct HeadRows {
  std::vector<int32_t> source;   // index into the session's ids, ascending
  std::vector<float> size;       // merged tokens a row stands for; empty: all 1
  std::vector<float> mass;       // accumulated attention, kept where a standing rule asks for it; empty otherwise
};

class KvCache {
 public:
  KvCache(const CacheShape& shape, const kernels::Backend& backend);
  ~KvCache();

  const CacheShape& shape() const noexcept;
  int rows(int layer, int head) const noexcept;
  const HeadRows& head(int layer, int head) const noexcept;

  // Makes sure that n more rows can be appended to every head of a layer without allocating; throws Error(out_of_memory), nothing changed.
  void reserve(int layer, int n);
  // Appends n rows to every KV head of a layer. k, v: row t, head h at + t * ld + h * head_size, f32. source [n] ascending. size may be null (all 1).
  // Never fails after reserve. kivi: rows go to the float residual; full groups are quantized as the card says (settle).
  void append(int layer, const float* k, size_t ldk, const float* v, size_t ldv, int n, const int32_t* source, const float* size, Team& team) noexcept;
  // kivi: in a prompt of T rows attention sees all its rows in float; quantization happens when the prompt is done. Called after each call (prompt or step); other types: nothing.
  void settle(int layer) noexcept;

  // Keeps only the rows with these indices (ascending, into the head's present rows); survivors move to fresh pages, old pages are freed. kivi: quantized key groups are
  // de- and re-quantized where a group is broken. Throws only out_of_memory, before anything changed.
  void keep_rows(int layer, int head, const int32_t* index, int n);
  // Removes one row by moving the later ones of its page chain: standing rules at decode. Cost is bounded by the rows behind `index`; see implementation for the ring form.
  void remove_row(int layer, int head, int index) noexcept;
  // Forgets rows at the end: keeps rows whose source < tokens.
  void truncate(int tokens);
  // Merged rows: replaces the values/keys of rows by weighted means (CaM form) is not here yet; sizes are set by append.

  // Pieces for the kernels; valid until the cache changes. keys and values of one head.
  void pieces(int layer, int head, std::vector<kernels::Piece>* keys, std::vector<kernels::Piece>* values) const;
  // Dequantized rows of one head -> f32 [rows][head_size].
  void read(kernels::Side side, int layer, int head, float* out) const;

  float* mass(int layer, int head);                 // [rows], made (zero) on first use, grows and moves with the rows
  std::unique_ptr<KvCache> clone() const;           // shares all pages
  void swap(KvCache& other) noexcept;               // rollback: snapshot = clone(), on failure swap back

  size_t bytes() const noexcept;                    // pages this cache refers to, shared ones included, plus row tables
  size_t layer_bytes(int layer) const noexcept;
  void give_back();                                 // after evictions: free pages of partly used slabs go back to the system

  void save(std::string* out) const;                // versioned by the caller
  static std::unique_ptr<KvCache> load(const uint8_t* data, size_t bytes, const CacheShape& shape, const kernels::Backend& backend);  // throws Error(file_format)
};

size_t page_allocator_bytes() noexcept;             // mapped by all caches of the process: what must fall after an eviction

}  // namespace tokensieve
