#include "core/trace.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <new>

namespace tokensieve::trace {

std::atomic<bool> recording{false};

namespace {

// Of one thread. Its own lock: whoever stops a recording reads while workers may still be adding the end of a wait.
struct Lane {
  std::mutex mutex;
  std::vector<Event> events;
  size_t lost = 0;
  int32_t thread = 0;
};

struct Lanes {
  std::mutex mutex;
  std::vector<std::shared_ptr<Lane>> all;  // those of threads that have ended too, until the next start
  int32_t threads = 0;
  int64_t begin = 0;
};

Lanes& lanes() {
  static Lanes* const instance = new Lanes;  // never destroyed: workers outlive the program's statics
  return *instance;
}

Lane& own_lane() {
  thread_local std::shared_ptr<Lane> lane;
  thread_local bool listed = false;
  if (!lane) lane = std::make_shared<Lane>();
  if (!listed) {
    Lanes& of = lanes();
    const std::lock_guard<std::mutex> lock(of.mutex);
    lane->thread = of.threads++;
    of.all.push_back(lane);
    listed = true;
  }
  return *lane;
}

thread_local Label current;

}  // namespace

int64_t now() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool start() noexcept {
  Lanes& of = lanes();
  const std::lock_guard<std::mutex> lock(of.mutex);
  if (recording.load()) return false;
  size_t kept = 0;
  for (std::shared_ptr<Lane>& lane : of.all) {
    if (lane.use_count() == 1) continue;  // its thread has ended
    const std::lock_guard<std::mutex> own(lane->mutex);
    lane->events.clear(), lane->lost = 0;
    if (&of.all[kept] != &lane) of.all[kept] = lane;
    ++kept;
  }
  of.all.resize(kept);
  of.begin = now();
  recording.store(true);
  return true;
}

Recording stop() {
  Lanes& of = lanes();
  const std::lock_guard<std::mutex> lock(of.mutex);
  recording.store(false);
  Recording made;
  made.begin = of.begin, made.end = now();
  for (const std::shared_ptr<Lane>& lane : of.all) {
    const std::lock_guard<std::mutex> own(lane->mutex);
    for (const Event& event : lane->events) {
      if (event.begin >= made.begin) made.events.push_back(event);
    }
    made.lost += lane->lost;
  }
  return made;
}

Label label() noexcept { return current; }

void add(const Event& event) noexcept {
  if (!on()) return;
  try {
    Lane& lane = own_lane();
    const std::lock_guard<std::mutex> lock(lane.mutex);
    if (lane.events.size() >= kMostEvents) {
      ++lane.lost;
      return;
    }
    lane.events.push_back(event);
    lane.events.back().thread = lane.thread;
  } catch (const std::bad_alloc&) {
    // A recording that lacks an event is better than a program that ends.
  }
}

void add(Kind kind, Label label, int64_t begin) noexcept {
  add(Event{label.name, begin, now(), label.layer, 1, 0, 0, 0, kind});
}

void Span::open(Kind kind, const char* name, int layer) noexcept {
  outer_ = current;
  current = {name, layer >= 0 ? layer : outer_.layer};
  event_.name = name, event_.layer = current.layer, event_.kind = kind;
  event_.begin = now();
}

void Span::close() noexcept {
  event_.end = now();
  current = outer_;
  add(event_);
}

}  // namespace tokensieve::trace
