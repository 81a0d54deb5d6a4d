// A team whose work waits in the queue of an emulated device until somebody waits for it.
#pragma once

#include <stdexcept>

#include "kernels/backend.h"

namespace kernel_test {

class DeviceTeam {
 public:
  DeviceTeam() : memory_(backend().memory), queue_(memory_->open_queue(memory_->device)), team_(1, nullptr, queue_) {}
  ~DeviceTeam() { memory_->close_queue(queue_); }
  DeviceTeam(const DeviceTeam&) = delete;
  DeviceTeam& operator=(const DeviceTeam&) = delete;

  static const tokensieve::kernels::Backend& backend() { return *tokensieve::kernels::cuda_backend(0); }
  tokensieve::Team& team() { return team_; }
  void wait() {
    const char* const failed = memory_->wait(queue_);
    if (failed) throw std::runtime_error(failed);
  }

 private:
  const tokensieve::Memory* memory_;
  tokensieve::Queue* queue_;
  tokensieve::Team team_;
};

}  // namespace kernel_test
