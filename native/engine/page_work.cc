#include "engine/page_work.h"

#include <algorithm>
#include <atomic>
#include <new>

namespace tokensieve {

using kernels::PageOp;
using kernels::Side;
using Kind = kernels::PageOp::Kind;

namespace {

uint64_t next_batch() noexcept {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

PageOp op_of(Kind kind, Side side = Side::keys, DType type = DType::f32) noexcept {
  PageOp op{};
  op.kind = kind, op.side = side, op.type = type;
  return op;
}
void from_rows(PageOp* op, int row, int count) noexcept {
  op->from_row = static_cast<uint8_t>(row), op->count = static_cast<uint8_t>(count);
}
void to_rows(PageOp* op, int row, int count) noexcept {
  op->to_row = static_cast<uint8_t>(row), op->count = static_cast<uint8_t>(count);
}
void from_place(PageOp* op, const PageWork::Place& place, int count) noexcept {
  op->from = place.page;
  from_rows(op, place.row, count);
}
void to_place(PageOp* op, const PageWork::Place& place, int count) noexcept {
  op->to = const_cast<uint8_t*>(place.page);  // pieces are const for the kernels, their pages are the cache's
  to_rows(op, place.row, count);
}

}  // namespace

PageWork::PageWork(const Device& device, int head_size) noexcept
    : device_(device),
      head_size_(head_size),
      collects_(device.queue != nullptr),
      batch_(next_batch()),
      numbers_(device.memory()) {}

// ---- chains -------------------------------------------------------------------------------------------------------

void PageWork::begin(Mark* mark, bool many) noexcept {
  if (!collects_) flush();
  program_ = kNone;
  current_ = mark, many_ = many;
}

void PageWork::follow(Mark* mark) noexcept {
  if (collects_ && mark->batch == batch_ && mark->program != kMany) {
    program_ = mark->program, current_ = mark, many_ = false;
    return;
  }
  before_reading(*mark);
  begin(mark, false);
}

void PageWork::apart(Mark* mark) noexcept { begin(mark, true); }

void PageWork::before_reading(const Mark& mark) noexcept {
  if (mark.batch == batch_) flush();
}

void PageWork::hold(int ops) noexcept {
  if (count_ + static_cast<size_t>(ops) > room()) flush();
}

void PageWork::release(const uint8_t* page) noexcept {
  if (count_ > 0 && collects_) {
    try {
      released_.push_back(page);
      return;
    } catch (const std::bad_alloc&) {
    }
  }
  flush();
  release_page(page);
}

// ---- operations ---------------------------------------------------------------------------------------------------

void PageWork::push(const PageOp& op) noexcept {
  if (collects_ && !list_) list_.reset(new (std::nothrow) List);
  collects_ = list_ != nullptr;
  hold(1);
  if (program_ == kNone) {
    program_ = programs_++;
    if (current_) *current_ = {batch_, many_ ? kMany : program_};
  }
  if (list_) list_->program[count_] = program_;
  (list_ ? list_->ops[count_] : own_[count_]) = op;
  count_++;
}

void PageWork::copy(const uint8_t* from, uint8_t* to, size_t bytes) noexcept {
  PageOp op = op_of(Kind::copy);
  op.from = from, op.to = to, op.lines = static_cast<uint16_t>(bytes / 64);
  push(op);
}

// The order is such that no row is overwritten before it has moved.
void PageWork::move_now(Side side, const Place& from, const Place& to, int count) noexcept {
  flush();
  Team alone(1);
  const bool up = from.page == to.page && to.row > from.row;
  for (int i = 0; i < count; i++) {
    const int k = up ? count - 1 - i : i;
    device_.backend->copy_row(side, to.type, head_size_, from.page, from.row + k, const_cast<uint8_t*>(to.page),
                              to.row + k, alone);
  }
}

void PageWork::move(Side side, const Place& from, const Place& to, int count) noexcept {
  if (count == 0) return;
  if (!device_.queue) return move_now(side, from, to, count);
  PageOp op = op_of(Kind::move, side, to.type);
  from_place(&op, from, count);
  to_place(&op, to, count);
  // A row behind the last one, as if it had been one piece.
  PageOp* const last = count_ == 0 ? nullptr : list_ ? &list_->ops[count_ - 1] : &own_[count_ - 1];
  const bool same = last && program_ != kNone && last->kind == Kind::move && from.page != to.page &&
                    last->from == op.from && last->to == op.to && last->from_row + last->count == op.from_row &&
                    last->to_row + last->count == op.to_row && (!list_ || list_->program[count_ - 1] == program_);
  if (same) {
    last->count = static_cast<uint8_t>(last->count + count);
  } else {
    push(op);
  }
}

void PageWork::load(Side side, const Place& from, int to_row, int count) noexcept {
  PageOp op = op_of(Kind::load, side, from.type);
  from_place(&op, from, count);
  to_rows(&op, to_row, count);
  push(op);
}

void PageWork::store(Side side, int from_row, const Place& to, int count) noexcept {
  PageOp op = op_of(Kind::store, side, to.type);
  from_rows(&op, from_row, count);
  to_place(&op, to, count);
  push(op);
}

void PageWork::group(int from_row, int count, const Place& to) noexcept {
  PageOp op = op_of(Kind::group, Side::keys, to.type);
  to_place(&op, to, count);
  from_rows(&op, from_row, count);
  push(op);
}

void PageWork::take(const float* from, int to_row, int count) noexcept {
  PageOp op = op_of(Kind::take);
  op.from = reinterpret_cast<const uint8_t*>(from);
  to_rows(&op, to_row, count);
  push(op);
}

void PageWork::give(int from_row, int count, float* to) noexcept {
  PageOp op = op_of(Kind::give);
  op.to = reinterpret_cast<uint8_t*>(to);
  from_rows(&op, from_row, count);
  push(op);
}

void PageWork::add(Side side, const Place& from, float weight) noexcept {
  PageOp op = op_of(Kind::add, side, from.type);
  from_place(&op, from, 1);
  op.weight = weight;
  push(op);
}

void PageWork::mix(Side side, const Place& from, float weight, int to_row) noexcept {
  PageOp op = op_of(Kind::mix, side, from.type);
  from_place(&op, from, 1);
  to_rows(&op, to_row, 1);
  op.weight = weight;
  push(op);
}

// ---- handing over -------------------------------------------------------------------------------------------------

float* PageWork::numbers(size_t n) {
  flush();
  numbers_.need(n * sizeof(float));
  return numbers_.as<float>();
}

void PageWork::bring(const float* numbers, size_t n, float* out) {
  flush();
  if (n == 0) return;
  if (device_.queue) {
    device_.memory()->read(device_.queue.get(), out, reinterpret_cast<const uint8_t*>(numbers), n * sizeof(float));
    return device_.wait();
  }
  if (numbers != out) std::copy_n(numbers, n, out);
}

// Operations in the order of their programs.
void PageWork::hand_over_list() noexcept {
  List& list = *list_;
  std::array<int32_t, kDevice>& ends = list.ends;
  const size_t programs = static_cast<size_t>(programs_);
  std::fill_n(ends.begin(), programs, 0);
  for (size_t i = 0; i < count_; i++) ends[static_cast<size_t>(list.program[i])]++;
  int32_t begin = 0;
  for (size_t p = 0; p < programs; p++) {  // where the next operation of each goes
    const int32_t ops = ends[p];
    ends[p] = begin;
    begin += ops;
  }
  for (size_t i = 0; i < count_; i++)
    list.sorted[static_cast<size_t>(ends[static_cast<size_t>(list.program[i])]++)] = list.ops[i];
  Team team(1, nullptr, device_.queue.get());
  device_.backend->change_pages(head_size_, list.sorted.data(), ends.data(), programs_, team);
}

void PageWork::flush() noexcept {
  if (count_ == 0) return;  // nor do pages wait, or chains know of this batch
  if (list_) {
    hand_over_list();
  } else {
    const int32_t end = static_cast<int32_t>(count_);
    Team team(1, nullptr, device_.queue.get());
    device_.backend->change_pages(head_size_, own_.data(), &end, 1, team);
  }
  count_ = 0, programs_ = 0, program_ = kNone;
  batch_ = next_batch();
  for (const uint8_t* page : released_) release_page(page);
  released_.clear();
}

}  // namespace tokensieve
