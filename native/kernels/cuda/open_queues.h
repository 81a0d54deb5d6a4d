// The queues that are open: launches that use a device's memory may still be held back in one when that memory goes.
#pragma once

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#include "core/memory.h"

namespace tokensieve::kernels::cuda {

class OpenQueues {
 public:
  bool add(Queue* queue) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      all_.push_back(queue);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  void remove(Queue* queue) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    all_.erase(std::remove(all_.begin(), all_.end(), queue), all_.end());
  }
  template <class F>
  void each(F&& f) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Queue* queue : all_) f(*queue);
  }

 private:
  std::mutex mutex_;
  std::vector<Queue*> all_;
};

inline OpenQueues& open_queues() noexcept {
  static OpenQueues all;
  return all;
}

}  // namespace tokensieve::kernels::cuda
