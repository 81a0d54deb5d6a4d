// What ran when, on which thread: off until start, and then one relaxed load and a branch at each place that could tell.
//
// Spans nest on the thread that makes a call: call > layer > kernel. The pool adds what the other threads see: work (the
// tasks that a thread took of one run) and wait (spinning or asleep inside a team). Times are nanoseconds of the steady
// clock; names are string literals.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokensieve::trace {

enum class Kind : uint8_t { call, layer, kernel, work, wait };

struct Event {
  const char* name;
  int64_t begin, end;
  int32_t layer;  // -1 outside of layers
  int32_t threads;  // of the team, where a kernel has one; else 1
  int32_t rows, cols;  // of a kernel's matrix, or 0
  int32_t thread;  // numbered as they first tell something
  Kind kind;
};

struct Recording {
  std::vector<Event> events;  // those of one thread are together, by their ends
  int64_t begin = 0, end = 0;
  size_t lost = 0;  // more came than are kept of one thread
};

constexpr size_t kMostEvents = size_t{1} << 20;  // of one thread

// False where a recording is under way already.
bool start() noexcept;
// Throws std::bad_alloc. What is not over yet is not in it.
Recording stop();

extern std::atomic<bool> recording;
inline bool on() noexcept { return recording.load(std::memory_order_relaxed); }
int64_t now() noexcept;

// What the calling thread is doing, so that the threads that help it can say the same.
struct Label {
  const char* name = nullptr;
  int32_t layer = -1;
};
Label label() noexcept;

void add(Kind kind, Label label, int64_t begin) noexcept;  // ends now
void add(const Event& event) noexcept;

// From its construction to its destruction; layer: the one around it where none is given.
class Span {
 public:
  Span(Kind kind, const char* name, int layer = -1) noexcept {
    if (on()) open(kind, name, layer);
  }
  ~Span() {
    if (event_.begin != 0) close();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  void about(int threads, int rows, int cols) noexcept {
    event_.threads = threads, event_.rows = rows, event_.cols = cols;
  }

 private:
  void open(Kind kind, const char* name, int layer) noexcept;
  void close() noexcept;

  Event event_ = {nullptr, 0, 0, -1, 1, 0, 0, 0, Kind::call};
  Label outer_;
};

}  // namespace tokensieve::trace
