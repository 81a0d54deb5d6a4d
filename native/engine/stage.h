// A stage: rows of a batch of sessions through layers [from, to). One at a time for a model; the caller queues.
#pragma once

#include <memory>
#include <vector>

#include "core/error.h"
#include "engine/card_mass.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace tokensieve {

constexpr int kStageRows =
    512;  // rows of one session that one call takes at most: what an abort or another session waits for

// What is wanted of the rows that leave the last layer.
struct HeadWish {
  enum class Logits : uint8_t { none, last, all, scores } logits = Logits::none;
  Sampler* sampler = nullptr;          // samples from the last row
  std::vector<int32_t> recent;         // ids that the repeat penalty sees
  bool logprob = false;
};

struct StageEntry {
  Session* session = nullptr;
  int begin = 0, end = 0;              // rows of the session's call as they are now
  HeadWish head;
  // results
  std::vector<float>
      logits;  // last: [vocabulary]; all: [rows][vocabulary]; scores: [rows], log-probability of each row's own id given what came before it, NaN where that row is gone
  int token = -1;
  float logprob = 0;
  std::unique_ptr<Error> error;  // this session's call has to be rolled back
};

class Block;

class Stage {
 public:
  explicit Stage(std::shared_ptr<const Model> model);

  // What fails (out_of_memory, aborted) is said by the entries that it concerns: the others have gone on.
  void advance(std::vector<StageEntry>& entries, int from, int to);

  // The entry's head for the newest row of a session that runs no call; nothing runs or changes.
  void speak(StageEntry& entry);

  // Looks into a layer that would run next on the rows of the call as they stand; nothing changes.
  std::vector<float> probe(Session& s, int layer,
                           int rows);  // [rows of the call]: mean over heads, sum over the last `rows` rows
  std::vector<float> probe_keys(Session& s,
                                int layer);  // [rows of the call][head_size]: un-rotated, mean over KV heads
  // The rows of the call in these places (ascending, two at least), by their keys as probe_keys gives them: the even ones
  // of the list find their partners among the odd ones (kernels/partners.h).
  struct Partners {
    std::vector<int32_t> partner;
    std::vector<float> similarity;
  };
  Partners probe_partners(Session& s, int layer, const std::vector<int32_t>& places);
  // Rows of a head of the cache, by source, that look among others of it for the one most like them, keys and values
  // together. Throws Error(plan) where one is not there. Nothing is found where either is empty.
  struct Match {
    std::vector<int32_t> from, into;
  };
  Partners match(Session& s, int layer, int head, const Match& wanted);
  // Of the rows of the call in these places, ascending.
  std::vector<float> probe_rows(
      Session& s, int layer,
      const std::vector<int32_t>& looked);  // [looked][heads][tokens so far and of the call], by source
  std::vector<float> probe_means(Session& s, int layer,
                                 const std::vector<int32_t>& looked);  // [looked][rows of the call]: mean over heads
  // PageRank over the attention of all rows of the call: probe_rank.cc. [rows of the call]
  std::vector<float> probe_rank(Session& s, int layer, float temperature, int rounds);

 private:
  friend class Block;

  // Angles of one rotary for the positions of the rows at hand; kept until the positions change.
  struct Angles {
    std::vector<int32_t> position;
    int length = -1;  // tokens so far, which dynamic scaling depends on
    Numbers<float> cos, sin;  // [rows][rotated / 2]
    std::vector<double> low;  // [rotated / 2][kLow][cos, sin] of the positions below kLow
  };
  // The same for slots 0..: [rotated / 2][rows], read by attention where keys are stored un-rotated.
  struct Slots {
    int rows = 0;
    Numbers<float> cos, sin;
  };

  void reserve_step(StageEntry& entry, int from, int to);
  void embed(const StageEntry& entry, Team& team);
  void copy_rows(const std::vector<StageEntry*>& group, float* hidden, bool together, const Device& device, Team& team);
  void run_group(std::vector<StageEntry*>& group, int from, int to);
  void run_layers(std::vector<StageEntry*>& group, const Placement& layers, float* hidden, int rows, Team& team);
  void prepare_mass(const std::vector<StageEntry*>& group, const Placement& layers);
  void end_steps(const std::vector<StageEntry*>& group);
  void run_head(std::vector<StageEntry*>& group, const float* hidden, Team& team);
  void answer(const std::vector<StageEntry*>& wishes, Team& team);
  bool take_largest(const std::vector<StageEntry*>& wishes, const Device& device, Team& team);
  bool take_candidates(const std::vector<StageEntry*>& wishes, const Device& device, Team& team);  // candidates.cc
  bool screen(const std::vector<StageEntry*>& wishes, Team& team);
  const float* normalize(const float* hidden, int n, Team& team);  // [n][hidden]
  void head_logits(Arithmetic arithmetic, const float* hidden, int n, float* logits, Team& team);
  void scores(StageEntry& e, const float* hidden, Team& team);
  const Angles& angles(const Device& device, int rotary, const std::vector<int32_t>& position, int length);
  void late(int layer, int rows, kernels::AttentionShape* shape);  // tables of slots [0, rows)
  void apply(const Device& device, const Linear& linear, Arithmetic arithmetic, const Input& in, bool accumulate,
             float* out, size_t ldo, Team& team);
  struct Sides {
    const float* const* rows;
    int count;
  };
  Partners find_partners(Session& s, Sides sides, const std::vector<int32_t>& a, const std::vector<int32_t>& b);
  struct Probed {
    std::unique_ptr<KvCache> cache;  // the session's, with the call's keys appended
    Numbers<float> q;  // [looked rows][heads * head_size]
    std::vector<int32_t> source;  // [looked rows]
  };
  struct Lines {
    size_t stride = 0;
    Numbers<float> values;  // [rows or 1][heads][stride]
  };
  Probed project(Session& s, int layer, const std::vector<int32_t>& looked, Team& team);
  void project_part(int layer, const Linear& part, Arithmetic arithmetic, const float* x, int count, float* out,
                    Team& team);
  void project_keys(Session& s, int layer, int begin, int count, float* k, Team& team);
  void project_queries(Session& s, int layer, const int32_t* places, int count, float* q, Team& team);
  void append_keys(Session& s, int layer, KvCache& cache, Team& team);
  Lines look_through(Session& s, int layer, const Probed& probed, size_t begin, size_t count, bool per_row, Team& team);
  void add_mean(const Probed& probed, int layer, const float* line, size_t stride, float* mean, size_t rows);
  class Ranking;
  // passing.cc
  bool run_some(StageEntry& e, int layer, Block& block, float* hidden, const Device& device, Team& team);
  void run_passing(StageEntry& e, int layer, float* hidden, const Device& device, Team& team);
  int newest_rows(const StageEntry& e, int layer) const;
  void run_last(StageEntry& e, int count, Block& block, float* hidden, const Device& device, Team& team);

  Numbers<float> numbers(size_t n) const { return Numbers<float>(n, model_->memory()); }

  std::shared_ptr<const Model> model_;
  std::vector<Angles> angles_;
  std::vector<float> angle_;  // on the host
  std::vector<Slots> slots_;
  std::vector<std::unique_ptr<CardMass>> card_mass_;  // of each of the model's stages
  CardMass* mass_ = nullptr;  // of the one that runs, where it is a card's
  int pause_ = 0, wait_ = 0;  // calls for which the head is not screened, and for how many after it failed
  Buffer hidden_, normed_, qkv_, attended_, gated_, prepared_, scratch_, logits_, tokens_, last_, packed_;
};

}  // namespace tokensieve
