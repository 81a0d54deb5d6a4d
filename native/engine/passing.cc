// Layers in which some rows of a call take part and the others do not.
//   Passing: p-MoD's routes, ZipVL's sparse attention. The layer never sees the others: they have no row in its cache and
//   nothing of it is computed for them.
//   The last layer: what leaves it is read of the newest row alone, mostly. Of the others only keys and values are made.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/trace.h"
#include "engine/block.h"

namespace tokensieve {

namespace {

// The session's call as if it had these rows alone, for as long as it lives. Their hidden rows lie elsewhere.
class Only {
 public:
  Only(Session& s, const std::vector<int32_t>& places) : session_(s) {
    const Rows& all = s.rows();
    for (int32_t place : places) {
      rows_.source.push_back(all.source[static_cast<size_t>(place)]);
      rows_.offset.push_back(all.offset[static_cast<size_t>(place)]);
      if (!all.size.empty()) rows_.size.push_back(all.size[static_cast<size_t>(place)]);
    }
    rows_.extent = all.extent;
    s.swap_rows(rows_);
  }
  ~Only() { session_.swap_rows(rows_); }
  Only(const Only&) = delete;
  Only& operator=(const Only&) = delete;

 private:
  Session& session_;
  Rows rows_;
};

// x[i] = before[i] + weight * (x[i] - before[i])
void weigh(float* x, const float* before, float weight, size_t d) {
  for (size_t i = 0; i < d; i++) x[i] = before[i] + weight * (x[i] - before[i]);
}

// Newest rows that the last layer runs at least: so many that kernels take the paths that they take for all rows of a
// prompt, and give the same bits.
constexpr int kNewest = 16;

}  // namespace

void Block::keep_rows(int layer) {
  const trace::Span span(trace::Kind::layer, "layer", layer);
  const Look* look = entries_[0]->session->look(layer);
  take_in(layer, look != nullptr && look->ahead > 0 ? Part::all : Part::keys);
}

void Block::run_newest(int layer) {
  const trace::Span span(trace::Kind::layer, "layer", layer);
  take_in(layer, Part::queries);
  give_out(layer);
  feed_forward(layer);
  end(layer);
}

// A layer that does not run all rows of a session's call; false where it should.
bool Stage::run_some(StageEntry& e, int layer, Block& block, float* hidden, const Device& device, Team& team) {
  if (e.session->passing(layer)) {
    run_passing(e, layer, hidden, device, team);
    return true;
  }
  const int newest = newest_rows(e, layer);
  if (newest == e.end - e.begin) return false;
  run_last(e, newest, block, hidden, device, team);
  return true;
}

// Rows of the entry, the newest ones, that have to run a layer: all of them, unless nobody reads others that leave it nor
// looks at what others attend to.
int Stage::newest_rows(const StageEntry& e, int layer) const {
  const Session& s = *e.session;
  const Config& c = model_->config;
  const int all = e.end - e.begin;
  const bool few = layer == c.layers - 1 && !s.peeks() &&
                   (e.head.logits == HeadWish::Logits::none || e.head.logits == HeadWish::Logits::last) &&
                   !s.sums_attention(layer) && c.heads * c.head_size % 16 == 0 &&
                   !s.options().skip_attention[static_cast<size_t>(layer)];
  if (!few) return all;
  const Look* const look = s.look(layer);
  const int looked = look != nullptr ? look->attention_rows : 0;  // of the call
  return std::min(all, std::max(kNewest, e.end - (static_cast<int>(s.rows().source.size()) - looked)));
}

void Stage::run_last(StageEntry& e, int count, Block& block, float* hidden, const Device& device, Team& team) {
  const int layer = model_->config.layers - 1;
  block.keep_rows(layer);
  StageEntry newest;
  newest.session = e.session, newest.begin = e.end - count, newest.end = e.end;
  std::vector<StageEntry*> one{&newest};
  float* x = hidden + static_cast<size_t>(newest.begin - e.begin) * static_cast<size_t>(model_->config.hidden);
  Block last(*this, device, one, x, count, team);
  last.run_newest(layer);
  device.wait();  // for what the block holds
}

void Stage::run_passing(StageEntry& e, int layer, float* hidden, const Device& device, Team& team) {
  const trace::Span span(trace::Kind::layer, "layer", layer);
  Session& s = *e.session;
  const Session::Passing& p = *s.passing(layer);
  const size_t d = static_cast<size_t>(model_->config.hidden);
  const auto first = std::lower_bound(p.run.begin(), p.run.end(), e.begin),
             last = std::lower_bound(first, p.run.end(), e.end);
  const int n = static_cast<int>(last - first);
  const auto row = [&](int32_t place) { return hidden + static_cast<size_t>(place - e.begin) * d; };
  device.wait();  // the host gathers and spreads rows
  if (n > 0) {
    packed_.need(static_cast<size_t>(n) * d * sizeof(float));
    float* x = packed_.as<float>();
    for (int i = 0; i < n; i++) std::memcpy(x + static_cast<size_t>(i) * d, row(first[i]), d * sizeof(float));
    StageEntry part;
    part.session = &s, part.begin = static_cast<int>(first - p.run.begin()), part.end = part.begin + n;
    std::vector<StageEntry*> one{&part};
    const Only only(s, p.run);
    Block block(*this, device, one, x, n, team);
    block.attention(layer);
    std::vector<float> before;
    if (!p.weight.empty()) {
      device.wait();
      before.assign(x, x + static_cast<size_t>(n) * d);
    }
    if (!p.mlp) block.feed_forward(layer);
    device.wait();
    for (int i = 0; i < n; i++) {
      float* own = x + static_cast<size_t>(i) * d;
      const float weight = before.empty() ? 1.f : p.weight[static_cast<size_t>(first[i])];
      if (weight != 1.f && !p.mlp) weigh(own, before.data() + static_cast<size_t>(i) * d, weight, d);
      std::memcpy(row(first[i]), own, d * sizeof(float));
    }
  }
  if (p.mlp) {
    std::vector<StageEntry*> one{&e};
    Block(*this, device, one, hidden, e.end - e.begin, team).feed_forward(layer);
  }
  auto next = first;
  for (int32_t place = e.begin; place < e.end && !p.weight.empty(); place++) {
    if (next != last && *next == place) {
      ++next;
    } else {
      for (size_t i = 0; i < d; i++) row(place)[i] *= p.weight[static_cast<size_t>(place)];
    }
  }
  if (team.stopped()) throw Error(Code::aborted, "[stage] the call was stopped");
  s.ran(layer);
}

}  // namespace tokensieve
