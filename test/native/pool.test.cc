#include "core/pool.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"

using tokensieve::Team;

namespace {

// Every index once, every worker number within the team; a plain vector, so that TSan sees a missing barrier.
void check_run(Team& team, int tasks) {
  std::vector<int> runs(static_cast<size_t>(tasks), 0);
  std::atomic<int> strangers{0};
  team.each(tasks, [&](int index, int worker) {
    ++runs[static_cast<size_t>(index)];
    if (worker < 0 || worker >= team.size()) ++strangers;
  });
  long wrong = 0;
  for (const int count : runs) wrong += count != 1;
  CHECK_EQ(wrong, 0);
  CHECK_EQ(strangers.load(), 0);
}

void busy_wait(int microseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < end) {
  }
}

}  // namespace

TEST("a run hands out every index once") {
  for (int threads = 1; threads <= 4; ++threads) {
    Team team(threads);
    CHECK(team.size() >= 1 && team.size() <= threads);
    for (const int tasks : {0, 1, 2, 3, 7, 64, 1000}) check_run(team, tasks);
  }
}

TEST("a team gets the workers it asks for when none are busy") {
  for (int i = 0; i < 50; ++i) {
    Team team(4);
    CHECK_EQ(team.size(), 4);
    check_run(team, 9);
  }
}

TEST("one task and a team of one stay in the calling thread") {
  const std::thread::id here = std::this_thread::get_id();
  int elsewhere = 0;
  Team one(1), many(3);
  one.each(5, [&](int, int worker) { elsewhere += std::this_thread::get_id() != here || worker != 0; });
  many.each(1, [&](int, int worker) { elsewhere += std::this_thread::get_id() != here || worker != 0; });
  CHECK_EQ(one.size(), 1);
  CHECK_EQ(elsewhere, 0);
}

TEST("two tasks of a rested team run side by side") {
  Team team(2);
  std::atomic<int> arrived{0};
  std::atomic<int> met{0};
  for (const int rest : {0, 1000}) {  // awake, asleep
    busy_wait(rest);
    arrived = 0;
    team.each(2, [&](int, int) {
      ++arrived;
      for (int i = 0; i < 5000 && arrived < 2; ++i) busy_wait(1000);
      if (arrived == 2) ++met;
    });
  }
  CHECK_EQ(met.load(), 4);
}

TEST("a worker number is never used by two threads at once") {
  Team team(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<int> clashes{0};
  for (int round = 0; round < 200; ++round) {
    team.each(16, [&](int, int worker) {
      if (++inside[static_cast<size_t>(worker)] != 1) ++clashes;
      --inside[static_cast<size_t>(worker)];
    });
  }
  CHECK_EQ(clashes.load(), 0);
}

TEST("the stop flag skips what has not begun and the team stays usable") {
  std::atomic<bool> stop{false};
  for (const int threads : {1, 3}) {
    stop = false;
    Team team(threads, &stop);
    std::atomic<int> ran{0};
    team.each(1000, [&](int, int) {
      if (++ran == 10) stop = true;
    });
    CHECK(team.stopped());
    CHECK(ran >= 10 && ran < 10 + threads);
    team.each(100, [&](int, int) { ++ran; });
    CHECK(ran < 10 + threads);
    stop = false;
    check_run(team, 100);
  }
}

TEST("many teams at once, in many threads") {
  std::vector<std::thread> threads;
  std::atomic<long> sum{0};
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&sum, t] {
      for (int round = 0; round < 150; ++round) {
        std::atomic<bool> stop{false};
        Team team(1 + (t + round) % 4, &stop);
        std::vector<long> parts(8, 0);
        for (int run = 0; run < 4; ++run) {
          team.each(8, [&](int index, int) { parts[static_cast<size_t>(index)] += index + run; });
        }
        for (const long part : parts) sum += part;
        if (round % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(sum.load(), 6l * 150 * (4 * 28 + 8 * 6));
}

TEST("teams that end before their workers wake") {
  for (int round = 0; round < 3000; ++round) {
    Team team(4);
    if (round % 3 == 0) team.each(2, [](int, int) {});
  }
  Team team(4);
  CHECK_EQ(team.size(), 4);
  check_run(team, 50);
}

TEST("there is at least one core") { CHECK(tokensieve::physical_cores() >= 1); }
