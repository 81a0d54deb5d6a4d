// The attention that a stage of layers on a device adds to rows of caches: summed in the device's memory, fetched once
// when the stage ends (4 bytes a row of a head), and added to what the host's tables hold.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/kv_cache.h"

namespace tokensieve {

class CardMass {
 public:
  CardMass() = default;
  ~CardMass() { release(); }
  CardMass(const CardMass&) = delete;
  CardMass& operator=(const CardMass&) = delete;

  // A stage begins that will ask for no more than so many numbers. Throws out_of_memory.
  void begin(const Device& device, size_t numbers);
  // Where attention adds to the rows that a head has now: [rows], zero. Until finish the head keeps its rows.
  float* add(KvCache& cache, int layer, int head);
  void fetch() noexcept;  // behind the stage's work; there after the next wait
  void finish();  // after it. Throws out_of_memory

 private:
  struct Sum {
    KvCache* cache;
    int layer, head, rows;
    size_t at;
  };
  void release() noexcept;

  Device device_;
  float* there_ = nullptr;
  size_t room_ = 0, used_ = 0;
  bool fetched_ = true;  // else numbers of a stage that did not come to its end are there
  std::vector<float> here_;
  std::vector<Sum> sums_;
};

}  // namespace tokensieve
