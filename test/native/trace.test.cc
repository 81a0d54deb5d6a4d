#include "core/trace.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/pool.h"
#include "kernels/traced.h"

using namespace tokensieve;
using trace::Kind;
using trace::Span;

namespace {

std::vector<trace::Event> of_kind(const trace::Recording& recording, Kind kind) {
  std::vector<trace::Event> found;
  for (const trace::Event& e : recording.events) {
    if (e.kind == kind) found.push_back(e);
  }
  return found;
}

bool inside(const trace::Event& inner, const trace::Event& outer) {
  return inner.begin >= outer.begin && inner.end <= outer.end;
}

}  // namespace

TEST("nothing is told while it is off, and one recording at a time") {
  CHECK(!trace::on());
  {
    const Span span(Kind::kernel, "before");
  }
  CHECK(trace::start());
  CHECK(!trace::start());
  CHECK(trace::on());
  const trace::Recording made = trace::stop();
  CHECK(made.events.empty());
  CHECK(made.end >= made.begin);
  CHECK(!trace::on());
}

TEST("spans nest, and take the layer of the one around them") {
  CHECK(trace::start());
  {
    const Span call(Kind::call, "call");
    {
      const Span layer(Kind::layer, "layer", 7);
      Span kernel(Kind::kernel, "inner");
      kernel.about(2, 30, 40);
    }
    const Span outside(Kind::kernel, "outside");
  }
  const trace::Recording made = trace::stop();
  std::map<std::string, trace::Event> all;
  for (const trace::Event& e : made.events) all[e.name] = e;
  CHECK_EQ(all.size(), size_t{4});
  CHECK_EQ(all["inner"].layer, 7);
  CHECK_EQ(all["inner"].rows * 1000 + all["inner"].cols, 30040);
  CHECK_EQ(all["outside"].layer, -1);
  CHECK(inside(all["inner"], all["layer"]) && inside(all["layer"], all["call"]) && inside(all["outside"], all["call"]));
  CHECK(all["outside"].begin >= all["layer"].end);
}

TEST("a span that is under way at the start or at the stop is left out") {
  {
    const Span early(Kind::call, "early");
    CHECK(trace::start());
  }
  trace::Recording made;
  {
    const Span late(Kind::call, "late");
    made = trace::stop();
  }
  CHECK(of_kind(made, Kind::call).empty());
  CHECK(trace::start());
  CHECK(of_kind(trace::stop(), Kind::call).empty());
}

TEST("threads of a team tell what they work on and that they wait") {
  Team team(3);
  CHECK(trace::start());
  {
    const Span layer(Kind::layer, "layer", 4);
    const Span kernel(Kind::kernel, "matmul");
    team.each(64, [](int, int) { std::this_thread::sleep_for(std::chrono::microseconds(200)); });
  }
  const trace::Recording made = trace::stop();
  const std::vector<trace::Event> work = of_kind(made, Kind::work), kernels = of_kind(made, Kind::kernel);
  CHECK_EQ(kernels.size(), size_t{1});
  CHECK(work.size() >= 1 && work.size() <= 3);
  for (const trace::Event& e : work) {
    CHECK_EQ(std::strcmp(e.name, "matmul"), 0);
    CHECK_EQ(e.layer, 4);
    CHECK(inside(e, kernels[0]));
    for (const trace::Event& other : work) CHECK(&e == &other || e.thread != other.thread);
  }
  CHECK_EQ(of_kind(made, Kind::wait).empty(), team.size() == 1);
}

TEST("what a thread has told outlives it") {
  CHECK(trace::start());
  std::thread([] { const Span span(Kind::call, "gone"); }).join();
  CHECK_EQ(of_kind(trace::stop(), Kind::call).size(), size_t{1});
  CHECK(trace::start());
  CHECK(of_kind(trace::stop(), Kind::call).empty());
}

TEST("recordings come and go while a team works") {
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over) {
      Team team(3);
      const Span call(Kind::call, "call");
      for (int i = 0; i < 20; i++) {
        const Span kernel(Kind::kernel, "kernel");
        team.each(8, [](int, int) {});
      }
    }
  });
  long backward = 0;
  for (int i = 0; i < 100; i++) {
    CHECK(trace::start());
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    const trace::Recording made = trace::stop();
    for (const trace::Event& e : made.events) backward += e.end < e.begin || e.begin < made.begin;
  }
  over = true;
  other.join();
  CHECK_EQ(backward, 0);
}

TEST("a traced backend gives the same bits and tells its kernels") {
  const kernels::BackendList& list = kernels::runnable_backends();
  Team team(2);
  float x[40], plain[40], traced[40];
  for (int i = 0; i < 40; i++) x[i] = static_cast<float>(i) - 11.5f;
  for (int i = 0; i < list.count; i++) {
    const kernels::Backend& backend = kernels::traced_backend(*list.items[i]);
    CHECK(std::strcmp(backend.name, list.items[i]->name) == 0);
    list.items[i]->rms_norm(x, 40, 1, 1, 40, nullptr, 1e-5f, nullptr, plain, 40, team);
    backend.rms_norm(x, 40, 1, 1, 40, nullptr, 1e-5f, nullptr, traced, 40, team);
    CHECK(trace::start());
    backend.rms_norm(x, 40, 1, 1, 40, nullptr, 1e-5f, nullptr, traced, 40, team);
    int32_t largest = 0;
    backend.top_k(x, 40, 1, kernels::Order::value, &largest, nullptr, team);
    const trace::Recording made = trace::stop();
    CHECK_EQ(std::memcmp(plain, traced, sizeof plain), 0);
    CHECK_EQ(largest, 39);
    const std::vector<trace::Event> told = of_kind(made, Kind::kernel);
    CHECK_EQ(told.size(), size_t{2});
    CHECK_EQ(std::strcmp(told[0].name, "rms_norm") + std::strcmp(told[1].name, "top_k"), 0);
    CHECK_EQ(told[0].threads, team.size());
    CHECK_EQ(told[1].threads, team.size());
  }
}

// A new kernel gets a line in traced.cc, or is counted among those of traced.h that are not told of.
TEST("every kernel is traced or known not to be") {
  const kernels::Backend& plain = *kernels::runnable_backends().items[0];
  const kernels::Backend& traced = kernels::traced_backend(plain);
  constexpr size_t kWords = sizeof(kernels::Backend) / sizeof(void*);
  void *before[kWords], *after[kWords];
  std::memcpy(before, &plain, sizeof before);
  std::memcpy(after, &traced, sizeof after);
  int same = 0;
  for (size_t i = 1; i < kWords; i++) same += before[i] == after[i];
  CHECK_EQ(same, kernels::kUntraced);
}
