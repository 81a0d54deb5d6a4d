// What the parts of a card's check share (card_check.cc): the card with a queue, the reference, and numbers that are the
// same every time. A trial that fails throws Error(device), in words that go on from the card's name.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "core/error.h"
#include "engine/device.h"

namespace tokensieve {

struct Trial {
  explicit Trial(const kernels::Backend& backend)
      : card(backend),
        device{&backend,
               std::shared_ptr<Queue>(backend.memory->open_queue(backend.memory->device), backend.memory->close_queue)},
        team(1, nullptr, device.queue.get()) {
    if (!device.queue) throw Error(Code::device, "gives no stream");
  }

  float uniform() {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) / 8388608.f - 1;
  }
  Numbers<float> numbers(size_t n) {  // where both sides read them
    Numbers<float> all(n, card.memory);
    for (float& one : all) one = 1.7f * uniform();
    return all;
  }
  Numbers<float> nothing(size_t n) { return Numbers<float>(n, card.memory); }

  // what: of the work since the last wait.
  void wait(const std::string& what) const {
    const char* const failed = card.memory->wait(device.queue.get());
    if (failed) throw Error(Code::device, "failed at " + what + ": " + failed);
  }

  const kernels::Backend& card;
  const kernels::Backend& exact = kernels::reference_backend();
  Device device;
  Team team, alone{1};
  uint32_t state = 1;
};

// |got - want| <= relative * size, or absolute.
struct Tolerance {
  double relative, absolute;
};

inline void compare(const std::string& what, const float* got, const float* want, const float* size, size_t n,
                    Tolerance most) {
  for (size_t i = 0; i < n; i++) {
    const double off = std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (got[i] == want[i] || off <= most.relative * std::fabs(static_cast<double>(size[i])) + most.absolute) continue;
    char numbers[64];
    std::snprintf(numbers, sizeof numbers, "%.7g where %.7g was expected", static_cast<double>(got[i]),
                  static_cast<double>(want[i]));
    throw Error(Code::device, what + " gave " + numbers);
  }
}

void try_attentions(Trial& t);  // card_check_attention.cc

}  // namespace tokensieve
