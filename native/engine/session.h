// One session: its cache, its positions, and the call that is under way. A call is begin, stages, commit; or rollback, after which nothing has happened.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/expected.h"
#include "engine/kv_cache.h"
#include "engine/model.h"

namespace tokensieve {

constexpr int kMostTokens = 1 << 30;  // of a session, evicted ones included

// The cache of a KV head.
struct HeadKv : HeadFormat {
  // It holds keys (not with repack) or values that went through the Hadamard transform (kernels/hadamard.h): queries
  // go through it too, and what was attended comes back. What methods see is as without.
  bool hadamard_keys = false, hadamard_values = false;
};
inline bool operator==(const HeadKv& a, const HeadKv& b) noexcept {
  return static_cast<const HeadFormat&>(a) == b && a.hadamard_keys == b.hadamard_keys &&
         a.hadamard_values == b.hadamard_values;
}

struct SessionOptions {
  // Where the model's products are fine (linear.h); prompts: in the layers, of calls of more than one token.
  enum class Fine : uint8_t { none, prompts, all } fine = Fine::none;
  int context_length = 0;  // rows that may be live at once
  std::vector<HeadKv> kv;  // [layers][kv_heads], or one that all heads are like; empty: f16
  std::vector<uint8_t> skip_attention, skip_mlp;  // [layers]
  std::vector<uint8_t> skip_heads;  // [layers][heads] or empty: query heads that give nothing
  bool repack = false;  // keys are stored un-rotated and rotated by their slot
};

// A rule that is applied after every decode step of its layer. Its budget is `tokens` rows, or `share` of the tokens so far that the layer may hold (all, or its window) where tokens is 0
// (rounded up, at least 1).
struct Rule {
  enum class Kind : uint8_t { none, window, mass } kind = Kind::none;
  int sinks = 0;  // window: the first rows stay
  double recent = 0;  // mass: share of the budget for the newest rows, rounded up
  int tokens = 0;
  double share = 0;
  double max_dropped =
      1;  // of all attention that a head's rows gathered, the share that may go; more rows stay where more would

  int budget(int held_tokens) const;
};

// What a method looks at in one layer while a call runs.
struct Look {
  int layer = 0;
  int attention_rows = 0;  // probabilities of the last so many rows of the call, summed
  bool column_sums = false;
  std::vector<int32_t> unsummed;  // KV heads whose sums nobody asks for
  int ahead = 0;  // positions for which the attention of queries like the call's is expected; 0: nobody asks
  int skip = 0;  // the session's first so many tokens are no part of that
  bool key_norms = false;  // of keys as they come, before they are stored
};

// Rows that stand where ids have none of their own: of patches, whose ids are below 0.
struct Features {
  std::vector<int32_t> places;  // in the call's ids, ascending
  std::vector<float> rows;  // [places][hidden size]
};

// The rows of a call as they stand between two layers.
struct Rows {
  std::vector<int32_t> source;  // [n], ascending
  std::vector<int32_t> offset;  // [n]: position relative to the layer's next position
  std::vector<float> size;  // [n] or empty: all 1
  int extent = 0;  // positions that the call takes up in the layers to come
  Buffer hidden;  // [n][hidden size]
};

// What an eviction folds into the rows that stay: kv_cache.h.
struct Folds {
  std::vector<Fold> heads;
  bool keys = false, sizes = false;
};

// Throws Error(unsupported) where a layer has rows that a method made coarse.
void need_no_coarse(const KvCache& cache, int layer);

class Session {
 public:
  Session(std::shared_ptr<const Model> model, const SessionOptions& options);

  const Model& model() const { return *model_; }
  const SessionOptions& options() const { return options_; }
  int tokens() const { return tokens_; }
  int live_rows() const;  // of the KV head that holds the most
  const HeadKv& kv(int layer, int head) const;
  Arithmetic arithmetic() const;  // of the layers, for the call that runs
  Arithmetic head_arithmetic() const;  // of what makes logits of a row
  bool gives(int layer, int head) const {  // a query head
    const size_t at = static_cast<size_t>(layer * model_->config.heads + head);
    return options_.skip_heads.empty() || options_.skip_heads[at] == 0;
  }
  bool hears(int layer, int kv_head) const {  // one of the query heads that read a KV head gives something
    const int group = model_->config.heads / model_->config.kv_heads;
    for (int h = kv_head * group; h < (kv_head + 1) * group; h++) {
      if (gives(layer, h)) return true;
    }
    return false;
  }
  // Heads whose cache is made of it go through the Hadamard transform: n rows, KV head h has `each` heads from
  // rows + h * each * head_size on.
  void hadamard(bool HeadKv::* asks, int layer, float* rows, size_t ld, int n, int each, Team& team) const;
  KvCache& cache() { return *cache_; }
  // cache().read, without any Hadamard transform, rows by their sources.
  void read(kernels::Side side, int layer, int head, float* out) const;
  void read_stored(kernels::Side side, int layer, int head, float* out) const;  // the same of what is set aside
  const KvCache& cache() const { return *cache_; }
  std::atomic<bool>& stop() { return stop_; }

  // ---- a call
  // Throws context_full, plan (an id outside the vocabulary, features that do not fit). A patch needs a feature row, unless it is dropped before the call is embedded. peek: nothing
  // will be kept, so that a single token can be taken back too.
  void begin(std::vector<int32_t> ids, const std::vector<Look>& looks, const Features& features = {},
             bool peek = false);
  bool running() const { return running_; }
  bool peeks() const { return peeks_; }  // the call that runs: somebody will read its rows as they stand
  int call_tokens() const { return static_cast<int>(ids_.size()); }
  const std::vector<int32_t>& ids() const { return ids_; }
  int32_t id(int row) const { return ids_[static_cast<size_t>(rows_.source[static_cast<size_t>(row)] - tokens_)]; }
  bool embeddable(int row) const;  // a token, or a patch that came with a row of features
  Rows& rows() { return rows_; }
  const Rows& rows() const { return rows_; }
  void drop(const std::vector<int32_t>& kept, bool repack);  // sources; plan
  void merge(const std::vector<int32_t>& into, bool repack);
  // In the layer where the call stands some rows take part, the others pass it by (sources; plan). The last row takes part.
  struct Passing {
    int layer = -1;
    std::vector<int32_t> run;  // places of rows that take part, ascending
    bool mlp = false;  // the others go through its MLP
    std::vector<float> weight;  // [rows]: times what the MLP adds, of the others times the row; empty: all 1
  };
  void pass(const std::vector<int32_t>& kept, bool mlp, std::vector<float> weight);
  const Passing* passing(int layer) const { return passing_.layer == layer ? &passing_ : nullptr; }
  void swap_rows(Rows& rows) noexcept { std::swap(rows_, rows); }  // while a layer runs on some of them
  void
  settle();  // after the last stage and all evictions: what the cache does when a call is done; a decode step has done so
  void commit();  // of a prompt: settles first, and gives back the memory of what was evicted
  void rollback() noexcept;

  // ---- observations: mean over the group, summed over the looked rows; [rows of that head], empty where nobody looked
  // All that is of rows is by their sources, whatever their order in the cache.
  std::vector<float> attention(int layer, int kv_head) const;
  std::vector<float> mass(int layer, int kv_head) const;  // what the cache has gathered, or empty
  std::vector<int32_t> sources(int layer, int kv_head) const;  // ascending
  const Look* look(int layer) const;
  float* look_buffer(int layer, size_t* stride);  // [heads][stride], made on first use
  std::vector<QueryStats>& query_stats(int layer);  // [heads], of a layer where somebody looks ahead
  void expect(int layer, int kv_head, std::vector<float> rows);
  std::vector<float> expected(int layer, int kv_head) const;  // [rows of that head] or empty
  // Un-rotated keys of n more rows of the call, head h at k + h * head_size: their norms, where somebody looks.
  void watch_keys(int layer, const float* k, size_t ldk, int n);
  // [rows of that head]: of the call's rows as watched, of others, and where nobody looks, as stored.
  std::vector<float> key_norms(int layer, int kv_head) const;

  // ---- positions
  int next_position(int layer) const { return next_position_[static_cast<size_t>(layer)]; }
  int length(int layer) const {
    return options_.repack ? 0 : next_position(layer) + rows_.extent;
  }  // what dynamic scaling of rotary angles goes by; slots are never scaled
  void ran(int layer);  // the rows of the call went through this layer

  // ---- cache
  struct Eviction {
    int layer;
    std::vector<std::vector<int32_t>> kept;  // sources a head
    Folds folds;  // by source: what the others leave to those before they go
    std::vector<std::vector<int32_t>> stored =
        {};  // a head, or none: what is set aside afterwards; kept may name such rows
  };
  void evict(const std::vector<Eviction>& layers);  // each layer once, all heads of all layers side by side; plan
  // Rows of these tokens, a head each, become coarse: after evictions, before the call's end. Throws plan where tokens do
  // not ascend, unsupported in layers with a window or a standing rule and where keys are rotated late.
  struct Coarsening {
    int layer;
    std::vector<std::vector<int32_t>> sources;
  };
  void coarsen(const std::vector<Coarsening>& layers);
  void set_rule(int layer, const Rule& rule);  // unsupported where rows are coarse
  const Rule& rule(int layer) const { return rules_[static_cast<size_t>(layer)]; }
  bool may_go(const Rule& rule, int layer, int head, int index);
  bool sums_attention(int layer) const;  // mass is added to the cache's rows
  bool sums_attention(int layer, int kv_head) const;  // to this head's
  // After a decode step, and what a call's end does to a layer: on a device all of it is one launch where layers share a
  // batch, and what a rule decides by (mass) has come to the host with the step.
  void apply_rule(int layer, PageWork& batch);
  void settle(int layer, PageWork& batch);
  void drop_rows() noexcept;
  void trim_window(int layer, PageWork& batch);  // sliding layers: rows that no query will see again

  void truncate(int tokens);
  void reset();
  std::unique_ptr<Session> fork()
      const;  // while a call stands at its end: as if it were done, with the rows that its end gives up

  // ---- prefixes
  // So many of the first tokens have a row in every head of every layer, as a prompt of any length would have stored them.
  int first_rows() const;
  // Makes an empty session begin with the first tokens of another one of the same options, whose rows are shared until one of the two changes them. All of its tokens: as its fork, rules
  // aside. Throws context_full, out_of_memory; nothing has changed then.
  void take(const Session& from, int tokens);
  std::string save() const;
  static std::unique_ptr<Session> restore(std::shared_ptr<const Model> model, const SessionOptions& options,
                                          const uint8_t* data, size_t bytes);

  // Hidden row that left the last layer for the newest token, before the final norm; empty where it is not known (after truncate).
  std::vector<float>& last_hidden() { return last_hidden_; }

 private:
  struct Observed {
    Look look;
    size_t stride = 0;
    Numbers<float> sums;  // [heads][stride]
    std::vector<QueryStats> queries;  // [heads] or empty
    std::vector<std::vector<float>> expected;  // [kv_heads][rows] or empty
    std::vector<std::vector<float>> norms;  // [kv_heads][rows of the call that came to the layer] or empty
  };
  // The fate of a token: the first layer that it did not enter (layers where it ran through), and whether its position stayed taken.
  struct Fate {
    uint16_t layers;
    bool keeps_position;
  };
  void plain(kernels::Side side, int layer, int head, int rows, float* out) const;
  bool remove_few(int layer, int head, const std::vector<int32_t>& kept, PageWork& batch);
  void evict_head(const Eviction& eviction, int head, const std::vector<int32_t>& rows, const Fold& fold,
                  PageWork& batch);
  void need_all_here() const;
  std::vector<float> in_order(int layer, int kv_head, std::vector<float> values, size_t width) const;
  void record_cut(const std::vector<int32_t>& kept, bool repack);
  std::vector<int32_t> positions_after(const std::vector<Fate>& fates) const;  // [layers]
  CacheShape cache_shape() const;

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  std::unique_ptr<KvCache> cache_;
  std::vector<int32_t> next_position_;
  std::vector<Rule> rules_;
  std::vector<Fate> fates_;
  int tokens_ = 0;
  std::vector<float> last_hidden_;
  std::atomic<bool> stop_{false};

  bool running_ = false, peeks_ = false;
  int layer_ = 0;  // where the call stands
  std::vector<int32_t> ids_;
  std::vector<int32_t> featured_;  // places of ids_ that came with a row
  Rows rows_;
  Passing passing_;
  std::vector<Observed> observed_;
  std::vector<int32_t> extents_;  // [layers]: positions taken by the call
  std::unique_ptr<KvCache> backup_;  // of calls of more than one token
  Buffer step_hidden_;  // of the row of a step, between steps
  std::vector<float> backup_hidden_;
  size_t backup_fates_ = 0;
  bool evicted_ = false;  // rows went in this call
};

}  // namespace tokensieve
