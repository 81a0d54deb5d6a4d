// What this process holds of the machine's memory.
#pragma once

#include <cstddef>
#include <cstdio>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace check {

// Resident bytes; 0 where the system does not say it, or a sanitizer's own memory would blur it.
inline size_t resident() {
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    long all = 0, here = 0;
    const int read = std::fscanf(file, "%ld %ld", &all, &here);
    std::fclose(file);
    if (read == 2) return static_cast<size_t>(here) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  }
#endif
  return 0;
}

}  // namespace check
