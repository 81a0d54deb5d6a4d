// What a cache costs, what an eviction gives back, and what happens when there is none.
#include <thread>

#include "core/error.h"
#include "kv_model.h"
#include "resident.h"

using namespace kv;
using tokensieve::Code;
using tokensieve::Error;

namespace {

// Rows of zeros in every layer, without a model beside them.
void fill(KvCache& cache, int rows, int from = 0) {
  const size_t ld = static_cast<size_t>(cache.shape().kv_heads * cache.shape().head_size);
  const std::vector<float> x(static_cast<size_t>(rows) * ld);
  std::vector<int32_t> source(static_cast<size_t>(rows));
  for (int i = 0; i < rows; i++) source[static_cast<size_t>(i)] = from + i;
  Team team(1);
  for (int l = 0; l < cache.shape().layers; l++) {
    cache.reserve(l, rows);
    cache.append(backend(), l, x.data(), ld, x.data(), ld, rows, source.data(), nullptr, team);
    cache.settle(l);
  }
}

bool out_of_memory(void (*act)(Pair&), Pair& p) {
  try {
    act(p);
  } catch (const Error& error) {
    return error.code() == Code::out_of_memory;
  }
  return false;
}

}  // namespace

TEST("4,000 rows cost what they hold, a quarter of them a quarter, and the process shrinks") {
  KvCache cache(shape_of(DType::f16, DType::f16, 6, 3, 64), backend());
  const size_t start = check::resident(), held = tokensieve::page_allocator_bytes();
  fill(cache, 4000);
  const size_t full = cache.bytes(), formula = size_t{6} * 3 * 4000 * 2 * 64 * 2;
  CHECK(full >= formula && full < formula + formula / 20);
  CHECK(tokensieve::page_allocator_bytes() - held < formula + formula / 20);
  const size_t grown = check::resident();
  check::Random random(4);
  for (int l = 0; l < 6; l++) {
    for (int h = 0; h < 3; h++) {
      std::vector<int32_t> index = some_of(4000, 0.3, random);
      index.resize(1000);
      cache.keep_rows(l, h, index.data(), 1000);
    }
  }
  CHECK(static_cast<double>(cache.bytes()) <= 0.265 * static_cast<double>(full));
  cache.give_back();
  CHECK(static_cast<double>(tokensieve::page_allocator_bytes() - held) <= 0.28 * static_cast<double>(full));
  if (start > 0) CHECK(grown - check::resident() > full / 2);
}

TEST("bytes a row by type") {
  const struct {
    DType type;
    double bytes;
  } cases[] = {{DType::f32, 4},       {DType::bf16, 2},      {DType::q8_0, 1.0625},
               {DType::q4_0, 0.5625}, {DType::kivi4, 0.625}, {DType::kivi2, 0.375}};
  for (const auto& c : cases) {
    KvCache cache(shape_of(c.type, c.type, 1, 1, 64, 32), backend());
    fill(cache, 32 * 200);
    const double pages = static_cast<double>(cache.bytes()) - 32 * 200 * 4 - 2 * 16 * 210,
                 residual = is_kivi(c.type) ? 32 * 64 * 2 : 0;
    CHECK_NEAR(pages / (2 * 64 * 32 * 200), c.bytes + residual / (2 * 64 * 32 * 200), 0.02);
  }
}

TEST("a fresh small session costs little more than its pages") {
  const size_t held = tokensieve::page_allocator_bytes(), before = check::resident();
  KvCache cache(shape_of(DType::f16, DType::f16, 30, 3, 64), backend());
  fill(cache, 20);
  const size_t pages = size_t{30} * 3 * 2 * 4096;
  CHECK(cache.bytes() < pages + 64 * 1024);
  CHECK(tokensieve::page_allocator_bytes() - held < pages + 64 * 1024);
  if (before > 0) CHECK(check::resident() - before < pages + 512 * 1024);
}

TEST("a fork costs its tables until one of the two goes on") {
  KvCache cache(shape_of(DType::q8_0, DType::q8_0, 4, 2), backend());
  fill(cache, 1000);
  const size_t used = tokensieve::page_counts().used;
  std::unique_ptr<KvCache> twin = cache.clone();
  CHECK_EQ(tokensieve::page_counts().used, used);
  CHECK_EQ(twin->rows(3, 1), 1000);
  fill(*twin, 1, 1000);  // 1000 = 31 * 32 + 8: the last page of each chain is copied
  CHECK_EQ(tokensieve::page_counts().used - used, 16 * backend().page_bytes(Side::keys, DType::q8_0, 32));
  CHECK_EQ(cache.rows(3, 1), 1000);
}

TEST("out of memory: an error, nothing changed, and it goes on when there is memory again") {
  for (DType type : {DType::f16, DType::kivi4}) {
    check::Random random(6);
    Pair p(shape_of(type, type, 1, 2, 32, 32));
    p.append(200, random);
    const Pair snapshot = p.fork();  // every page is shared, so every write needs one
    p.append(5, random);
    const size_t bytes = p.page_bytes(nullptr, nullptr);
    for (void (*act)(Pair&) :
         {+[](Pair& q) { q.cache->reserve(0, 100); }, +[](Pair& q) { q.keep(0, 1, {1, 5, 40, 41, 90, 150, 204}); }}) {
      const size_t used = tokensieve::page_counts().used;
      int after = 0;
      for (bool failed = true; failed; after++) {
        tokensieve::fail_page_allocations_after(after);
        failed = out_of_memory(act, p);
        tokensieve::fail_page_allocations_after(-1);
        p.check(true);
        CHECK(!failed || p.page_bytes(nullptr, nullptr) == bytes);
        CHECK(!failed || tokensieve::page_counts().used <= used + 8 * 2048);  // shared last pages may have been copied
      }
      CHECK(after > 2);
    }
    p.slack = 12;
    p.append(100, random);
    p.keep(0, 0, some_of(p.cache->rows(0, 0), 0.3, random));
    p.check(true);
  }
}

TEST("a row is removed even where its shared page cannot be copied") {
  check::Random random(8);
  Pair p(shape_of(DType::f16, DType::q4_0, 1, 1)), twin = [&] {
    p.append(100, random);
    return p.fork();
  }();
  tokensieve::fail_page_allocations_after(0);
  for (int i = 0; i < 60; i++) p.remove(0, 0, random.below(p.cache->rows(0, 0)));
  tokensieve::fail_page_allocations_after(-1);
  p.check(true);
  twin.check(true);
  p.append(50, random);
  for (int i = 0; i < 40; i++) p.remove(0, 0, random.below(p.cache->rows(0, 0)));
  p.check(true);
  twin.check(true);
}

TEST("two threads: two caches, and two forks of a third") {
  check::Random random(3);
  Pair parent(shape_of(DType::f16, DType::kivi4, 1, 2, 32, 32));
  parent.append(200, random);
  auto work = [](Pair* own, Pair* fork, uint64_t seed) {
    check::Random r(seed);
    own->append(50, r);
    for (int i = 0; i < 60; i++) {
      for (Pair* p : {own, fork}) {
        p->append(1 + r.below(4), r);
        p->remove(0, r.below(2), r.below(40));
        if (i % 20 == 0) p->keep(0, 1, some_of(p->cache->rows(0, 1), 0.8, r)), p->cache->give_back();
      }
    }
  };
  Pair a(parent.shape), b(parent.shape), one = parent.fork(), two = parent.fork();
  parent.cache.reset();
  std::atomic<bool> stop{false};
  std::thread reader([&] {  // statistics are read while work is under way
    while (!stop) {
      if (a.cache->rows(0, 0) < 0 || a.cache->bytes() > 1u << 30) std::abort();
    }
  });
  std::thread first(work, &a, &one, 1), second(work, &b, &two, 2);
  first.join();
  second.join();
  stop = true;
  reader.join();
  for (Pair* p : {&a, &b, &one, &two}) p->check(true);
}
