// Where layers run: the processor, or a card with a queue of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/memory.h"
#include "kernels/backend.h"

namespace tokensieve {

struct Device {
  const kernels::Backend* backend = nullptr;
  std::shared_ptr<Queue> queue;  // null: the processor

  const Memory* memory() const noexcept { return backend->memory; }
  // Until all that was handed to its queue is done: before the host reads or changes what kernels write or read. Throws
  // Error(device).
  void wait() const;
  // Numbers of the host's for the kernels that are handed over after this.
  void send(const float* from, float* to, size_t n) const noexcept;
  // Where the host may read numbers of the device's after the next wait, until it fetches again after that.
  const float* fetch(const float* from, size_t n) const noexcept;
};

// While it lives, what a device's queue is given may be held back and go to it in larger pieces: the many launches of a
// decode step. Whoever needs results waits for the device as ever.
class HeldBack {
 public:
  HeldBack(const Device& device, bool wanted) noexcept : device_(wanted && device.queue ? &device : nullptr) {
    if (device_) device_->memory()->begin(device_->queue.get());
  }
  ~HeldBack() {
    if (device_) device_->memory()->end(device_->queue.get());
  }
  HeldBack(const HeldBack&) = delete;
  HeldBack& operator=(const HeldBack&) = delete;

 private:
  const Device* device_;
};

// Layers [from, to) of a model.
struct Placement {
  int from = 0, to = 0;
  Device device;
  std::string why{};  // of what `fit` gave: which cards it left out and what is wrong with them
};

// What a user asks for; card < 0: the processor.
struct PlacementWish {
  int from = 0, to = 0, card = -1;  // to < 0: the last layer
};

// layer_bytes [layers]: what each will take. No wishes: all on the processor. `fit`: cards take as many of the first
// layers as have room, the processor the rest; a card that fails its check (engine/card_check.h) takes none. Throws
// Error(device) for wishes that do not cover all layers once and for cards that are not there or fail their check,
// Error(out_of_memory) where the layers wished for a card have no room.
struct PlacementPlan {
  std::vector<PlacementWish> wishes;
  bool fit = false;
};
std::vector<Placement> place_layers(const PlacementPlan& plan, const std::vector<size_t>& layer_bytes,
                                    const kernels::Backend& host);

}  // namespace tokensieve
