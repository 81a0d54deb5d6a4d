#include "core/error.h"
#include "kv_model.h"

using namespace kv;
using tokensieve::Code;
using tokensieve::Error;

namespace {

const uint8_t* raw(const std::string& s) { return reinterpret_cast<const uint8_t*>(s.data()); }

// A cache with everything that a stream can hold: gaps in kivi pages, sizes, mass, ragged heads, an empty one.
Pair rich(DType keys, DType values, uint64_t seed, int residual = 32) {
  check::Random random(seed);
  CacheShape shape = shape_of(keys, values, 3, 2, 32, residual);
  if (residual == 0) shape.in_float.sinks = 6, shape.in_float.recent = 32;
  shape.holds = {1, 0, 1};
  Pair p(shape);
  p.append(150, random);
  p.append(20, random, true);
  p.keep(0, 0, some_of(170, 0.4, random));
  p.keep(2, 0, {});
  for (int i = 0; i < 20; i++) p.remove(0, 1, random.below(p.cache->rows(0, 1)));
  float* mass = p.cache->mass(0, 1);
  for (size_t i = 0; i < p.at(0, 1).rows.size(); i++) mass[i] = p.at(0, 1).rows[i].mass = random.uniform(0, 9);
  p.slack = 12;
  p.check(true);
  return p;
}

}  // namespace

TEST("what was saved is loaded, bit for bit, and saved again the same") {
  for (DType keys : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2}) {
    for (DType values : {DType::f16, DType::q4_0, DType::kivi2}) {
      for (int residual : {0, 32}) {
        Pair p = rich(keys, values, 3, residual);
        std::string saved, again;
        p.cache->save(&saved);
        p.cache = KvCache::load(raw(saved), saved.size(), p.shape, backend(), nullptr, p.tokens);
        p.slack = 0;
        p.check(true);
        p.cache->save(&again);
        CHECK(saved == again);
        check::Random random(5);
        p.slack = 12;
        p.append(90, random);  // and it goes on
        p.keep(0, 1, some_of(p.cache->rows(0, 1), 0.5, random));
        p.check(true);
      }
    }
  }
}

TEST("an empty cache") {
  Pair p(shape_of(DType::f16, DType::kivi4));
  std::string saved;
  p.cache->save(&saved);
  p.cache = KvCache::load(raw(saved), saved.size(), p.shape, backend(), 0);
  p.check(true);
}

TEST("another shape, fewer tokens, a piece too little or too much: ERR_FILE_FORMAT") {
  const Pair p = rich(DType::kivi4, DType::q8_0, 4);
  std::string saved;
  p.cache->save(&saved);
  auto refused = [&](const std::string& bytes, const CacheShape& shape, int tokens) {
    try {
      KvCache::load(raw(bytes), bytes.size(), shape, backend(), nullptr, tokens);
    } catch (const Error& error) {
      return error.code() == Code::file_format;
    }
    return false;
  };
  CHECK(!refused(saved, p.shape, 170));
  CHECK(refused(saved, p.shape, 169));
  CHECK(refused(saved + '\0', p.shape, 170));
  CHECK(refused("", p.shape, 170));
  for (size_t cut = 0; cut < saved.size(); cut += 1 + cut / 16) CHECK(refused(saved.substr(0, cut), p.shape, 170));
  CacheShape other = p.shape;
  other.values = DType::q4_0;
  CHECK(refused(saved, other, 170));
  other = p.shape;
  other.holds = {1, 1, 1};
  CHECK(refused(saved, other, 170));
  other = p.shape;
  other.in_float.residual = 64;
  CHECK(refused(saved, other, 170));
  other = p.shape;
  other.in_float.sinks = 1;
  CHECK(refused(saved, other, 170));
}

TEST("thousands of damaged streams: an error or a cache that can be used") {
  check::Random random(12);
  long accepted = 0, refused = 0;
  for (DType keys : {DType::f16, DType::kivi2}) {
    const Pair p = rich(keys, DType::kivi4, 6, keys == DType::f16 ? 32 : 0);
    std::string saved;
    p.cache->save(&saved);
    for (int i = 0; i < 3000; i++) {
      std::string bytes = saved;
      for (int n = 1 + random.below(3); n > 0; n--) {
        const int limit = random.below(2) ? 1200 : static_cast<int>(bytes.size());  // the tables, or anywhere
        const size_t at = static_cast<size_t>(random.below(limit));
        switch (random.below(4)) {
          case 0: bytes[at] = static_cast<char>(random.next()); break;
          case 1: bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.below(8)); break;
          case 2: bytes[at] = random.below(2) ? '\xff' : '\0'; break;
          default: bytes.erase(at, static_cast<size_t>(random.below(4)));
        }
      }
      try {
        std::unique_ptr<KvCache> cache = KvCache::load(raw(bytes), bytes.size(), p.shape, backend(), nullptr, p.tokens);
        accepted++;
        std::vector<float> rows(static_cast<size_t>(cache->rows(0, 1) * 32));
        cache->read(Side::keys, 0, 1, rows.data());
        cache->read(Side::values, 0, 1, rows.data());
        while (cache->rows(0, 1) > 5) cache->remove_row(0, 1, random.below(cache->rows(0, 1)));
      } catch (const Error& error) {
        refused++;
        CHECK(error.code() == Code::file_format);
      }
    }
  }
  CHECK(accepted > 100 && refused > 1000);
}
