#include "engine/page_allocator.h"

#include <thread>

#include "check.h"
#include "core/error.h"
#include "resident.h"

using namespace tokensieve;

TEST("pages are aligned, apart, and counted") {
  const PageCounts before = page_counts();
  PageAllocator::Handle pages = PageAllocator::open();
  std::vector<uint8_t*> all;
  size_t sum = 0;
  for (size_t bytes : {256u, 768u, 1152u, 4096u, 16384u, 262144u}) {
    for (int i = 0; i < 300; i++, sum += bytes) {
      uint8_t* page = pages->allocate(bytes);
      CHECK_EQ(reinterpret_cast<uintptr_t>(page) % 64, 0u);
      CHECK(!page_is_shared(page));
      std::memset(page, static_cast<int>(all.size()), bytes);
      all.push_back(page);
    }
  }
  CHECK_EQ(page_counts().used - before.used, sum);
  CHECK(page_counts().held - before.held >= sum && page_counts().mapped >= page_counts().held);
  bool apart = true;
  for (size_t i = 0; i < all.size(); i++) {
    const size_t bytes[] = {256, 768, 1152, 4096, 16384, 262144};
    for (size_t b : {size_t{0}, bytes[i / 300] - 1}) apart = apart && all[i][b] == static_cast<uint8_t>(i);
  }
  CHECK(apart);
  for (uint8_t* page : all) release_page(page);
  CHECK_EQ(page_counts().used, before.used);
  pages.reset();
  CHECK(page_counts().held == before.held && page_counts().mapped == before.mapped);
}

TEST("wrong sizes are refused") {
  PageAllocator::Handle pages = PageAllocator::open();
  for (size_t bytes : {size_t{0}, size_t{63}, size_t{100}, kMaxPageBytes + 64})
    CHECK_THROWS(pages->allocate(bytes), Error);
}

TEST("the lowest free page comes first") {
  PageAllocator::Handle pages = PageAllocator::open();
  std::vector<uint8_t*> all;
  for (int i = 0; i < 400; i++) all.push_back(pages->allocate(4096));
  for (int i : {390, 260, 3, 70}) release_page(all[static_cast<size_t>(i)]);
  CHECK(pages->allocate(4096) == all[3]);
  CHECK(pages->allocate(4096) == all[70]);
  pages->give_back();  // gives single pages back, which may be had again
  CHECK(pages->allocate(4096) == all[260]);
  all[260][4095] = 1;
  for (int i = 0; i < 400; i++) {
    if (i != 390) release_page(all[static_cast<size_t>(i)]);
  }
}

TEST("a shared page lives until its last reference ends, even beyond its allocator") {
  const PageCounts before = page_counts();
  PageAllocator::Handle pages = PageAllocator::open();
  uint8_t *page = pages->allocate(1152), *other = pages->allocate(1152);
  page[1151] = 42;
  retain_page(page);
  CHECK(page_is_shared(page));
  release_page(page);
  CHECK(!page_is_shared(page));
  pages.reset();
  CHECK_EQ(page[1151], 42);
  CHECK_EQ(page_counts().used - before.used, 2u * 1152u);
  release_page(other);
  release_page(page);
  CHECK(page_counts().used == before.used && page_counts().mapped == before.mapped);
}

TEST("memory falls in the process when free pages are given back") {
  for (size_t bytes : {1152u, 4096u}) {
    const size_t count = (size_t{64} << 20) / bytes, start = check::resident(), held = page_counts().held;
    PageAllocator::Handle pages = PageAllocator::open();
    std::vector<uint8_t*> all;
    for (size_t i = 0; i < count; i++) std::memset(all.emplace_back(pages->allocate(bytes)), 1, bytes);
    const size_t full = check::resident();
    for (size_t i = 0; i < count; i++) {
      if (i % 64 >= 16) release_page(all[i]);  // holes in every slab
    }
    pages->give_back();
    CHECK(page_counts().held - held < (size_t{22} << 20));
    if (start > 0) {
      CHECK(full - start > (size_t{60} << 20));
      CHECK(full - check::resident() > (size_t{40} << 20));
    }
    bool kept = true;
    for (size_t i = 0; i < count; i++) {
      if (i % 64 < 16) kept = kept && all[i][bytes - 1] == 1, release_page(all[i]);
    }
    CHECK(kept);
  }
}

// Whether the next slab is huge is the system's affair: counts and memory agree in both cases.
TEST("behind a full slab the next one may be huge, and still gives back what is free of it") {
  constexpr size_t kBytes = 4096, kRoom = size_t{256} << 10;
  const size_t before = page_counts().held;
  PageAllocator::Handle pages = PageAllocator::open();
  std::vector<uint8_t*> all;
  const auto add = [&] { std::memset(all.emplace_back(pages->allocate(kBytes)), 1, kBytes); };
  add();
  CHECK(page_counts().held - before < kRoom);  // a small session is small
  size_t mapped = page_counts().mapped;
  size_t start = check::resident(), held = page_counts().held;
  while (page_counts().mapped == mapped) start = check::resident(), held = page_counts().held, add();
  const size_t second = all.size() - 1, grown = page_counts().held - held;
  CHECK(grown == kSlabBytes || grown < kRoom);
  if (start > 0) CHECK(check::resident() - start + kRoom > grown);
  for (int i = 0; i < 64; i++) add();
  for (int again = 0; again < 2; again++) {
    for (size_t i = second + 8; i < all.size(); i++) release_page(all[i]);
    all.resize(second + 8);
    pages->give_back();
    CHECK(page_counts().held - held < kRoom);
    if (start > 0) CHECK(check::resident() < start + 2 * kRoom);
    mapped = page_counts().mapped;
    while (page_counts().mapped == mapped) add();  // full, and one page behind it
  }
  bool kept = true;
  for (uint8_t* page : all) kept = kept && page[0] == 1 && page[kBytes - 1] == 1, release_page(page);
  CHECK(kept);
}

TEST("a page that comes and goes maps nothing") {
  PageAllocator::Handle pages = PageAllocator::open();
  release_page(pages->allocate(4096));
  const size_t mapped = page_counts().mapped;
  for (int i = 0; i < 100; i++) {
    release_page(pages->allocate(4096));
    CHECK_EQ(page_counts().mapped, mapped);
  }
}

TEST("without memory: an error, and the allocator goes on afterwards") {
  PageAllocator::Handle pages = PageAllocator::open();
  fail_page_allocations_after(2);
  uint8_t *a = pages->allocate(4096), *b = pages->allocate(4096);
  for (int i = 0; i < 3; i++) {
    try {
      pages->allocate(4096);
      CHECK(false);
    } catch (const Error& error) {
      CHECK(error.code() == Code::out_of_memory);
    }
  }
  fail_page_allocations_after(-1);
  release_page(pages->allocate(4096));
  release_page(a);
  release_page(b);
}

TEST("threads share pages of one allocator and use their own") {
  const PageCounts before = page_counts();
  PageAllocator::Handle first = PageAllocator::open();
  std::vector<uint8_t*> shared;
  for (int i = 0; i < 200; i++) shared.push_back(first->allocate(4096));
  auto work = [&shared](uint64_t seed) {
    check::Random random(seed);
    PageAllocator::Handle own = PageAllocator::open();
    std::vector<uint8_t*> pages;
    for (int i = 0; i < 5000; i++) {
      if (random.below(2) || pages.empty()) {
        pages.push_back(own->allocate(random.below(2) ? 4096 : 768));
        pages.back()[0] = static_cast<uint8_t>(seed);
      } else {
        std::swap(pages.back(), pages[static_cast<size_t>(random.below(static_cast<int>(pages.size())))]);
        if (pages.back()[0] != static_cast<uint8_t>(seed)) std::abort();
        release_page(pages.back());
        pages.pop_back();
      }
      if (i % 1000 == 0) own->give_back();
    }
    for (uint8_t* page : pages) release_page(page);
    for (uint8_t* page : shared) release_page(page);
  };
  for (uint8_t* page : shared) retain_page(page);
  std::thread a(work, 1), b(work, 2);
  first.reset();  // its pages are released by both threads, the last of each pair frees it
  a.join();
  b.join();
  CHECK(page_counts().used == before.used && page_counts().held == before.held &&
        page_counts().mapped == before.mapped);
}
