#include "core/thread.h"

#include <cstddef>
#include <new>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

namespace tokensieve {

namespace {

struct Start {
  void (*body)(void*) noexcept;
  void* argument;
};

#if !defined(_WIN32)

constexpr size_t kStackBytes = size_t{2} << 20;  // some libraries give a thread no more than 128 kB

void* enter(void* start) noexcept {
  const Start copy = *static_cast<Start*>(start);
  delete static_cast<Start*>(start);
#if defined(__APPLE__)
  pthread_setname_np("tokensieve");
#else
  pthread_setname_np(pthread_self(), "tokensieve");
#endif
  copy.body(copy.argument);
  return nullptr;
}

// All but those that a thread raises by its own fault, and the profiler's.
sigset_t foreign_signals() noexcept {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF}) sigdelset(&set, own);
  return set;
}

#endif

}  // namespace

#if defined(_WIN32)

bool start_thread(void (*body)(void*) noexcept, void* argument) noexcept {
  try {
    std::thread(body, argument).detach();
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

#else

bool start_thread(void (*body)(void*) noexcept, void* argument) noexcept {
  Start* const start = new (std::nothrow) Start{body, argument};
  pthread_attr_t attributes;
  if (!start || pthread_attr_init(&attributes) != 0) {
    delete start;
    return false;
  }
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  const sigset_t blocked = foreign_signals();
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &blocked, &before);  // a new thread inherits the mask
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, enter, start) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (!started) delete start;
  return started;
}

#endif

}  // namespace tokensieve
