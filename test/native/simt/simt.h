// Runs a kernel's threads as fibers on one thread of the host. Fibers give way only where they wait for others, so the
// order in which they run is ours to choose, and no bug hides behind luck:
//
//   fair       every thread to its next wait, in order, over and over
//   greedy     one warp until it can go no further, then the next: finds a barrier that is missing
//   backwards  the same from the last block, warp and lane on
//
// Shared memory comes poisoned, and as a block of its own of just its size, so that ASan sees its ends. Threads that
// wait for each other at different places are an error, never a hang. What it can't see: real divergence, occupancy, and
// the order of memory between threads that do not meet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace simt {

enum class Schedule : uint8_t { fair, greedy, backwards };
void set_schedule(Schedule schedule) noexcept;  // else TOKENSIEVE_SCHEDULE says it; fair where it does not

// body runs under each of the three, or under the one that TOKENSIEVE_SCHEDULE names.
void each_schedule(const std::function<void()>& body);

// A card that is broken, for tests of those who look for that: TOKENSIEVE_FAULT names kernels (a part of their names)
// that do nothing; with a ! in front they end with an error; "mma": products of tensor cores are a hundredth too large
// in one lane.
bool wrong_products() noexcept;

// ---- for device.h -------------------------------------------------------------------------------------------------

constexpr int kSlot = 64;  // bytes that a lane may give to the others

int lane() noexcept;
void* shared_memory() noexcept;
// Waits for all threads of the block that have not ended; returns the sum of their votes.
int block_barrier(int vote);
// Waits for the whole warp; returns what every lane gave, kSlot bytes apart, which stays until the next meeting but one.
const uint8_t* meet(const char* what, unsigned mask, const void* value, size_t bytes);
void copy_later(void* to, const void* from, int bytes, int room);
void commit_copies();
void wait_copies(int left);

// One launch: `kernel` is called once for each thread.
struct Shape {
  unsigned x, y, z;
};
void run(const char* name, Shape grid, Shape block, size_t shared_bytes, const std::function<void()>& kernel);

}  // namespace simt
