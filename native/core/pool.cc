// Three ideas carry the pool:
//   - Work is claimed from one atomic ticket that holds the number of the run and the tasks left in it, so a worker
//     that wakes late can never take a task of a run that is over, and nobody waits for workers that got nothing to do.
//   - A worker is handed to the next team at once, even while it is still leaving the last one: its mailbox holds one
//     crew.
//   - What a team shares lives as long as its last reference, so a team may end without waiting for its workers.
// Waiting is a short spin, then sleep. Workers are detached, never end and own nothing: they neither keep the process
// alive nor take part in its exit. fork() without exec is not supported.
#include "core/pool.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#include "core/thread.h"
#include "core/trace.h"

namespace tokensieve {

namespace {

using Microseconds = std::chrono::microseconds;

// Longer than the gap between two kernels or two stage calls, shorter than anyone would notice.
constexpr Microseconds kSpin{150};
constexpr Microseconds kSpinCrowded{5};  // more threads than processors: give the processor away

constexpr uint64_t kClosed = ~uint64_t{0};
constexpr uint32_t left(uint64_t ticket) { return static_cast<uint32_t>(ticket); }
constexpr uint32_t run_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

template <class Ready>
bool spin(Microseconds limit, Ready ready) noexcept {
  const auto end = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      pause_processor();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// Who announced that it will sleep holds the mutex until it does: once through here, a notification reaches it.
void let_sleep(std::mutex& mutex) noexcept { const std::lock_guard<std::mutex> lock(mutex); }

struct Worker {
  std::atomic<Crew*> mailbox{nullptr};  // holds a reference
  std::atomic<bool> asleep{false};
  std::mutex mutex;
  std::condition_variable wake;
  Worker* next = nullptr;  // in the idle list or in its crew's; guarded by Pool::mutex_

  void assign(Crew* crew) noexcept;
  Crew* await() noexcept;
};

}  // namespace

struct Crew {
  Crew(const std::atomic<bool>* stop_flag, Microseconds spin_limit) : stop(stop_flag), limit(spin_limit) {}

  alignas(64) std::atomic<uint64_t> ticket{0};  // run << 32 | tasks left to hand out
  // Of the current run. Read before a task is claimed: the claim succeeds only if the run is still this one.
  std::atomic<Team::Task> task{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<int> tasks{0};
  std::atomic<const char*> name{nullptr};  // what the caller is doing, while a trace is on
  std::atomic<int32_t> layer{-1};
  const std::atomic<bool>* const stop;
  const Microseconds limit;
  int workers = 0;
  Worker* members = nullptr;

  alignas(64) std::atomic<int> unfinished{0};
  std::atomic<bool> caller_asleep{false};
  std::atomic<int> sleepers{0};
  std::atomic<int> seats{1};
  std::atomic<int> references{1};
  std::mutex mutex;
  std::condition_variable work_came, work_done;

  void serve() noexcept;
  void work(uint32_t run, int seat) noexcept;
  void finish(int done) noexcept;
  void publish(int count, Team::Task function, void* argument) noexcept;
  uint64_t await_ticket(uint32_t seen) noexcept;
  void await_done() noexcept;
  void announce(uint64_t value, int hands) noexcept;
  trace::Label label() const noexcept {
    return {name.load(std::memory_order_relaxed), layer.load(std::memory_order_relaxed)};
  }
  void release() noexcept {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
};

namespace {

class Pool {
 public:
  static Pool& instance() {
    static Pool* const pool = new Pool;  // never destroyed: workers may be asleep in it while the process exits
    return *pool;
  }
  Crew* hire(int workers, const std::atomic<bool>* stop) noexcept;
  void dismiss(Crew* crew) noexcept;

 private:
  Worker* create() noexcept;

  std::mutex mutex_;
  Worker* idle_ = nullptr;
  int created_ = 0, limit_ = std::max(0, physical_cores() - 1);
  int busy_ = 0;  // threads in teams, callers included
  const int processors_ = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
};

// ---- a worker -----------------------------------------------------------------------------------------------------

void Worker::assign(Crew* crew) noexcept {
  // A crew still in the mailbox has ended before this worker looked: its reference is dropped for it.
  if (Crew* missed = mailbox.exchange(crew)) missed->release();
  if (!asleep.load()) return;
  let_sleep(mutex);
  wake.notify_one();
}

Crew* Worker::await() noexcept {
  if (!spin(kSpin, [&] { return mailbox.load(std::memory_order_relaxed) != nullptr; })) {
    std::unique_lock<std::mutex> lock(mutex);
    asleep.store(true);
    wake.wait(lock, [&] { return mailbox.load() != nullptr; });
    asleep.store(false);
  }
  return mailbox.exchange(nullptr);
}

void worker_main(void* argument) noexcept {
  Worker& self = *static_cast<Worker*>(argument);
  for (;;) self.await()->serve();
}

Worker* Pool::create() noexcept {
  Worker* const worker = new (std::nothrow) Worker;
  if (worker && start_thread(worker_main, worker)) return worker;
  delete worker;
  return nullptr;
}

// At most `workers`; null where there is none to be had.
Crew* Pool::hire(int workers, const std::atomic<bool>* stop) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  limit_ = std::max(limit_, workers);
  const bool crowded = busy_ + workers + 1 > processors_;
  Crew* const crew = new (std::nothrow) Crew(stop, crowded ? kSpinCrowded : kSpin);
  if (!crew) return nullptr;
  while (crew->workers < workers) {
    Worker* worker = idle_;
    if (worker) {
      idle_ = worker->next;
    } else {
      if (created_ >= limit_ || !(worker = create())) break;
      ++created_;
    }
    worker->next = crew->members;
    crew->members = worker;
    ++crew->workers;
  }
  if (!crew->members) {
    crew->release();
    return nullptr;
  }
  busy_ += crew->workers + 1;
  crew->references.store(crew->workers + 1, std::memory_order_relaxed);
  for (Worker* worker = crew->members; worker; worker = worker->next) worker->assign(crew);
  return crew;
}

void Pool::dismiss(Crew* crew) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    busy_ -= crew->workers + 1;
    while (Worker* const worker = crew->members) {
      crew->members = worker->next;
      worker->next = idle_;
      idle_ = worker;
    }
  }
  crew->announce(kClosed, crew->workers);
  crew->release();
}

}  // namespace

// ---- a crew -------------------------------------------------------------------------------------------------------

void Crew::serve() noexcept {
  const int seat = seats.fetch_add(1, std::memory_order_relaxed);
  uint32_t seen = 0;
  for (uint64_t now = await_ticket(seen); now != kClosed; now = await_ticket(seen)) {
    seen = run_of(now);
    work(seen, seat);
  }
  release();
}

void Crew::work(uint32_t run, int seat) noexcept {
  const int64_t begin = trace::on() ? trace::now() : 0;
  int done = 0;
  uint64_t now = ticket.load(std::memory_order_acquire);
  while (run_of(now) == run && left(now) != 0) {
    const Team::Task function = task.load(std::memory_order_relaxed);
    void* const argument = context.load(std::memory_order_relaxed);
    const int index = tasks.load(std::memory_order_relaxed) - static_cast<int>(left(now));
    if (!ticket.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    if (!stop || !stop->load(std::memory_order_relaxed)) function(argument, index, seat);
    ++done;
    now = ticket.load(std::memory_order_acquire);
  }
  if (!done) return;
  if (begin) trace::add(trace::Kind::work, label(), begin);  // before the caller may go on
  finish(done);
}

void Crew::finish(int done) noexcept {
  if (unfinished.fetch_sub(done) != done || !caller_asleep.load()) return;
  let_sleep(mutex);
  work_done.notify_one();
}

void Crew::publish(int count, Team::Task function, void* argument) noexcept {
  task.store(function, std::memory_order_relaxed);
  context.store(argument, std::memory_order_relaxed);
  tasks.store(count, std::memory_order_relaxed);
  if (trace::on()) {
    const trace::Label own = trace::label();
    name.store(own.name, std::memory_order_relaxed);
    layer.store(own.layer, std::memory_order_relaxed);
  }
  unfinished.store(count, std::memory_order_relaxed);
  const uint32_t run = (run_of(ticket.load(std::memory_order_relaxed)) + 1) & 0x7fffffffu;  // never that of kClosed
  announce(uint64_t{run} << 32 | static_cast<uint32_t>(count), std::min(count - 1, workers));
  work(run, 0);
  await_done();
}

// Shows a new ticket and wakes as many sleepers as are missing to `hands` awake workers.
void Crew::announce(uint64_t value, int hands) noexcept {
  ticket.store(value);
  const int asleep = sleepers.load();
  const int missing = std::min(asleep, hands - (workers - asleep));
  if (missing <= 0) return;
  let_sleep(mutex);
  for (int i = 0; i < missing; ++i) work_came.notify_one();
}

uint64_t Crew::await_ticket(uint32_t seen) noexcept {
  const trace::Span span(trace::Kind::wait, "wait");
  const auto changed = [&] { return run_of(ticket.load(std::memory_order_acquire)) != seen; };
  if (!spin(limit, changed)) {
    std::unique_lock<std::mutex> lock(mutex);
    sleepers.fetch_add(1);
    work_came.wait(lock, [&] { return run_of(ticket.load()) != seen; });
    sleepers.fetch_sub(1);
  }
  return ticket.load(std::memory_order_acquire);
}

void Crew::await_done() noexcept {
  const trace::Span span(trace::Kind::wait, "wait");
  if (spin(limit, [&] { return unfinished.load(std::memory_order_acquire) == 0; })) return;
  std::unique_lock<std::mutex> lock(mutex);
  caller_asleep.store(true);
  work_done.wait(lock, [&] { return unfinished.load() == 0; });
  caller_asleep.store(false);
}

// ---- a team -------------------------------------------------------------------------------------------------------

Team::Team(int threads, const std::atomic<bool>* stop, Queue* queue) noexcept : stop_(stop), queue_(queue) {
  if (threads > 1) crew_ = Pool::instance().hire(threads - 1, stop);
  if (crew_) size_ = crew_->workers + 1;
}

Team::~Team() {
  if (crew_) Pool::instance().dismiss(crew_);
}

bool Team::stopped() const noexcept { return stop_ && stop_->load(std::memory_order_relaxed); }

void Team::run(int tasks, Task task, void* context) noexcept {
  if (crew_ && tasks > 1) return crew_->publish(tasks, task, context);
  for (int i = 0; i < tasks && !stopped(); ++i) task(context, i, 0);
}

}  // namespace tokensieve
