// The KV cache of one session: pages per layer, KV head and side, ragged, shared copy-on-write between forks and
// snapshots.
//
// One thread at a time changes a cache; rows(), bytes() and layer_bytes() may be read by another meanwhile. Different
// heads may be changed by different threads at once (remove_row, keep_rows, mass). Memory comes from the cache's own
// allocator (page_allocator.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/pool.h"
#include "engine/kv_side.h"
#include "engine/page_work.h"
#include "engine/row_sources.h"
#include "kernels/backend.h"

namespace tokensieve {

// How the rows of a KV head are stored.
struct HeadFormat {
  DType keys = DType::f16, values = DType::f16;  // f32 f16 bf16 q8_0 q4_0 kivi4 kivi2
  FloatRows in_float;  // of quantized types: what stays in f16
};
inline bool operator==(const HeadFormat& a, const HeadFormat& b) noexcept {
  return a.keys == b.keys && a.values == b.values && a.in_float == b.in_float;
}

struct CacheShape : HeadFormat {
  int layers = 0, kv_heads = 0, head_size = 0;
  std::vector<HeadFormat> heads;  // [layers][kv_heads]; empty: all as the shape itself says
  std::vector<uint8_t> holds;  // [layers]: 0 where the layer has no cache (skipped attention); empty: all have

  const HeadFormat& format(size_t head) const noexcept { return heads.empty() ? *this : heads[head]; }
};

// Rows of one KV head: what attention and methods read. Both sides always have the same number of rows.
struct HeadRows {
  RowSources coarse;  // of the rows in the coarse part, which come first
  RowSources source;  // of the others; index into the session's ids, strictly ascending
  std::vector<float> size;  // merged tokens a row stands for; empty: all 1
  std::vector<float> mass;  // accumulated attention, kept where a standing rule asks for it; empty otherwise
  double dropped = 0;  // the mass of rows that were evicted

  size_t rows() const noexcept { return coarse.size() + source.size(); }
  std::vector<int32_t> all() const;  // sources as the rows lie: ascending but for what is coarse
  std::vector<int32_t> order() const;  // rows by their sources; empty where they lie so
  int up_to(int32_t last) const noexcept { return coarse.up_to(last) + source.up_to(last); }
};

// Rows that fold into others, by their indices; entries of one `into` need not lie together.
struct Fold {
  std::vector<int32_t> from, into;
  std::vector<float> weight;
};

// The pieces of one side of a head, in row order.
struct Pieces {
  const kernels::Piece* data;
  int count;
};

class KvCache {
 public:
  // Throws Error(unsupported) where a page would be too big, Error(internal) for float rows below 0 or a residual that
  // is no multiple of kPageRows.
  // stages: on which device the pages of which layers lie, of all layers in order; null: on the processor, whose backend
  // is `host`. What follows is a device's work, in the order of its queue, where one has the layer: nobody waits for it.
  // Several changes may share a batch (page_work.h), of one device; without one each is handed over when it returns.
  KvCache(const CacheShape& shape, const kernels::Backend& host, const std::vector<Placement>* stages = nullptr);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;
  ~KvCache();

  const CacheShape& shape() const noexcept { return shape_; }
  const Device& device(int layer) const noexcept { return stages_[stage_of(layer)].device; }
  bool holds(int layer) const noexcept { return shape_.holds.empty() || shape_.holds[static_cast<size_t>(layer)] != 0; }
  int rows(int layer, int head) const noexcept { return counts_[at(layer, head)].rows.load(std::memory_order_relaxed); }
  const HeadRows& head(int layer, int head) const noexcept { return heads_[at(layer, head)].table; }

  // Makes sure that n more rows can be appended to every head of a layer without allocating; sized: with sizes other
  // than 1; runs: what runs_in says of their sources, where they are known: most rows follow the one before them. Throws
  // Error(out_of_memory), nothing changed.
  void reserve(int layer, int n, bool sized = false, size_t runs = std::numeric_limits<size_t>::max());
  // Appends n rows to every KV head of a layer. k, v: row t, head h at + t * ld + h * head_size, f32. source [n]
  // ascending. size may be null (all 1). Never fails after a reserve with nothing in between. Where sinks or
  // newest rows stay in float, all rows come in f16 and settle quantizes; elsewhere they are stored as what they will
  // stay. A team that is stopped leaves rows of undefined content, v null values of undefined content: for looks at keys.
  // backend: of the device whose memory k and v are in; the team is its.
  void append(const kernels::Backend& backend, int layer, const float* k, size_t ldk, const float* v, size_t ldv, int n,
              const int32_t* source, const float* size, Team& team) noexcept;
  // Quantizes what is neither sink nor recent: in a prompt of T rows attention sees all its rows in float; quantization
  // happens when the prompt is done, after evictions. Called after each call (prompt or step).
  void settle(int layer, PageWork* batch = nullptr) noexcept;

  // Keeps only the rows with these indices (ascending, into the head's present rows); survivors move to fresh full
  // pages, old pages are freed. kivi keys: groups that keep more than kSparseRows rows stay as they are; sparser ones
  // are read back and quantized again together: values move by half a step of the new group at most. Throws only
  // out_of_memory, before anything changed.
  void keep_rows(int layer, int head, const int32_t* index, int n, PageWork* batch = nullptr);
  // Rows of these tokens (ascending) move to the coarse part, in 2 bits; tokens without a row, or with one that is there,
  // are passed over. The others stay as they are, fewer to a page at most. Throws Error(unsupported) for a head size that
  // is no multiple of 32, out_of_memory before anything changed.
  void coarsen(int layer, int head, const std::vector<int32_t>& sources, PageWork* batch = nullptr);
  int coarse_rows(int layer, int head) const noexcept;
  // Rows fold into others, which are written back in the cache's type: row into[i] of a head gets weight[i] times row
  // from[i] added, in double; of itself it keeps 1, or what an entry with from == into says. Values always, keys where
  // asked (throws Error(unsupported) where a kivi group would have to change). sizes: it becomes the mean instead,
  // weighted by weights times sizes, and stands for the rows that it holds too.
  void fold(int layer, int head, const Fold& fold, bool keys, bool sizes, PageWork* batch = nullptr);
  // Rows that are set aside leave what attention reads and can come back bit for bit. After it the head holds exactly the
  // rows `kept` and has set aside exactly `stored`: sources, ascending, apart, each of a row that is here or there. All
  // other rows are gone. Throws Error(plan) for a source that is in neither, Error(unsupported) where rows of two types
  // stand side by side (quantized ones and float ones), out_of_memory; nothing has changed then.
  void open_store();  // before the first exchange, which different heads may do at once; throws out_of_memory
  void exchange(int layer, int head, const std::vector<int32_t>& kept, const std::vector<int32_t>& stored,
                PageWork* batch = nullptr);
  const RowSources& stored(int layer, int head) const noexcept;  // sources of what is set aside
  void read_stored(kernels::Side side, int layer, int head, float* out) const;  // f32 [rows][head_size]
  size_t stored_bytes() const noexcept;  // of bytes()
  // Removes one row: standing rules at decode. The first row of a page (a ring's oldest) costs nothing; else up to 31
  // rows move within the page. Neighbouring pages that fit together become one. Without memory for the copy of a shared
  // page the row still goes, only the page stays; false, and nothing changed, where its run of sources cannot be split.
  bool remove_row(int layer, int head, int index, PageWork* batch = nullptr) noexcept;
  // Removes the first n rows of a head: windows after a long prompt.
  void remove_first(int layer, int head, int n, PageWork* batch = nullptr) noexcept;
  // Forgets rows at the end: keeps rows whose source < tokens.
  void truncate(int tokens) noexcept;

  // What the kernels read; valid until the cache changes. Costs nothing.
  Pieces pieces(kernels::Side side, int layer, int head) const noexcept;
  // Sets keys, values, key_pieces, value_pieces and rows; the rest is left as it is.
  void view(int layer, int head, kernels::View* out) const noexcept;
  // Dequantized rows of one head -> f32 [rows][head_size].
  void read(kernels::Side side, int layer, int head, float* out) const;
  // Rows that are quantized while others are in f16: those behind the first sink_rows. 0 where all rows have one type.
  int packed_rows(kernels::Side side, int layer, int head) const noexcept;
  int sink_rows(kernels::Side side, int layer, int head) const noexcept;

  // [rows], made (zero) on first use, grows and moves with the rows; throws Error(out_of_memory).
  float* mass(int layer, int head);
  std::unique_ptr<KvCache> clone() const;  // shares all pages; throws Error(out_of_memory)
  void swap(KvCache& other) noexcept;  // rollback: snapshot = clone(), on failure swap back. Of one shape only

  size_t bytes()
      const noexcept;  // pages this cache refers to, shared ones included, plus row tables, plus what is set aside
  size_t layer_bytes(int layer) const noexcept;
  void give_back() noexcept;  // after evictions: free pages of partly used slabs go back to the system

  void save(std::string* out) const;  // self-describing, little endian; versioned by the caller
  // Sources must be below `tokens`. Throws Error(file_format) for anything that save does not write,
  // Error(out_of_memory).
  static std::unique_ptr<KvCache> load(const uint8_t* data, size_t bytes, const CacheShape& shape,
                                       const kernels::Backend& host, const std::vector<Placement>* stages = nullptr,
                                       int tokens = std::numeric_limits<int>::max());

 private:
  size_t stage_of(int layer) const noexcept {
    size_t stage = 0;
    while (stage + 1 < stages_.size() && layer >= stages_[stage].to) stage++;
    return stage;
  }
  // The batch that a caller gave, or one of this call's own.
  class Work {
   public:
    Work(const KvCache& cache, int layer, PageWork* given = nullptr) noexcept
        : used_(given ? given : &own_.emplace(cache.device(layer), cache.shape_.head_size)) {
      used_->draw_from(*cache.pages_[cache.stage_of(layer)]);
    }
    PageWork& operator*() const noexcept { return *used_; }

   private:
    std::optional<PageWork> own_;
    PageWork* used_;
  };
  struct Head {
    Head(const SideFormat& k, const SideFormat& v) noexcept : keys(k), values(v) {}
    // Holds these rows from now on; pages of what it held are given back.
    void become(HeadRows& rows, KvSide& k, KvSide& v, PageWork& work) noexcept {
      keys.swap(k), values.swap(v);
      k.clear(work), v.clear(work);
      std::swap(table, rows);
    }
    KvSide keys, values;
    HeadRows table;
    KvSide& side(kernels::Side s) noexcept { return s == kernels::Side::keys ? keys : values; }
    const KvSide& side(kernels::Side s) const noexcept { return s == kernels::Side::keys ? keys : values; }
  };
  struct Formats {  // of the heads, each once
    std::vector<SideFormat> keys, values;
  };
  struct Counts {  // what other threads may read
    std::atomic<int> rows{0};
    std::atomic<size_t> bytes{0}, stored{0};
  };
  size_t at(int layer, int head) const noexcept {
    return static_cast<size_t>(layer) * static_cast<size_t>(shape_.kv_heads) + static_cast<size_t>(head);
  }
  void make_heads(const kernels::Backend& host);
  void publish(size_t head) noexcept;
  void reserve_head(Head& head, int n, bool sized, size_t runs, PageWork& work);
  static void cut_head(Head& head, int tokens) noexcept;
  static void append_table(HeadRows& table, int n, const int32_t* source, const float* size) noexcept;
  class Reader;
  class Writer;
  static void write_head(Writer& out, const Head& head, const Device& device);
  void read_head(Reader& in, Head& head, int tokens, PageWork& work);

  CacheShape shape_;
  std::shared_ptr<const Formats> formats_;  // its address is in every side: forks share it
  std::vector<Placement> stages_;
  std::vector<PageAllocator::Handle> pages_;  // of each stage: a page never changes its queue
  std::vector<Head> heads_;  // [layers][kv_heads]
  std::vector<Head> stored_;  // the same, or empty where nothing was ever set aside
  std::unique_ptr<Counts[]> counts_;  // the same; stays where it is when contents are swapped
};

size_t page_allocator_bytes() noexcept;  // memory that the caches of the process hold: what must fall after an eviction

}  // namespace tokensieve
