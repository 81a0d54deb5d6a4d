#include "engine/device.h"

#include <algorithm>

#include "core/error.h"
#include "engine/card_check.h"

namespace tokensieve {

namespace {

using kernels::Backend;

// Of a card's free memory, for weights: the rest is for caches and what a call needs.
constexpr double kWeightShare = 0.8;

size_t sum(const std::vector<size_t>& bytes, int from, int to) {
  size_t all = 0;
  for (int l = from; l < to; l++) all += bytes[static_cast<size_t>(l)];
  return all;
}

size_t room_on(const Backend& backend) {
  return static_cast<size_t>(static_cast<double>(backend.memory->free_bytes(backend.memory->device)) * kWeightShare);
}

// How many layers from `from` on have room.
int fitting(const std::vector<size_t>& layer_bytes, int from, size_t room) {
  int to = from;
  for (size_t used = 0; to < static_cast<int>(layer_bytes.size()); to++) {
    used += layer_bytes[static_cast<size_t>(to)];
    if (used > room) break;
  }
  return to - from;
}

Device open(int card, const Backend& host) {
  if (card < 0) return {&host, nullptr};
  const Backend* const backend = kernels::cuda_backend(card);
  if (backend == nullptr) {
    const int count = kernels::cuda_devices();
    throw Error(Code::device, "[cuda] expected a card that is there, asked for cuda:" + std::to_string(card) +
                                  ", there " + (count == 1 ? "is 1" : "are " + std::to_string(count)));
  }
  const std::string& fault = card_fault(card);
  if (!fault.empty())
    throw Error(Code::device, std::string("[") + backend->name +
                                  "] expected a card that passes a check of its kernels, but " + fault);
  const Memory& memory = *backend->memory;
  Queue* queue = memory.open_queue(memory.device);
  if (queue == nullptr)
    throw Error(Code::device, std::string("[cuda] expected ") + backend->name + " to give a stream");
  return {backend, std::shared_ptr<Queue>(queue, memory.close_queue)};
}

std::vector<PlacementWish> as_fits(const std::vector<size_t>& layer_bytes, std::string* why) {
  const int layers = static_cast<int>(layer_bytes.size());
  std::vector<PlacementWish> wishes;
  int from = 0;
  for (int card = 0; card < kernels::cuda_devices() && from < layers; card++) {
    const Backend& backend = *kernels::cuda_backend(card);
    const std::string& fault = card_fault(card);
    if (!fault.empty()) {
      *why += (why->empty() ? "" : "; ") + std::string(backend.name) + " is left out: " + fault;
      continue;
    }
    const int count = fitting(layer_bytes, from, room_on(backend));
    if (count > 0) wishes.push_back({from, from + count, card});
    from += count;
  }
  if (from < layers) wishes.push_back({from, layers, -1});
  return wishes;
}

void check(std::vector<PlacementWish>& wishes, int layers) {
  int next = 0;
  for (PlacementWish& wish : wishes) {
    if (wish.to < 0) wish.to = layers;
    if (wish.from != next || wish.to <= wish.from || wish.to > layers) {
      throw Error(Code::device, "[model] expected devices for layers 0 to " + std::to_string(layers) +
                                    ", each once and in order, got layers " + std::to_string(wish.from) + " to " +
                                    std::to_string(wish.to) + " where " + std::to_string(next) + " comes next");
    }
    next = wish.to;
  }
  if (next != layers)
    throw Error(Code::device, "[model] expected devices for " + std::to_string(layers) + " layers, got them for " +
                                  std::to_string(next));
}

}  // namespace

void Device::wait() const {
  if (!queue) return;
  const char* const failed = backend->memory->wait(queue.get());
  if (failed) throw Error(Code::device, std::string("[") + backend->name + "] expected its work to be done: " + failed);
}

void Device::send(const float* from, float* to, size_t n) const noexcept {
  if (queue) return memory()->send(queue.get(), from, to, n);
  std::copy_n(from, n, to);
}

const float* Device::fetch(const float* from, size_t n) const noexcept {
  return queue ? memory()->fetch(queue.get(), from, n) : from;
}

std::vector<Placement> place_layers(const PlacementPlan& plan, const std::vector<size_t>& layer_bytes,
                                    const Backend& host) {
  const int layers = static_cast<int>(layer_bytes.size());
  std::string why;
  std::vector<PlacementWish> wishes = plan.fit ? as_fits(layer_bytes, &why) : plan.wishes;
  if (wishes.empty()) wishes.push_back({0, layers, -1});
  check(wishes, layers);
  std::vector<Placement> placed;
  for (const PlacementWish& wish : wishes) {
    placed.push_back({wish.from, wish.to, open(wish.card, host), why});
    if (wish.card < 0) continue;
    const size_t needed = sum(layer_bytes, wish.from, wish.to), room = room_on(*placed.back().device.backend);
    if (needed <= room) continue;
    const int fit = fitting(layer_bytes, wish.from, room);
    throw Error(Code::out_of_memory, std::string("[") + placed.back().device.backend->name + "] expected " +
                                         std::to_string(needed) + " bytes for the weights of layers " +
                                         std::to_string(wish.from) + " to " + std::to_string(wish.to) + ", there are " +
                                         std::to_string(room) + ": layers " + std::to_string(wish.from) + " to " +
                                         std::to_string(wish.from + fit) + " would fit");
  }
  return placed;
}

}  // namespace tokensieve
