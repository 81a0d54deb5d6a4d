#include <algorithm>
#include <cstdio>
#include <thread>

#include "core/pool.h"

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace tokensieve {

namespace {

int logical_cores() noexcept { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#if defined(__linux__)

// Whether `cpu` is the lowest allowed hyperthread of its core. The list reads "0,64" or "0-1".
bool leads_its_core(int cpu, const cpu_set_t& allowed) noexcept {
  char path[96];
  std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
  std::FILE* const file = std::fopen(path, "r");
  if (!file) return true;
  bool leads = true;
  int first, last;
  char separator;
  while (leads && std::fscanf(file, "%d", &first) == 1) {
    last = first;
    if (std::fscanf(file, "%c", &separator) == 1 && separator == '-') {
      if (std::fscanf(file, "%d%c", &last, &separator) < 1) break;
    }
    for (int sibling = std::max(0, first); sibling <= last && sibling < cpu; ++sibling) {
      if (CPU_ISSET(sibling, &allowed)) leads = false;
    }
  }
  std::fclose(file);
  return leads;
}

int allowed_cores() noexcept {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return logical_cores();
  int cores = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed) && leads_its_core(cpu, allowed)) ++cores;
  }
  return std::max(1, cores);
}

// The numbers at the start of a file; how many there were (none where it says "max").
int read_numbers(const char* path, long long* first, long long* second) noexcept {
  std::FILE* const file = std::fopen(path, "r");
  if (!file) return 0;
  const int read = std::fscanf(file, "%lld %lld", first, second);
  std::fclose(file);
  return std::max(0, read);
}

// A container's share of processor time, in whole cores; a spinning thread too many would be paid for by the others.
int quota_cores() noexcept {
  long long quota = 0, period = 0, unused;
  if (read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period) != 2) {
    read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, &unused);  // version 1; -1: no limit
    read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, &unused);
  }
  if (quota <= 0 || period <= 0) return 1 << 20;
  return static_cast<int>(std::clamp((quota + period / 2) / period, 1ll, 1ll << 20));
}

int count_cores() noexcept { return std::min(allowed_cores(), quota_cores()); }

#elif defined(__APPLE__)

int count_cores() noexcept {
  // Efficiency cores hold the others up at every barrier.
  for (const char* const name : {"hw.perflevel0.physicalcpu", "hw.physicalcpu"}) {
    int cores = 0;
    size_t bytes = sizeof cores;
    if (sysctlbyname(name, &cores, &bytes, nullptr, 0) == 0 && cores > 0) return cores;
  }
  return logical_cores();
}

#else

int count_cores() noexcept { return logical_cores(); }

#endif

}  // namespace

int physical_cores() noexcept {
  static const int cores = count_cores();
  return cores;
}

}  // namespace tokensieve
