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
constexpr int kReads = 11, kPeaks = 9;
constexpr double kPeakSeconds = 0.001;  // of one task

std::vector<double> read_rates(const kernels::Backend& backend, size_t bytes, Team& team) {
  const int parts = static_cast<int>(std::max<size_t>(1, bytes / kPart));
  Buffer buffer(static_cast<size_t>(parts) * kPart);
  team.each(parts, [&](int i, int) { std::memset(buffer.data() + static_cast<size_t>(i) * kPart, 1, kPart); });
  std::atomic<uint64_t> seen{0};
  std::vector<double> rates;
  for (int pass = 0; pass <= kReads; pass++) {
    const auto start = Clock::now();
    team.each(parts,
              [&](int i, int) { seen |= backend.read_memory(buffer.data() + static_cast<size_t>(i) * kPart, kPart); });
    const double rate = static_cast<double>(parts) * static_cast<double>(kPart) / seconds_since(start);
    if (pass > 0) rates.push_back(rate);  // the first one warms up
  }
  return rates;
}

std::vector<double> peak_rates(const kernels::Backend& backend, kernels::Kind kind, Team& team) {
  int rounds = 64;
  for (double time = 0; time < kPeakSeconds && rounds < 1 << 19;) {
    rounds *= 2;
    const auto start = Clock::now();
    if (backend.peak(kind, rounds) == 0) return {};
    time = seconds_since(start);
  }
  std::vector<double> rates, done(static_cast<size_t>(4 * team.size()));
  for (int pass = 0; pass < kPeaks; pass++) {
    const auto start = Clock::now();
    team.each(static_cast<int>(done.size()),
              [&](int i, int) { done[static_cast<size_t>(i)] = backend.peak(kind, rounds); });
    const double time = seconds_since(start);
    double all = 0;
    for (const double count : done) all += count;
    rates.push_back(2 * all / time);
  }
  return rates;
}

}  // namespace

Limits measure_limits(const kernels::Backend& backend, int threads, size_t bytes) {
  Team team(threads);
  Limits limits;
  limits.read = read_rates(backend, bytes, team);
  limits.int8 = peak_rates(backend, kernels::Kind::int8, team);
  limits.bf16 = peak_rates(backend, kernels::Kind::bf16, team);
  limits.f32 = peak_rates(backend, kernels::Kind::f32, team);
  return limits;
}

}  // namespace tokensieve
