#include "kernels/cuda/recording.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace tokensieve::kernels::cuda {

namespace {

constexpr size_t kAlign = 16, kListAlign = 256;
constexpr size_t kFewest = 4;  // launches worth a graph
constexpr size_t kMostGraphs = 64;  // each holds some tens of KB of the driver's

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

uint64_t mixed(uint64_t hash, uint64_t with) {
  hash = (hash ^ with) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

bool same_extent(const Extent& a, const Extent& b) { return a.x == b.x && a.y == b.y && a.z == b.z; }

}  // namespace

void Launches::clear() noexcept {
  items_.clear();
  places_.clear();
  bytes_.clear();
  kernels_ = 0;
}

void Launches::add(const Launch& launch, const Arguments& arguments) {
  const size_t count = static_cast<size_t>(arguments.count), begin = bytes_.size();
  size_t end = begin;
  for (size_t k = 0; k < count; k++) end += rounded(arguments.sizes[k], kAlign);
  items_.reserve(std::max(items_.size() + 1, items_.capacity()));
  places_.reserve(std::max(places_.size() + count, places_.capacity()));
  bytes_.resize(end);  // the last that may throw; gaps are zero, so that they compare alike
  items_.push_back({launch, places_.size(), begin});
  end = begin;
  for (size_t k = 0; k < count; k++) {
    places_.push_back(end);
    std::memcpy(bytes_.data() + end, arguments.values[k], arguments.sizes[k]);
    end += rounded(arguments.sizes[k], kAlign);
  }
  kernels_ = mixed(kernels_, reinterpret_cast<uintptr_t>(launch.kernel));
}

void Launches::values(size_t i, const uint8_t** to) const noexcept {
  const size_t end = i + 1 < items_.size() ? items_[i + 1].places : places_.size();
  for (size_t k = items_[i].places; k < end; k++) *to++ = bytes_.data() + places_[k];
}

bool Launches::same_kernels(const Launches& other) const noexcept {
  if (kernels_ != other.kernels_ || size() != other.size() || bytes_.size() != other.bytes_.size()) return false;
  for (size_t i = 0; i < size(); i++) {
    if (items_[i].launch.kernel != other.items_[i].launch.kernel) return false;
  }
  return true;
}

bool Launches::same(size_t i, const Launches& other) const noexcept {
  const Launch &a = items_[i].launch, &b = other.items_[i].launch;
  return same_extent(a.grid, b.grid) && same_extent(a.block, b.block) && a.shared == b.shared &&
         std::memcmp(bytes_.data() + items_[i].bytes, other.bytes_.data() + other.items_[i].bytes, bytes_of(i)) == 0;
}

void Launches::set(size_t i, const Launches& other) noexcept {
  items_[i].launch = other.items_[i].launch;
  std::memcpy(bytes_.data() + items_[i].bytes, other.bytes_.data() + other.items_[i].bytes, bytes_of(i));
}

void Recorder::close() noexcept {
  end();
  while (!graphs_.empty()) drop(graphs_.size() - 1);
}

void Recorder::begin() noexcept {
  if (on_) flush();
  driver_.wait_for_block();  // the step before has long been copied
  on_ = true;
  piece_ = at_ = copied_ = 0;
}

void Recorder::end() noexcept {
  flush();
  on_ = false;
}

bool Recorder::add(const Launch& launch, const Arguments& arguments) noexcept {
  if (!on_) return false;
  try {
    launches_.add(launch, arguments);
  } catch (const std::bad_alloc&) {
    flush();
    return false;
  }
  if (launches_.size() == kPiece) flush();
  return true;
}

const void* Recorder::upload(const void* host, size_t bytes) noexcept {
  const size_t size = rounded(bytes, kListAlign);
  if (!on_ || at_ + size > kStepBlock) return nullptr;
  const size_t at = at_;
  if (bytes > 0) std::memcpy(driver_.block() + at, host, bytes);
  at_ += size;
  return driver_.block_there() + at;
}

void Recorder::flush() noexcept {
  if (at_ > copied_) {
    driver_.copy_block(copied_, at_);
    copied_ = at_;
    counts.copies++;
  }
  if (launches_.size() == 0) return;
  Graph* graph = find();
  if (graph == nullptr && takes_graphs_ && launches_.size() >= kFewest && seen_before()) graph = make();
  if (graph && update(*graph)) {
    driver_.run_graph(graph->made);
    graph->used = ++clock_;
    counts.graphs++;
  } else {
    for (size_t i = 0; i < launches_.size(); i++) driver_.launch(launches_, i);
    counts.alone += static_cast<int>(launches_.size());
  }
  launches_.clear();
  piece_++;
}

// Pieces of one step are often alike, each layer's kernels being the same: graphs are kept for their place in it.
Recorder::Graph* Recorder::find() noexcept {
  for (Graph& graph : graphs_) {
    if (graph.piece == piece_ && graph.launches.same_kernels(launches_)) return &graph;
  }
  return nullptr;
}

bool Recorder::seen_before() noexcept {
  constexpr size_t kSeen = sizeof seen_ / sizeof seen_[0];
  const uint64_t key = mixed(launches_.kernels(), piece_ + 1);
  if (std::find(seen_, seen_ + kSeen, key) != seen_ + kSeen) return true;
  seen_[seen_count_++ % kSeen] = key;
  return false;
}

Recorder::Graph* Recorder::make() noexcept {
  if (graphs_.size() == kMostGraphs) {
    const auto oldest = std::min_element(graphs_.begin(), graphs_.end(),
                                         [](const Graph& a, const Graph& b) { return a.used < b.used; });
    drop(static_cast<size_t>(oldest - graphs_.begin()));
  }
  try {
    graphs_.push_back({piece_, launches_, nullptr, clock_});
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  graphs_.back().made = driver_.make_graph(launches_);
  if (graphs_.back().made == nullptr) {
    graphs_.pop_back();
    takes_graphs_ = false;  // and will not be asked again at every step
    return nullptr;
  }
  counts.made++;
  return &graphs_.back();
}

// False, and the graph is gone, where the driver refuses.
bool Recorder::update(Graph& graph) noexcept {
  for (size_t i = 0; i < launches_.size(); i++) {
    if (launches_.same(i, graph.launches)) continue;
    if (!driver_.set_launch(graph.made, launches_, i)) {
      drop(static_cast<size_t>(&graph - graphs_.data()));
      return false;
    }
    graph.launches.set(i, launches_);
    counts.set++;
  }
  return true;
}

void Recorder::drop(size_t i) noexcept {
  driver_.drop_graph(graphs_[i].made);
  if (i + 1 < graphs_.size()) std::swap(graphs_[i], graphs_.back());
  graphs_.pop_back();
}

}  // namespace tokensieve::kernels::cuda
