// What a queue is given during a step (Memory::begin to Memory::end) is written down, and goes to the device in pieces
// of up to kPiece launches: the first runs while the host writes down the next. The lists that the launches of a step
// read lie side by side in one block, which is copied once a piece; they lie where they lay in the step before, so that
// most arguments are what they were. A piece that was seen before is an executable graph: launches whose arguments
// differ from last time are set anew, and all of them go to the driver in one call. docs/cuda.md has what that saves.
//
// Nothing is forbidden meanwhile: whoever waits for the queue or gives memory back ends the piece early. That costs time
// alone, and Counts tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tokensieve {
struct Queue;
}

namespace tokensieve::kernels::cuda {

constexpr size_t kPiece = 96;  // launches
constexpr size_t kStepBlock = size_t{2} << 20;  // bytes of lists
constexpr int kMostArguments = 24;  // of a launch

struct Extent {
  unsigned x, y, z;
};

// What LAUNCH says, but for the arguments.
struct Launch {
  const void* kernel;
  Extent grid, block;
  size_t shared;
  // Where the host plays the device: how it is done, and how it is called.
  void (*call)(const void* kernel, const uint8_t* const* arguments);
  const char* name;
};

struct Arguments {
  const void* const* values;
  const size_t* sizes;
  int count;
};

// Launches in order, with the values of their arguments.
class Launches {
 public:
  size_t size() const noexcept { return items_.size(); }
  void clear() noexcept;
  void add(const Launch& launch, const Arguments& arguments);  // throws bad_alloc, nothing changed
  const Launch& operator[](size_t i) const noexcept { return items_[i].launch; }
  void values(size_t i, const uint8_t** to) const noexcept;  // [kMostArguments]: where they are
  uint64_t kernels() const noexcept { return kernels_; }  // a hash of which they are
  bool same_kernels(const Launches& other) const noexcept;
  // Of lists of the same kernels: whether all that this launch is told is the same.
  bool same(size_t i, const Launches& other) const noexcept;
  void set(size_t i, const Launches& other) noexcept;

 private:
  struct Item {
    Launch launch;
    size_t places, bytes;  // where its own begin
  };
  size_t bytes_of(size_t i) const noexcept {
    return (i + 1 < items_.size() ? items_[i + 1].bytes : bytes_.size()) - items_[i].bytes;
  }
  std::vector<Item> items_;
  std::vector<size_t> places_;  // of arguments, in bytes_
  std::vector<uint8_t> bytes_;
  uint64_t kernels_ = 0;
};

// What a recorder hands its pieces to: a device's queue.
class Driver {
 public:
  virtual ~Driver() = default;
  virtual void launch(const Launches& all, size_t i) noexcept = 0;
  // Null where it can't; graphs may run while they are set anew, which tells on the next run, or dropped.
  virtual void* make_graph(const Launches& all) noexcept = 0;
  virtual bool set_launch(void* graph, const Launches& all, size_t i) noexcept = 0;
  virtual void run_graph(void* graph) noexcept = 0;
  virtual void drop_graph(void* graph) noexcept = 0;
  // The block on the host and on the device, [kStepBlock]; copies of the former that were begun are done.
  virtual uint8_t* block() noexcept = 0;
  virtual const uint8_t* block_there() noexcept = 0;
  virtual void copy_block(size_t from, size_t to) noexcept = 0;
  virtual void wait_for_block() noexcept = 0;
};

// Not for two threads at once: the queue has a lock.
class Recorder {
 public:
  explicit Recorder(Driver& driver) noexcept : driver_(driver) {}
  void close() noexcept;  // graphs go; what was written down goes to the device before

  void begin() noexcept;
  void flush() noexcept;  // what was written down goes to the device
  void end() noexcept;
  bool on() const noexcept { return on_; }
  // False: nothing is being written down, the launch is the caller's.
  bool add(const Launch& launch, const Arguments& arguments) noexcept;
  // Where a list is on the device from the next piece on; null: it is the caller's.
  const void* upload(const void* host, size_t bytes) noexcept;

  struct Counts {
    int alone = 0;  // launches that went to the driver one by one
    int graphs = 0, made = 0, set = 0;  // runs of graphs; graphs; launches of them that were told other arguments
    int copies = 0;  // of the block
  };
  Counts counts;

 private:
  struct Graph {
    size_t piece;
    Launches launches;  // as they were last told
    void* made;
    uint64_t used;
  };
  Graph* find() noexcept;
  Graph* make() noexcept;
  bool update(Graph& graph) noexcept;
  bool seen_before() noexcept;
  void drop(size_t i) noexcept;

  Driver& driver_;
  bool on_ = false, takes_graphs_ = true;
  size_t piece_ = 0;  // of the step
  size_t at_ = 0, copied_ = 0;  // in the block
  Launches launches_;
  std::vector<Graph> graphs_;
  uint64_t seen_[64] = {};  // what ran without a graph of late
  size_t seen_count_ = 0;
  uint64_t clock_ = 0;
};

// Of a queue, for those who count.
const Recorder& recorder_of(Queue* queue) noexcept;

// For a launch template: the values of a kernel's parameters, and from these the kernel's call.
template <class... P>
struct Parameters {
  static_assert(sizeof...(P) <= kMostArguments, "a kernel has few parameters");
  static void call(const void* kernel, const uint8_t* const* values) {
    call(reinterpret_cast<void (*)(P...)>(const_cast<void*>(kernel)), values, std::index_sequence_for<P...>());
  }

 private:
  template <size_t... I>
  static void call(void (*kernel)(P...), const uint8_t* const* values, std::index_sequence<I...>) {
    kernel(*reinterpret_cast<const P*>(values[I])...);
  }
};

}  // namespace tokensieve::kernels::cuda
