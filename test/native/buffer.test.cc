#include "core/buffer.h"

#include "check.h"
#include "resident.h"

using namespace tokensieve;

constexpr size_t kPages = 16, kBytes = kPages * kHugePage;

TEST("huge pages come to be by several threads, as far as asked for") {
  Buffer buffer(kBytes);
  const size_t before = check::resident();
  buffer.data()[0] = 1;
  if (before == 0 || check::resident() < before + kHugePage) return;  // the system gives none
  Team team(2);
  uint8_t* const half = buffer.data() + kBytes / 2;
  touch(buffer.data() + kHugePage, half - kHugePage + 1, team);
  size_t grown = check::resident() - before;
  CHECK(grown >= kBytes / 2 && grown < kBytes / 2 + kHugePage);
  touch(half, buffer.data() + kBytes, team);
  grown = check::resident() - before;
  CHECK(grown >= kBytes && grown < kBytes + kHugePage);
  size_t sum = 0;
  for (size_t i = 0; i < kBytes; i++) sum += buffer.data()[i];
  CHECK_EQ(sum, size_t{1});
}

TEST("an empty range and a small buffer stay as they are") {
  Buffer buffer(4096, true);
  Team alone(1);
  touch(buffer.data(), buffer.data(), alone);
  touch(buffer.data(), buffer.data() + 4096, alone);
  for (size_t i = 0; i < 4096; i++) CHECK_EQ(int{buffer.data()[i]}, 0);
}
