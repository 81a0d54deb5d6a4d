// What a stage does for caches whose pages are a card's: room for the attention that rows gather, and the ends of steps.
#include "engine/stage.h"

namespace tokensieve {

void Stage::prepare_mass(const std::vector<StageEntry*>& group, const Placement& layers) {
  if (!mass_) return;
  size_t numbers = 0;
  for (const StageEntry* e : group) {
    for (int l = layers.from; l < layers.to; l++) {
      if (!e->session->sums_attention(l)) continue;
      for (int h = 0; h < model_->config.kv_heads; h++)
        numbers += static_cast<size_t>(e->session->cache().rows(l, h) + e->end - e->begin);
    }
  }
  mass_->begin(layers.device, numbers);
}

// What decode steps do to their caches: the work of a device, all layers and sessions together, which the next step runs behind.
void Stage::end_steps(const std::vector<StageEntry*>& group) {
  for (const Placement& stage : model_->stages) {
    PageWork batch(stage.device, model_->config.head_size);
    for (StageEntry* e : group) {
      if (e->session->call_tokens() > 1) continue;
      for (int l = stage.from; l < stage.to; l++) {
        e->session->apply_rule(l, batch);
        e->session->settle(l, batch);
      }
    }
  }
}

}  // namespace tokensieve
