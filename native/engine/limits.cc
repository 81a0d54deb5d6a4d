#include "engine/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "core/buffer.h"
#include "core/pool.h"

namespace tokensieve {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr size_t kPart = size_t{4} << 20;  // of one task: threads that are slowed down read less, as in a matmul
constexpr int kReads = 11, kPeaks = 9, kFewest = 3;
constexpr double kPeakSeconds = 0.001;  // of one task
// A card: one task is all of it. It reads more at once and computes longer, or launching would count.
constexpr size_t kCardTimes = 8, kCardShare = 8;  // of the bytes asked for; of its free memory: an eighth
constexpr double kCardPeakSeconds = 0.01;
constexpr double kEnoughSeconds = 1;  // a machine so slow needs no more than the fewest passes

bool is_card(const kernels::Backend& backend) { return backend.memory != nullptr; }

size_t card_bytes(const kernels::Backend& card, size_t bytes) {
  const size_t most = card.memory->free_bytes(card.memory->device) / kCardShare;
  return std::max<size_t>(1, std::min(kCardTimes * bytes, most) / kPart) * kPart;
}

// pass(), most times but where it is slow; seconds of each but the first, which warms up.
template <class F>
std::vector<double> timed(int most, F&& pass) {
  std::vector<double> times;
  double all = 0;
  pass();
  while (static_cast<int>(times.size()) < most && (static_cast<int>(times.size()) < kFewest || all < kEnoughSeconds)) {
    const auto start = Clock::now();
    pass();
    times.push_back(seconds_since(start));
    all += times.back();
  }
  return times;
}

std::vector<double> read_rates(const kernels::Backend& backend, size_t bytes, Team& team) {
  const bool card = is_card(backend);
  const size_t whole = card ? card_bytes(backend, bytes) : std::max<size_t>(1, bytes / kPart) * kPart;
  const size_t part = card ? whole : kPart;
  const int parts = static_cast<int>(whole / part);
  Buffer buffer(whole, card, backend.memory);
  if (!card)
    team.each(parts, [&](int i, int) { std::memset(buffer.data() + static_cast<size_t>(i) * kPart, 1, kPart); });
  std::atomic<uint64_t> seen{0};
  std::vector<double> rates = timed(kReads, [&] {
    team.each(parts,
              [&](int i, int) { seen |= backend.read_memory(buffer.data() + static_cast<size_t>(i) * part, part); });
  });
  for (double& rate : rates) rate = static_cast<double>(whole) / rate;
  return rates;
}

std::vector<double> peak_rates(const kernels::Backend& backend, kernels::Kind kind, Team& team) {
  const bool card = is_card(backend);
  int rounds = card ? 1 : 64;
  for (double time = 0; time < (card ? kCardPeakSeconds : kPeakSeconds) && rounds < 1 << 19;) {
    rounds *= 2;
    const auto start = Clock::now();
    if (backend.peak(kind, rounds) == 0) return {};
    time = seconds_since(start);
  }
  std::vector<double> done(card ? 1 : static_cast<size_t>(4 * team.size()));
  std::vector<double> rates = timed(kPeaks, [&] {
    team.each(static_cast<int>(done.size()),
              [&](int i, int) { done[static_cast<size_t>(i)] = backend.peak(kind, rounds); });
  });
  double all = 0;
  for (const double count : done) all += count;
  for (double& rate : rates) rate = 2 * all / rate;
  return rates;
}

}  // namespace

Limits measure_limits(const kernels::Backend& backend, int threads, size_t bytes) {
  Team team(is_card(backend) ? 1 : threads);
  Limits limits;
  limits.read = read_rates(backend, bytes, team);
  limits.int8 = peak_rates(backend, kernels::Kind::int8, team);
  limits.bf16 = peak_rates(backend, kernels::Kind::bf16, team);
  limits.f32 = peak_rates(backend, kernels::Kind::f32, team);
  return limits;
}

}  // namespace tokensieve
