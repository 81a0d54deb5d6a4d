// Heads that store their rows in different ways: each is as it would be in a cache where all heads are like it.
#include "core/error.h"
#include "kv_model.h"

using namespace kv;
using tokensieve::Code;
using tokensieve::Error;
using tokensieve::FloatRows;
using tokensieve::HeadFormat;

namespace {

constexpr int kLayers = 2, kHeads = 3, kSize = 32;

// Two of every three heads differ from the one before, some are alike.
const HeadFormat kFormats[kLayers * kHeads] = {
    {DType::f16, DType::f16, {}},   {DType::q4_0, DType::q8_0, {4, 32, 0}}, {DType::kivi4, DType::q4_0, {4, 32, 0}},
    {DType::q8_0, DType::q8_0, {}}, {DType::f16, DType::f16, {}},           {DType::kivi2, DType::kivi2, {0, 0, 64}},
};

CacheShape uniform(const HeadFormat& format) {
  CacheShape shape;
  static_cast<HeadFormat&>(shape) = format;
  shape.layers = kLayers, shape.kv_heads = kHeads, shape.head_size = kSize;
  return shape;
}

CacheShape mixed() {
  CacheShape shape = uniform({});
  shape.heads.assign(kFormats, kFormats + kLayers * kHeads);
  return shape;
}

// The same life for every cache: a prompt, an eviction, steps that forget old rows.
void live(KvCache& cache) {
  check::Random random(5);
  Team team(2);
  const size_t ld = static_cast<size_t>(kHeads * kSize);
  int tokens = 0;
  const auto append = [&](int n) {
    std::vector<int32_t> source;
    for (int i = 0; i < n; i++) source.push_back(tokens++);
    for (int l = 0; l < kLayers; l++) {
      const std::vector<float> k = random.normals(static_cast<size_t>(n) * ld),
                               v = random.normals(static_cast<size_t>(n) * ld);
      cache.reserve(l, n);
      cache.append(backend(), l, k.data(), ld, v.data(), ld, n, source.data(), nullptr, team);
    }
  };
  append(150);
  for (int l = 0; l < kLayers; l++) {
    for (int h = 0; h < kHeads; h++) {
      const std::vector<int32_t> index = some_of(150, 0.8, random);
      cache.keep_rows(l, h, index.data(), static_cast<int>(index.size()));
    }
    cache.settle(l);
  }
  for (int step = 0; step < 80; step++) {
    append(1);
    for (int l = 0; l < kLayers; l++) {
      cache.settle(l);
      if (step % 3 == 0) cache.remove_row(l, step % kHeads, 7);
    }
  }
}

std::vector<float> read(const KvCache& cache, Side side, int l, int h) {
  std::vector<float> rows(static_cast<size_t>(cache.rows(l, h) * kSize));
  cache.read(side, l, h, rows.data());
  return rows;
}

bool same_head(const KvCache& a, const KvCache& b, int l, int h) {
  return a.head(l, h).source == b.head(l, h).source && read(a, Side::keys, l, h) == read(b, Side::keys, l, h) &&
         read(a, Side::values, l, h) == read(b, Side::values, l, h) &&
         a.packed_rows(Side::keys, l, h) == b.packed_rows(Side::keys, l, h) &&
         a.packed_rows(Side::values, l, h) == b.packed_rows(Side::values, l, h);
}

}  // namespace

TEST("every head is as in a cache of its own kind, through appends, evictions, forks and files") {
  KvCache cache(mixed(), backend());
  live(cache);
  std::string saved;
  cache.save(&saved);
  const std::unique_ptr<KvCache> twin = cache.clone();
  const auto loaded =
      KvCache::load(reinterpret_cast<const uint8_t*>(saved.data()), saved.size(), mixed(), backend(), nullptr, 230);
  for (int l = 0; l < kLayers; l++) {
    for (int h = 0; h < kHeads; h++) {
      KvCache alone(uniform(kFormats[l * kHeads + h]), backend());
      live(alone);
      CHECK(same_head(cache, alone, l, h));
      CHECK(same_head(*twin, alone, l, h));
      CHECK(same_head(*loaded, alone, l, h));
    }
  }
  twin->truncate(20);
  CHECK(twin->rows(0, 1) <= 20 && cache.rows(0, 1) > 20);
}

TEST("a file is of the heads that it was written from") {
  KvCache cache(mixed(), backend());
  std::string saved;
  cache.save(&saved);
  CacheShape other = mixed();
  other.heads[2].in_float.recent = 64;
  for (const CacheShape& shape : {uniform({}), other}) {
    bool refused = false;
    try {
      KvCache::load(reinterpret_cast<const uint8_t*>(saved.data()), saved.size(), shape, backend());
    } catch (const Error& error) {
      refused = error.code() == Code::file_format;
    }
    CHECK(refused);
  }
  other.heads[5].in_float.residual = 40;
  CHECK_THROWS(KvCache(other, backend()), Error);
}
