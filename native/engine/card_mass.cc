#include "engine/card_mass.h"

#include <new>

#include "core/error.h"

namespace tokensieve {

void CardMass::release() noexcept {
  if (there_) device_.memory()->release(device_.memory()->device, reinterpret_cast<uint8_t*>(there_));
  there_ = nullptr, room_ = 0;
}

void CardMass::begin(const Device& device, size_t numbers) {
  const bool moved = device.queue != device_.queue;
  if (moved || numbers > room_) {
    release();
    device_ = device;
    if (numbers == 0) return;
    const size_t room = numbers + numbers / 4;
    here_.resize(room);
    there_ = reinterpret_cast<float*>(device.memory()->allocate_own(device.memory()->device, room * sizeof(float)));
    if (there_ == nullptr)
      throw Error(Code::out_of_memory, "[stage] expected memory on the card for the attention of " +
                                           std::to_string(numbers) + " rows, it gave none");
    room_ = room;
  } else if (!fetched_) {
    device_.memory()->clear(device_.queue.get(), reinterpret_cast<uint8_t*>(there_), used_ * sizeof(float));
  }
  used_ = 0;
  fetched_ = true;
  sums_.clear();
}

float* CardMass::add(KvCache& cache, int layer, int head) {
  const int rows = cache.rows(layer, head);
  const size_t at = used_;
  sums_.push_back({&cache, layer, head, rows, at});
  used_ += static_cast<size_t>(rows);
  fetched_ = false;
  return there_ + at;
}

void CardMass::fetch() noexcept {
  if (used_ == 0 || fetched_) return;
  const Memory& memory = *device_.memory();
  uint8_t* const there = reinterpret_cast<uint8_t*>(there_);
  memory.read(device_.queue.get(), here_.data(), there, used_ * sizeof(float));
  memory.clear(device_.queue.get(), there, used_ * sizeof(float));
  fetched_ = true;
}

void CardMass::finish() {
  for (const Sum& sum : sums_) {
    float* const mass = sum.cache->mass(sum.layer, sum.head);
    for (int row = 0; row < sum.rows; row++) mass[row] += here_[sum.at + static_cast<size_t>(row)];
  }
  sums_.clear();
  used_ = 0;
}

}  // namespace tokensieve
