// What the pool needs of the operating system.
#pragma once

namespace tokensieve {

// A detached thread that takes no signals meant for the program. False where the system gives no more threads.
bool start_thread(void (*body)(void*) noexcept, void* argument) noexcept;

inline void pause_processor() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace tokensieve
