// Stands in for simt.cc where a test of a CUDA kernel runs on a card: it has one schedule, its own. The tests hand their own
// arrays to kernels: the card must read all of a process's memory (Linux with HMM and NVIDIA's open kernel modules).
#include "simt/simt.h"

namespace simt {

void set_schedule(Schedule) noexcept {}
void each_schedule(const std::function<void()>& body) { body(); }

}  // namespace simt
