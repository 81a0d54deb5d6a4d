// PageRank over the attention of a layer that has not run: what AIM goes by. No matrix is held but a block of lines at a time.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "engine/block.h"

namespace tokensieve {

// The rank of the rows of a call in each query head: d <- d M, from all equal, where M is the softmax of the layer's
// scores over a temperature. What rows give to those of earlier calls is lost.
class Stage::Ranking {
 public:
  Ranking(Stage& stage, Session& s, int layer, float temperature, Team& team)
      : stage_(stage), model_(*stage.model_), device_(model_.device(layer)), team_(team) {
    const Config& c = model_.config;
    rows_ = s.rows().source.size();
    std::vector<int32_t> all(rows_);
    for (size_t i = 0; i < rows_; i++) all[i] = static_cast<int32_t>(i);
    probed_ = stage.project(s, layer, all, team);
    views_.build(s, *probed_.cache, layer, probed_.source.data(), static_cast<int>(rows_));
    group_ = static_cast<size_t>(c.heads / c.kv_heads);
    shape_ = attention_shape(model_);
    shape_.heads = static_cast<int>(group_), shape_.kv_heads = 1, shape_.scale /= temperature;
    int most = 0;
    for (const kernels::View& v : views_.views) most = std::max(most, v.rows);
    if (s.options().repack) stage.late(layer, most, &shape_);
  }

  // sum[j] += rank^2 over the query heads of a KV head
  void add_head(int head, int rounds, double* sum) {
    constexpr size_t kNumbers = size_t{1} << 23;  // of a block of lines
    const size_t held = static_cast<size_t>(views_.views[static_cast<size_t>(head)].rows),
                 step = std::min(rows_, std::max<size_t>(1, kNumbers / (group_ * held)));
    lines_ = stage_.numbers(step * group_ * held);
    std::vector<double> rank(group_ * rows_, 1.0 / static_cast<double>(rows_)), next(rank.size());
    for (int round = 0; round < rounds && !team_.stopped(); round++) {
      std::fill(next.begin(), next.end(), 0.0);
      for (size_t begin = 0; begin < rows_; begin += step) {
        const size_t count = std::min(step, rows_ - begin);
        if (round == 0 || step < rows_) look(head, begin, count, held);
        team_.each(static_cast<int>(group_),
                   [&](int g, int) { hand_on(static_cast<size_t>(g), begin, count, held, rank.data(), next.data()); });
      }
      rank.swap(next);
    }
    for (size_t i = 0; i < rank.size(); i++) sum[i % rows_] += rank[i] * rank[i];
  }

 private:
  // Rows [begin, begin + count) -> lines [count][group][held].
  void look(int head, size_t begin, size_t count, size_t held) {
    const Config& c = model_.config;
    kernels::View view = views_.views[static_cast<size_t>(head)];
    view.first += begin, view.end += begin;
    kernels::AttentionJob job;
    job.ldq = static_cast<size_t>(c.heads * c.head_size), job.n = static_cast<int>(count), job.views = &view;
    job.q = probed_.q.data() + begin * job.ldq + static_cast<size_t>(head) * group_ * static_cast<size_t>(c.head_size);
    stage_.scratch_.need(device_.backend->attention_probe_scratch(shape_, job, team_.size()));
    device_.backend->attention_probe(shape_, job, true, lines_.data(), held, stage_.scratch_.data(), team_);
    device_.wait();
  }

  // The rows of the call are the newest `rows_` of those held.
  void hand_on(size_t g, size_t begin, size_t count, size_t held, const double* rank, double* next) const {
    for (size_t i = 0; i < count; i++) {
      const float* line = lines_.data() + (i * group_ + g) * held + held - rows_;
      const double own = rank[g * rows_ + begin + i];
      for (size_t j = 0; j <= begin + i; j++) next[g * rows_ + j] += own * static_cast<double>(line[j]);
    }
  }

  Stage& stage_;
  const Model& model_;
  const Device& device_;
  Team& team_;
  size_t rows_ = 0, group_ = 1;
  Probed probed_;
  LayerViews views_;
  kernels::AttentionShape shape_;
  Numbers<float> lines_;
};

std::vector<float> Stage::probe_rank(Session& s, int layer, float temperature, int rounds) {
  const Config& c = model_->config;
  Team team(model_->threads, &s.stop(), model_->device(layer).queue.get());
  Ranking ranking(*this, s, layer, temperature, team);
  std::vector<double> sum(s.rows().source.size());
  for (int h = 0; h < c.kv_heads && !team.stopped(); h++) ranking.add_head(h, rounds, sum.data());
  if (team.stopped()) throw Error(Code::aborted, "[probe] the call was stopped");
  std::vector<float> rank;
  for (double one : sum) rank.push_back(static_cast<float>(std::sqrt(one / c.heads)));
  return rank;
}

}  // namespace tokensieve
