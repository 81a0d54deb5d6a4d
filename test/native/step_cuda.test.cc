// What a queue does with a step: launches that are written down, in pieces, as graphs (kernels/cuda/recording.h).
#include <numeric>

#include "cuda_team.h"
#include "kernel_test.h"
#include "kernels/cuda/recording.h"
#include "simt/simt.h"

using namespace kernel_test;
using tokensieve::kernels::cuda::kPiece;
using tokensieve::kernels::cuda::kStepBlock;
using tokensieve::kernels::cuda::recorder_of;
using Counts = tokensieve::kernels::cuda::Recorder::Counts;

namespace {

constexpr int kRows = 4, kWidth = 8;

struct Rows {
  std::vector<float> x = std::vector<float>(kRows * kWidth), y = std::vector<float>(kRows * kWidth);
  Rows() { std::iota(x.begin(), x.end(), 0.f); }
};

// One launch, with a list of its own: rows of x in this order.
void pick(DeviceTeam& device, const Rows& rows, float* to, std::vector<int32_t> order) {
  device.backend().gather(rows.x.data(), kWidth, kWidth, order.data(), static_cast<int>(order.size()), to, kWidth,
                          device.team());
}

bool picked(const float* y, const std::vector<int32_t>& order) {
  for (size_t i = 0; i < order.size(); i++) {
    if (y[i * kWidth] != static_cast<float>(order[i] * kWidth)) return false;
  }
  return true;
}

struct Step {
  explicit Step(DeviceTeam& device) : device(device) { device.backend().memory->begin(device.team().queue()); }
  ~Step() { device.backend().memory->end(device.team().queue()); }
  DeviceTeam& device;
};

Counts counts(DeviceTeam& device) { return recorder_of(device.team().queue()).counts; }

// `launches` of them, all with this list.
void step(DeviceTeam& device, const Rows& rows, float* to, const std::vector<int32_t>& order, size_t launches) {
  const Step all(device);
  for (size_t i = 0; i < launches; i++) pick(device, rows, to, order);
}

}  // namespace

TEST("a step that was seen before is a graph; lists that lie where they lay change nothing of it") {
  DeviceTeam device;
  Rows rows;
  const std::vector<std::vector<int32_t>> orders = {{0, 1, 2}, {3, 3, 3}, {2, 1, 0}, {1, 0, 3}};
  for (const std::vector<int32_t>& order : orders) {
    step(device, rows, rows.y.data(), order, 6);
    device.wait();
    CHECK(picked(rows.y.data(), order));
  }
  const Counts c = counts(device);
  CHECK_EQ(c.alone, 6);
  CHECK_EQ(c.made, 1);
  CHECK_EQ(c.graphs, 3);
  CHECK_EQ(c.set, 0);
  CHECK_EQ(c.copies, 4);
}

TEST("what differs is told anew: other places, other numbers of blocks") {
  DeviceTeam device;
  Rows rows;
  std::vector<float> other(rows.y.size());
  for (int i = 0; i < 3; i++) step(device, rows, rows.y.data(), {0, 1}, 5);
  step(device, rows, other.data(), {3, 2}, 5);
  device.wait();
  CHECK(picked(other.data(), {3, 2}));
  CHECK(picked(rows.y.data(), {0, 1}));
  CHECK_EQ(counts(device).set, 5);
  step(device, rows, other.data(), {1, 2, 3}, 5);
  device.wait();
  CHECK(picked(other.data(), {1, 2, 3}));
  CHECK_EQ(counts(device).made, 1);
  CHECK_EQ(counts(device).set, 10);
}

TEST("long steps go in pieces, each with the lists that came since the one before") {
  DeviceTeam device;
  Rows rows;
  for (int i = 0; i < 4; i++) step(device, rows, rows.y.data(), {i, 1}, 2 * kPiece + 10);
  device.wait();
  CHECK(picked(rows.y.data(), {3, 1}));
  const Counts c = counts(device);
  CHECK_EQ(c.made, 3);
  CHECK_EQ(c.graphs, 9);
  CHECK_EQ(c.copies, 12);
}

TEST("whoever waits in a step, or gives memory back, ends the piece") {
  DeviceTeam device;
  Rows rows;
  const tokensieve::Memory& memory = *device.backend().memory;
  for (int i = 0; i < 3; i++) {
    const Step all(device);
    pick(device, rows, rows.y.data(), {i});
    device.wait();
    CHECK(picked(rows.y.data(), {i}));
    float* const gone = reinterpret_cast<float*>(memory.allocate(0, sizeof(float) * kWidth));
    pick(device, rows, gone, {i + 1});
    memory.release(0, reinterpret_cast<uint8_t*>(gone));
    pick(device, rows, rows.y.data(), {3 - i});
  }
  device.wait();
  CHECK(picked(rows.y.data(), {1}));
}

TEST("lists that have no room in the block take the usual way") {
  DeviceTeam device;
  Rows rows;
  const tokensieve::Memory& memory = *device.backend().memory;
  const std::vector<float> many(kStepBlock / sizeof(float) / 2 + 1000, 2.f);
  std::vector<float> first(many.size()), second(many.size());
  {
    const Step all(device);
    memory.send(device.team().queue(), many.data(), first.data(), many.size());
    memory.send(device.team().queue(), many.data(), second.data(), many.size());
    pick(device, rows, rows.y.data(), {1});
  }
  device.wait();
  CHECK(picked(rows.y.data(), {1}));
  CHECK(first == many);
  CHECK(second == many);
}

TEST("numbers cross in the order of the work, in a step and outside") {
  const tokensieve::Memory& memory = *DeviceTeam::backend().memory;
  for (const bool held : {true, false}) {
    DeviceTeam device;
    Rows rows;
    tokensieve::Queue* const queue = device.team().queue();
    if (held) memory.begin(queue);
    pick(device, rows, rows.y.data(), {1});
    std::vector<float> news(kWidth, 64.f);
    memory.send(queue, news.data(), rows.x.data() + kWidth, kWidth);
    news.assign(kWidth, 0.f);
    pick(device, rows, rows.y.data() + kWidth, {1});
    const float* const seen = memory.fetch(queue, rows.y.data(), 2 * kWidth);
    memory.send(queue, news.data(), rows.y.data(), kWidth);
    if (held) memory.end(queue);
    device.wait();
    CHECK_EQ(seen[0], 8.f);
    CHECK_EQ(seen[kWidth], 64.f);
    CHECK_EQ(rows.y[0], 0.f);
  }
}

namespace {

// A driver that makes graphs and takes changes of them as it is told.
struct Moody final : tokensieve::kernels::cuda::Driver {
  using Launches = tokensieve::kernels::cuda::Launches;
  bool makes = true, sets = true;
  int asked = 0, alone = 0, runs = 0, dropped = 0;
  uint8_t bytes[1024] = {};
  void launch(const Launches&, size_t) noexcept override { alone++; }
  void* make_graph(const Launches&) noexcept override { return asked++, makes ? this : nullptr; }
  bool set_launch(void*, const Launches&, size_t) noexcept override { return sets; }
  void run_graph(void*) noexcept override { runs++; }
  void drop_graph(void*) noexcept override { dropped++; }
  uint8_t* block() noexcept override { return bytes; }
  const uint8_t* block_there() noexcept override { return bytes; }
  void copy_block(size_t, size_t) noexcept override {}
  void wait_for_block() noexcept override {}
};

void moody_step(tokensieve::kernels::cuda::Recorder& recorder, int value) {
  const void* const values[] = {&value};
  const size_t sizes[] = {sizeof value};
  recorder.begin();
  for (int i = 0; i < 8; i++) recorder.add({nullptr, {1, 1, 1}, {32, 1, 1}, 0, nullptr, ""}, {values, sizes, 1});
  recorder.end();
}

}  // namespace

TEST("a driver that refuses gets launches one by one, and is not asked for a graph again") {
  Moody driver;
  tokensieve::kernels::cuda::Recorder recorder(driver);
  for (int i = 0; i < 3; i++) moody_step(recorder, 1);
  CHECK_EQ(driver.runs, 2);
  driver.sets = false;
  moody_step(recorder, 2);
  CHECK_EQ(driver.dropped, 1);
  CHECK_EQ(driver.alone, 16);
  driver.makes = false;
  for (int i = 0; i < 3; i++) moody_step(recorder, 2);
  CHECK_EQ(driver.asked, 2);
  CHECK_EQ(driver.alone, 40);
  recorder.close();
}
