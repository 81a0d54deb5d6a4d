#include "core/error.h"
#include "kv_model.h"

using namespace kv;
using tokensieve::Error;

namespace {

const DType kKeys[] = {DType::f32,   DType::f16,   DType::bf16,  DType::q8_0, DType::q4_0,
                       DType::kivi4, DType::kivi2, DType::kivi4, DType::f16,  DType::q4_0};
const DType kValues[] = {DType::f32,   DType::f16,   DType::q4_0, DType::q8_0,  DType::bf16,
                         DType::kivi4, DType::kivi2, DType::f16,  DType::kivi2, DType::kivi4};

const int kSinks[] = {4, 16, 0, 40, 1}, kRecent[] = {32, 0, 64, 5};

void set_mass(Pair& p, int layer, int head, check::Random& random) {
  float* mass = p.cache->mass(layer, head);
  for (size_t i = 0; i < p.at(layer, head).rows.size(); i++)
    mass[i] += static_cast<float>(random.below(100)), p.at(layer, head).rows[i].mass = mass[i];
}

// One random change; caches come and go among `all`.
void step(std::vector<Pair>& all, check::Random& random) {
  Pair& p = all[static_cast<size_t>(random.below(static_cast<int>(all.size())))];
  const int l = random.below(p.shape.layers), h = random.below(p.shape.kv_heads), rows = p.cache->rows(l, h);
  switch (random.below(12)) {
    case 0: return p.append(1 + random.below(150), random, random.below(3) == 0);
    case 1:
    case 2:
    case 3: return p.append(1, random);
    case 4: return p.append(1 + random.below(20), random, false, false);
    case 5: return rows > 0 ? p.remove(l, h, std::min(4, rows - 1)) : void();
    case 6:
    case 7:
      for (int i = 0; i < 10 && p.cache->rows(l, h) > 0; i++) p.remove(l, h, random.below(p.cache->rows(l, h)));
      return;
    case 8: return p.keep(l, h, some_of(rows, random.uniform(), random));
    case 9: return random.below(3) ? set_mass(p, l, h, random) : p.truncate(p.tokens - random.below(40));
    case 10:
      if (all.size() < 4) {
        all.push_back(p.fork());
      } else {
        all.erase(all.begin() + random.below(4));
      }
      return;
    default: {
      Pair& other = all[static_cast<size_t>(random.below(static_cast<int>(all.size())))];
      p.cache->swap(*other.cache);
      std::swap(p.model, other.model);
      std::swap(p.tokens, other.tokens);
    }
  }
}

// 300 changes of up to four caches that share pages; at the end every page that any of them took is accounted for.
void run_sequence(const CacheShape& shape, uint64_t seed) {
  check::Random random(seed);
  const size_t before = tokensieve::page_counts().used;
  {
    std::vector<Pair> all;
    all.emplace_back(shape);
    all[0].append(100, random);
    for (int i = 0; i < 300; i++) {
      step(all, random);
      if (i % 2 == 0) {
        for (Pair& p : all) p.slack = 12, p.check(i % 8 == 0);
      }
      if (i % 50 != 0) continue;
      std::set<const uint8_t*> pages;
      size_t sum = 0;
      for (Pair& p : all) {
        p.cache->give_back();
        const size_t own = p.page_bytes(&pages, &sum);
        CHECK(p.cache->bytes() >= own && p.cache->bytes() < own + 4096 + 64 * 4 * static_cast<size_t>(p.tokens + 1));
        CHECK_EQ(p.cache->bytes(), p.cache->layer_bytes(0) + p.cache->layer_bytes(1));
      }
      CHECK_EQ(tokensieve::page_counts().used - before, sum);  // none lost, none twice
    }
  }
  CHECK_EQ(tokensieve::page_counts().used, before);
}

}  // namespace

TEST("long random sequences against vectors of rows, every type of both sides, every instruction set") {
  const tokensieve::kernels::BackendList& list = tokensieve::kernels::runnable_backends();
  for (int b = 0; b < list.count; b++) {
    current_backend() = list.items[b];
    for (size_t t = 0; t < sizeof kKeys / sizeof *kKeys; t++)
      run_sequence(shape_of(kKeys[t], kValues[t]), 100 + t + 1000 * static_cast<uint64_t>(b));
    for (size_t t = 0; t < sizeof kKeys / sizeof *kKeys; t++) {
      CacheShape shape = shape_of(kKeys[t], kValues[t], 2, 2, 32, 0);
      shape.in_float.sinks = kSinks[t % 5], shape.in_float.recent = kRecent[t % 4];
      run_sequence(shape, 500 + t + 1000 * static_cast<uint64_t>(b));
      shape.in_float.fresh = DType::q8_0;
      run_sequence(shape, 700 + t + 1000 * static_cast<uint64_t>(b));
    }
  }
  current_backend() = &tokensieve::kernels::reference_backend();
}

TEST("the split of card kivi: keys by whole residuals, values one by one") {
  const int cases[][3] = {{100, 0, 0}, {128, 128, 0}, {300, 256, 172}};
  for (const auto& c : cases) {
    check::Random random(7);
    Pair p(shape_of(DType::kivi2, DType::kivi2, 1, 1, 32, 128));
    p.append(c[0], random, false, false);
    CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 0), 0);  // attention sees the prompt in float
    p.settle();
    CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 0), c[1]);
    CHECK_EQ(p.cache->packed_rows(Side::values, 0, 0), c[2]);
    p.check(true);
    for (int i = c[0] + 1; i <= c[0] + 200; i++) {  // decode: the key block empties at R rows, the value block holds R
      p.append(1, random);
      CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 0), i / 128 * 128);
      CHECK_EQ(p.cache->packed_rows(Side::values, 0, 0), std::max(0, i - 128));
    }
    p.check(true);
  }
}

TEST("sinks and the newest rows stay in float, what lies between is quantized in whole groups") {
  for (DType type : {DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2}) {
    check::Random random(17);
    CacheShape shape = shape_of(type, type, 1, 1, 32, 0);
    shape.in_float.sinks = 4, shape.in_float.recent = 64;
    Pair p(shape);
    p.append(3, random);
    CHECK_EQ(p.cache->sink_rows(Side::keys, 0, 0), 3);
    p.append(296, random, false, false);  // 299 rows: 4 sinks, and the prompt is float until it is settled
    CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 0), 0);
    p.settle();
    for (int rows = 299; rows < 416; rows++) {
      for (Side side : {Side::keys, Side::values}) {
        CHECK_EQ(p.cache->sink_rows(side, 0, 0), 4);
        CHECK_EQ(p.cache->packed_rows(side, 0, 0), (rows - 64) / 32 * 32 - 4);
        CHECK_EQ(p.cache->pieces(side, 0, 0).data[1].first, 4);  // pages end where rows are cut for attention
      }
      p.check(rows % 20 == 0);
      p.append(1, random);
    }
    const size_t f16 = backend().page_bytes(Side::keys, DType::f16, 32), packed = 11,
                 own = backend().page_bytes(Side::keys, type, 32) + backend().page_bytes(Side::values, type, 32);
    CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 0), 348);
    CHECK_EQ(p.page_bytes(nullptr, nullptr),
             packed * own + 4 * f16 + f16 / 2 + f16 / 8);  // 64 open rows, 16 for key sinks, 4 for others
  }
}

TEST("sinks that go are not replaced; those that are cut off come back") {
  check::Random random(23);
  CacheShape shape = shape_of(DType::q4_0, DType::q4_0, 1, 1, 32, 0);
  shape.in_float.sinks = 4;
  Pair p(shape);
  p.append(80, random);
  const Pair fork = p.fork();
  p.remove(0, 0, 1);
  p.append(40, random);
  CHECK_EQ(p.cache->sink_rows(Side::values, 0, 0), 3);
  p.check(true);
  p.truncate(2);
  p.append(10, random);
  CHECK_EQ(p.cache->sink_rows(Side::values, 0, 0), 4);
  p.check(true);
  CHECK_EQ(fork.cache->sink_rows(Side::values, 0, 0), 4);
}

TEST("without sinks and newest rows in float, types that are quantized row by row are so at once") {
  for (DType type : {DType::q8_0, DType::q4_0}) {
    check::Random random(29);
    Pair p(shape_of(type, type, 1, 1));
    p.append(50, random, false, false);
    p.check(true);
    CHECK_EQ(p.page_bytes(nullptr, nullptr), 4 * backend().page_bytes(Side::keys, type, 32));
  }
}

TEST("a prompt is evicted in float, what stays is quantized once") {
  check::Random random(13);
  Pair p(shape_of(DType::kivi4, DType::kivi2, 1, 2, 32, 64));
  p.append(500, random, false, false);
  p.keep(0, 1, some_of(500, 0.5, random));
  p.slack = 0;  // keys are what one quantization of the survivors gives
  p.settle();
  CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 0), 448);
  CHECK_EQ(p.cache->packed_rows(Side::keys, 0, 1), p.cache->rows(0, 1) / 64 * 64);
  CHECK_EQ(p.cache->packed_rows(Side::values, 0, 1), p.cache->rows(0, 1) - 64);
  p.check(true);
}

TEST("a prompt in chunks gives what it gives at once") {
  for (DType type : {DType::f16, DType::q8_0, DType::kivi4}) {
    check::Random a(3), b(3);
    Pair once(shape_of(type, type, 1, 1)), chunks(shape_of(type, type, 1, 1));
    const std::vector<float> x = a.normals(300 * 32);
    std::vector<int32_t> source(300);
    for (int i = 0; i < 300; i++) source[static_cast<size_t>(i)] = i;
    Team team(1);
    auto add = [&](Pair& p, int from, int n) {
      p.cache->reserve(0, n);
      p.cache->append(backend(), 0, &x[static_cast<size_t>(from) * 32], 32, &x[static_cast<size_t>(from) * 32], 32, n,
                      &source[static_cast<size_t>(from)], nullptr, team);
    };
    add(once, 0, 300);
    for (int from = 0; from < 300; from += 60) add(chunks, from, 60);
    once.cache->settle(0);
    chunks.cache->settle(0);
    std::vector<float> y(300 * 32), z(300 * 32);
    for (Side side : {Side::keys, Side::values}) {
      once.cache->read(side, 0, 0, y.data());
      chunks.cache->read(side, 0, 0, z.data());
      CHECK(y == z);
      CHECK_EQ(once.cache->pieces(side, 0, 0).count, chunks.cache->pieces(side, 0, 0).count);
    }
  }
}

TEST("kivi keys: gaps leave values alone, sparse groups move by half a step of the new group") {
  for (DType type : {DType::kivi4, DType::kivi2}) {
    check::Random random(11);
    Pair p(shape_of(type, type, 1, 1, 32, 32));
    p.append(256, random);
    std::vector<int32_t> dense, sparse;
    for (int i = 0; i < 256; i++) {
      if (i % 8 != 3) dense.push_back(i);  // 28 of 32
    }
    Pair q = p.fork();
    p.slack = 0;
    p.keep(0, 0, dense);
    p.check(true);
    CHECK_EQ(p.page_bytes(nullptr, nullptr), q.page_bytes(nullptr, nullptr));
    sparse = some_of(256, 0.25, random);
    std::vector<std::vector<float>> before;
    for (int32_t i : sparse) before.push_back(q.at(0, 0).rows[static_cast<size_t>(i)].key);
    q.keep(0, 0, sparse);
    std::vector<float> got(sparse.size() * 32);
    q.cache->read(Side::keys, 0, 0, got.data());
    const float levels = type == DType::kivi2 ? 3 : 15;
    bool bounded = true, moved = false;
    for (size_t from = 0; from < sparse.size(); from += 32) {
      const size_t end = std::min(from + 32, sparse.size());
      for (size_t c = 0; c < 32; c++) {
        float low = before[from][c], high = low;
        for (size_t i = from; i < end; i++) low = std::min(low, before[i][c]), high = std::max(high, before[i][c]);
        const float bound = (high - low) / levels / 2 + 2e-3f * std::max(std::fabs(low), std::fabs(high));
        for (size_t i = from; i < end; i++) {
          bounded = bounded && std::fabs(got[i * 32 + c] - before[i][c]) <= bound;
          moved = moved || got[i * 32 + c] != before[i][c];
        }
      }
    }
    CHECK(bounded && moved);
    CHECK_EQ(static_cast<size_t>(q.cache->pieces(Side::keys, 0, 0).count), (sparse.size() + 31) / 32);
  }
}

TEST("a ring with sinks: memory constant, order kept") {
  for (DType type : {DType::f16, DType::q4_0, DType::kivi4}) {
    check::Random random(5);
    Pair p(shape_of(type, type, 1, 2, 32, 32));
    size_t most = 0;
    p.append(80, random);
    for (int i = 0; i < 300; i++) {
      p.append(1, random);
      for (int h = 0; h < 2; h++) {
        while (p.cache->rows(0, h) > 64) p.remove(0, h, 4);
      }
      p.slack = 12;
      p.check(i % 16 == 0);
      most = std::max(most, p.page_bytes(nullptr, nullptr) / 2);
    }
    CHECK_EQ(p.cache->head(0, 0).source[3], 3);
    CHECK_EQ(p.cache->head(0, 0).source[4], 80 + 300 - 60);
    const size_t f16 = backend().page_bytes(Side::keys, DType::f16, 32),
                 own = backend().page_bytes(Side::keys, type, 32);
    CHECK(most <= 2 * 4 * own + (is_kivi(type) ? 2 * 3 * f16 : 0));
  }
}

TEST("removals leave pages half full") {
  check::Random random(9);
  Pair p(shape_of(DType::f16, DType::q8_0, 1, 1));
  p.append(1000, random);
  while (p.cache->rows(0, 0) > 40) {
    p.remove(0, 0, random.below(p.cache->rows(0, 0)));
    CHECK(p.cache->pieces(Side::keys, 0, 0).count <= p.cache->rows(0, 0) / 16 + 2);
  }
  p.check(true);
  p.cache->remove_first(0, 0, 30);
  for (int i = 0; i < 30; i++) p.at(0, 0).erase(0);
  p.check(true);
}

TEST("sizes and mass follow their rows, with holes for layers that hold nothing") {
  check::Random random(2);
  CacheShape shape = shape_of(DType::f16, DType::f16, 3, 2);
  shape.holds = {1, 0, 1};
  Pair p(shape);
  p.append(40, random);
  p.append(40, random, true);
  set_mass(p, 2, 1, random);
  p.keep(2, 1, some_of(80, 0.5, random));
  p.append(3, random);
  p.remove(2, 1, 5);
  p.check(true);
  CHECK_EQ(p.cache->rows(1, 0), 0);
  CHECK_EQ(p.cache->layer_bytes(1), 0u);
  CHECK(p.cache->head(0, 0).mass.empty() && !p.cache->head(2, 1).mass.empty());
  CHECK(p.cache->head(0, 0).size.size() == 83 && p.cache->head(0, 0).size[0] == 1);
}

TEST("what is asked wrongly is refused") {
  CHECK_THROWS(KvCache(shape_of(DType::f16, DType::f16, 1, 1, 32, 40), backend()), Error);
  CacheShape below = shape_of(DType::q4_0, DType::q4_0);
  below.in_float.sinks = -1;
  CHECK_THROWS(KvCache(below, backend()), Error);
  CHECK_THROWS(KvCache(shape_of(DType::f32, DType::f32, 1, 1, 4096), backend()), Error);
  check::Random random(1);
  Pair p(shape_of(DType::f16, DType::f16));
  p.append(10, random);
  for (const std::vector<int32_t>& index : std::vector<std::vector<int32_t>>{{-1}, {10}, {3, 3}, {4, 2}})
    CHECK_THROWS(p.cache->keep_rows(0, 0, index.data(), static_cast<int>(index.size())), Error);
  p.cache->remove_row(0, 0, 10);
  p.check(true);
}
