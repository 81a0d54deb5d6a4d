// What a cache does to the rows of its pages: operations of kernels/kv_change.h, collected and handed over together.
//
// Operations of one chain of pages follow each other, those of different chains run side by side. On the processor what a
// chain begins is done before the next one begins, and moves at once; on a device all of it waits for flush and is one
// launch then, in the order of the device's queue, and nobody waits for it. Pages that are released stay until what reads
// them is handed over.
//
// One thread uses it. Nothing else may be handed to the device that reads these pages before a flush.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/buffer.h"
#include "engine/device.h"
#include "engine/page_allocator.h"
#include "kernels/kv_change.h"

namespace tokensieve {

class PageWork {
 public:
  // What a chain of pages knows of the operations on it that were not handed over.
  struct Mark {
    uint64_t batch = 0;
    int program = 0;  // kMany: several
  };
  static constexpr int kMany = -1;

  PageWork(const Device& device, int head_size) noexcept;
  ~PageWork() { flush(); }
  PageWork(const PageWork&) = delete;
  PageWork& operator=(const PageWork&) = delete;

  const Device& device() const noexcept { return device_; }
  void draw_from(PageAllocator& pages) noexcept { pages_ = &pages; }  // where new pages come from, from here on
  uint8_t* allocate(size_t bytes) { return pages_->allocate(bytes); }
  void release(const uint8_t* page) noexcept;

  void follow(Mark* mark) noexcept;  // what comes next belongs to this chain, behind what it has
  void apart(Mark* mark) noexcept;  // it depends on nothing of what was not handed over; the chain will depend on it
  void before_reading(const Mark& mark) noexcept;  // hands over what changes a chain that is read in another's name
  void hold(int ops) noexcept;  // so many operations share a scratch: they are handed over together

  // A row of a page, with the type that its page has.
  struct Place {
    const uint8_t* page;
    DType type;
    int row;
  };
  void copy(const uint8_t* from, uint8_t* to, size_t bytes) noexcept;
  void move(kernels::Side side, const Place& from, const Place& to, int count) noexcept;
  void load(kernels::Side side, const Place& from, int to_row, int count) noexcept;
  void store(kernels::Side side, int from_row, const Place& to, int count) noexcept;
  void group(int from_row, int count, const Place& to) noexcept;
  void take(const float* from, int to_row, int count) noexcept;
  void give(int from_row, int count, float* to) noexcept;
  void add(kernels::Side side, const Place& from, float weight) noexcept;
  void mix(kernels::Side side, const Place& from, float weight, int to_row) noexcept;

  // Rows in memory that operations give to and take from: what is here before is lost. Throws out_of_memory.
  float* numbers(size_t n);
  void bring(const float* numbers, size_t n, float* out);  // hands over and waits; throws Error(device)
  void flush() noexcept;
  // Where a chain is given up half made, what was to write its pages is handed over before they go.
  struct Making {
    PageWork& work;
    bool made = false;
    ~Making() {
      if (!made) work.flush();
    }
  };

 private:
  static constexpr size_t kOwn = 80, kDevice = 4096;  // operations
  static constexpr int kNone = -1;
  struct List {
    std::array<kernels::PageOp, kDevice> ops, sorted;
    std::array<int32_t, kDevice> program, ends;
  };
  void begin(Mark* mark, bool many) noexcept;
  void push(const kernels::PageOp& op) noexcept;
  void move_now(kernels::Side side, const Place& from, const Place& to, int count) noexcept;  // on the processor
  void hand_over_list() noexcept;
  size_t room() const noexcept { return collects_ ? kDevice : kOwn; }

  const Device& device_;
  PageAllocator* pages_ = nullptr;
  int head_size_;
  bool collects_;  // operations wait for a flush: on a device, while there is memory for them
  uint64_t batch_;
  size_t count_ = 0;
  int programs_ = 0, program_ = kNone;  // so far, and the one that is being written
  Mark* current_ = nullptr;  // of the chain that it belongs to
  bool many_ = false;  // it is one of several of the chain
  std::array<kernels::PageOp, kOwn> own_;
  std::unique_ptr<List> list_;  // made for a device's first operation
  std::vector<const uint8_t*> released_;
  Buffer numbers_;
};

}  // namespace tokensieve
