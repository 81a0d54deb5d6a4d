// The process's worker threads. A stage call takes a Team for its duration: the calling thread and up to threads - 1
// idle workers. Work is cut by the caller into tasks whose results do not depend on who runs them or in which order, so
// a team may be smaller than asked for (other models are busy) and nothing changes but the time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tokensieve {

struct Queue;  // of a device: core/memory.h
struct Crew;  // the workers of a team and what they share (pool.cc)

class Team {
 public:
  // threads >= 1; stop (may be null): once true, tasks not yet begun are skipped. queue: to which the kernels of a
  // device hand their work.
  explicit Team(int threads, const std::atomic<bool>* stop = nullptr, Queue* queue = nullptr) noexcept;
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const noexcept { return size_; }
  bool stopped() const noexcept;
  Queue* queue() const noexcept { return queue_; }

  // Runs task(context, index, worker) for every index in [0, tasks), handed out one by one; returns when all are done.
  // worker in [0, size()) names the thread, for scratch. Never throws; a task must not, nor may it use its own team.
  // One task, or a team of one: in the calling thread, without any synchronisation.
  using Task = void (*)(void* context, int index, int worker);
  void run(int tasks, Task task, void* context) noexcept;

  // The same for a lambda void(int index, int worker). Not for units compiled for an instruction set.
  template <class F>
  void each(int tasks, F&& f) noexcept {
    run(tasks, [](void* c, int i, int w) { (*static_cast<typename std::remove_reference<F>::type*>(c))(i, w); }, &f);
  }

 private:
  Crew* crew_ = nullptr;  // null in a team of one
  const std::atomic<bool>* stop_;
  Queue* queue_;
  int size_ = 1;
};

// Cores that this process may use: hyperthreads count once; affinity and a container's CPU quota are respected.
int physical_cores() noexcept;

}  // namespace tokensieve
