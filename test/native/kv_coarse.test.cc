// Coarse rows: which rows they are, what they and the others read back as, how many pages they take, what becomes of them
// when rows go, and what attention makes of them.
#include <algorithm>
#include <map>

#include "core/error.h"
#include "kv_model.h"

using namespace kv;
using tokensieve::Error;

namespace {

constexpr int kHeads = 2, kSize = 32;

CacheShape shape_with(DType keys, DType values, int sinks, int recent) {
  CacheShape shape = shape_of(keys, values, 1, kHeads, kSize, 0);
  shape.in_float.sinks = sinks, shape.in_float.recent = recent;
  return shape;
}

// A cache and the rows that it was given, by token: [heads][size].
struct Given {
  std::unique_ptr<KvCache> cache;
  std::vector<std::vector<float>> keys, values;

  explicit Given(const CacheShape& shape) : cache(std::make_unique<KvCache>(shape, backend())) {}
  void append(int n, check::Random& random, bool settle = true) {
    Team team(2);
    const size_t ld = static_cast<size_t>(kHeads * kSize);
    const std::vector<float> k = random.normals(static_cast<size_t>(n) * ld), v = random.normals(k.size());
    std::vector<int32_t> source;
    for (size_t i = 0; i < static_cast<size_t>(n); i++) {
      source.push_back(static_cast<int32_t>(keys.size()));
      keys.emplace_back(k.begin() + static_cast<ptrdiff_t>(i * ld), k.begin() + static_cast<ptrdiff_t>((i + 1) * ld));
      values.emplace_back(v.begin() + static_cast<ptrdiff_t>(i * ld), v.begin() + static_cast<ptrdiff_t>((i + 1) * ld));
    }
    cache->reserve(0, n);
    cache->append(backend(), 0, k.data(), ld, v.data(), ld, n, source.data(), nullptr, team);
    if (settle) cache->settle(0);
  }
  const float* row(Side side, int head, int token) const {
    return (side == Side::keys ? keys : values)[static_cast<size_t>(token)].data() + head * kSize;
  }
};

std::vector<float> read(const KvCache& cache, Side side, int head) {
  std::vector<float> rows(static_cast<size_t>(cache.rows(0, head) * kSize));
  cache.read(side, 0, head, rows.data());
  return rows;
}

size_t pages_of(const KvCache& cache, int head) {
  std::set<const uint8_t*> seen;
  size_t bytes = 0;
  for (Side side : {Side::keys, Side::values}) {
    const tokensieve::Pieces pieces = cache.pieces(side, 0, head);
    for (int i = 0; i < pieces.count; i++) {
      if (seen.insert(pieces.data[i].page).second) bytes += backend().page_bytes(side, pieces.data[i].type, kSize);
    }
  }
  return bytes;
}

std::vector<int32_t> middle(int rows, double share, check::Random& random) {
  std::vector<int32_t> index;
  for (int i = 4; i < rows - 3; i++) {
    if (random.uniform() < share) index.push_back(i);
  }
  return index;
}

std::vector<int32_t> without(int rows, const std::vector<int32_t>& gone) {
  std::vector<int32_t> rest;
  for (int i = 0; i < rows; i++) {
    if (!std::binary_search(gone.begin(), gone.end(), i)) rest.push_back(i);
  }
  return rest;
}

template <class F>
void at_each_instruction_set(F&& f) {
  const tokensieve::kernels::BackendList& list = tokensieve::kernels::runnable_backends();
  for (int b = 0; b < list.count; b++) current_backend() = list.items[b], f();
  current_backend() = &tokensieve::kernels::reference_backend();
}

// Rows in 2 bits, 32 at once, from what a prompt is stored as.
std::vector<float> in_two_bits(const Given& given, Side side, DType fresh, int head,
                               const std::vector<int32_t>& tokens) {
  std::vector<float> want;
  for (size_t begin = 0; begin < tokens.size(); begin += 32) {
    std::vector<float> x;
    for (size_t i = begin; i < begin + 32; i++) {
      const float* const row = given.row(side, head, tokens[std::min(i, tokens.size() - 1)]);
      const std::vector<float> stored = round_trip(side, fresh, kSize, row, 1);
      x.insert(x.end(), stored.begin(), stored.end());
    }
    const int n = static_cast<int>(std::min<size_t>(32, tokens.size() - begin));
    const std::vector<float> y = round_trip(side, DType::kivi2, kSize, x.data(), 32);
    want.insert(want.end(), y.begin(), y.begin() + n * kSize);
  }
  return want;
}

void check_prompt(DType keys, DType values, int sinks, int recent) {
  const CacheShape shape = shape_with(keys, values, sinks, recent);
  check::Random random(3), again(3), choice(8);
  Given mixed(shape), rest_only(shape);
  mixed.append(300, random, false);
  rest_only.append(300, again, false);
  const std::vector<int32_t> coarse = middle(300, 0.6, choice), rest = without(300, coarse);
  mixed.cache->coarsen(0, 0, coarse);
  rest_only.cache->keep_rows(0, 0, rest.data(), static_cast<int>(rest.size()));
  mixed.cache->settle(0), rest_only.cache->settle(0);
  CHECK_EQ(mixed.cache->rows(0, 0), 300);
  CHECK(mixed.cache->head(0, 0).coarse.all() == coarse && mixed.cache->head(0, 0).source.all() == rest);
  for (Side side : {Side::keys, Side::values}) {
    const std::vector<float> got = read(*mixed.cache, side, 0);
    std::vector<float> want = in_two_bits(mixed, side, DType::f16, 0, coarse);
    const std::vector<float> others = read(*rest_only.cache, side, 0);
    want.insert(want.end(), others.begin(), others.end());
    CHECK(got == want);
    CHECK(read(*mixed.cache, side, 1) == read(*rest_only.cache, side, 1));
  }
  const size_t pages = (coarse.size() + 31) / 32;
  CHECK_EQ(pages_of(*mixed.cache, 0) - pages_of(*rest_only.cache, 0),
           pages * (backend().page_bytes(Side::keys, DType::kivi2, kSize) +
                    backend().page_bytes(Side::values, DType::kivi2, kSize)));
}

}  // namespace

TEST("coarse rows are quantized from float, the others are as if these had never been, to the page") {
  at_each_instruction_set([] {
    check_prompt(DType::kivi4, DType::kivi4, 4, 32);
    check_prompt(DType::kivi4, DType::q4_0, 4, 32);
    check_prompt(DType::q4_0, DType::q4_0, 16, 0);
    check_prompt(DType::f16, DType::f16, 0, 0);
    check_prompt(DType::kivi2, DType::kivi2, 0, 64);
  });
}

namespace {

// What a cache must hold: tokens of its rows, which of them are coarse, and where a value may have moved.
struct Life {
  Given given;
  std::vector<std::set<int>> coarse{kHeads}, fine{kHeads};

  explicit Life(const CacheShape& shape) : given(shape) {}
  void check(const KvCache& cache) const {
    for (int h = 0; h < kHeads; h++) {
      const size_t at = static_cast<size_t>(h);
      const std::vector<int32_t> first(coarse[at].begin(), coarse[at].end()), others(fine[at].begin(), fine[at].end());
      const tokensieve::HeadRows& table = cache.head(0, h);
      CHECK(table.coarse.all() == first && table.source.all() == others);
      CHECK_EQ(static_cast<size_t>(cache.rows(0, h)), first.size() + others.size());
      CHECK(table.mass.empty() || table.mass.size() == table.rows());
      const std::vector<int32_t> all = table.all(), order = table.order();
      CHECK(order.empty() == first.empty());
      for (size_t i = 1; i < order.size(); i++)
        CHECK(all[static_cast<size_t>(order[i])] > all[static_cast<size_t>(order[i - 1])]);
      for (Side side : {Side::keys, Side::values}) {
        const std::vector<float> got = read(cache, side, h);
        double worst = 0;
        for (size_t i = 0; i < all.size(); i++) {
          // Of normal numbers 2 bits span 8 at most; several roundings, each within half a step.
          const double most = i < first.size() ? 3.2 : 0.8;
          for (size_t c = 0; c < kSize; c++)
            worst = std::max(worst, std::fabs(static_cast<double>(got[i * kSize + c]) -
                                              static_cast<double>(given.row(side, h, all[i])[c])) /
                                        most);
        }
        CHECK(worst <= 1);
      }
    }
  }
  void append(int n, check::Random& random) {
    for (auto& rows : fine)
      for (int i = 0; i < n; i++) rows.insert(static_cast<int>(given.keys.size()) + i);
    given.append(n, random);
  }
  void coarsen(int h, double share, check::Random& random) {
    std::vector<int32_t> named;
    for (int token : fine[static_cast<size_t>(h)])
      if (random.uniform() < share) named.push_back(token);
    for (int token : named) fine[static_cast<size_t>(h)].erase(token), coarse[static_cast<size_t>(h)].insert(token);
    given.cache->coarsen(0, h, named);
  }
  // Keeps the rows at these indices.
  void keep(int h, const std::vector<int32_t>& index, bool one_by_one) {
    const std::vector<int32_t> all = given.cache->head(0, h).all();
    std::set<int> stays;
    for (int32_t i : index) stays.insert(all[static_cast<size_t>(i)]);
    for (auto* rows : {&coarse[static_cast<size_t>(h)], &fine[static_cast<size_t>(h)]}) {
      for (auto it = rows->begin(); it != rows->end();) it = stays.count(*it) ? std::next(it) : rows->erase(it);
    }
    if (!one_by_one) return given.cache->keep_rows(0, h, index.data(), static_cast<int>(index.size()));
    for (int row = static_cast<int>(all.size()) - 1; row >= 0; row--) {
      if (!std::binary_search(index.begin(), index.end(), row)) CHECK(given.cache->remove_row(0, h, row));
    }
  }
  void truncate(int tokens) {
    for (auto* all : {&coarse, &fine})
      for (auto& rows : *all) rows.erase(rows.lower_bound(tokens), rows.end());
    given.cache->truncate(tokens);
    given.keys.resize(static_cast<size_t>(tokens)), given.values.resize(static_cast<size_t>(tokens));
  }
};

void run_life(const CacheShape& shape, uint64_t seed) {
  check::Random random(seed);
  Life life(shape);
  life.append(200 + random.below(100), random);
  for (int turn = 0; turn < 12; turn++) {
    const int h = random.below(kHeads), rows = life.given.cache->rows(0, h);
    const auto twin = life.given.cache->clone();
    const Life before = [&] {
      Life copy(shape);
      copy.coarse = life.coarse, copy.fine = life.fine;
      copy.given.keys = life.given.keys, copy.given.values = life.given.values;
      return copy;
    }();
    switch (turn < 2 ? 0 : random.below(6)) {
      case 0: life.coarsen(h, 0.5, random); break;
      case 1: life.append(1 + random.below(60), random); break;
      case 2: life.keep(h, some_of(rows, 0.8, random), false); break;
      case 3: life.keep(h, some_of(rows, 0.95, random), true); break;
      case 4: life.truncate(static_cast<int>(life.given.keys.size()) - random.below(60)); break;
      default:
        for (int i = 0; i < 40; i++) life.append(1, random);
    }
    if (turn == 5) life.given.cache->mass(0, 0);
    life.check(*life.given.cache);
    before.check(*twin);
    std::string saved, copy;
    life.given.cache->save(&saved);
    const auto loaded = KvCache::load(reinterpret_cast<const uint8_t*>(saved.data()), saved.size(), shape, backend(),
                                      nullptr, static_cast<int>(life.given.keys.size()));
    loaded->save(&copy);
    CHECK(saved == copy);
    for (int head = 0; head < kHeads; head++) {
      for (Side side : {Side::keys, Side::values})
        CHECK(read(*loaded, side, head) == read(*life.given.cache, side, head));
    }
  }
}

}  // namespace

TEST("rows of both precisions come and go, in forks and files too") {
  const size_t before = tokensieve::page_counts().used;
  for (uint64_t seed = 1; seed <= 8; seed++) {
    run_life(shape_with(DType::kivi4, DType::kivi4, 4, 32), seed);
    run_life(shape_with(DType::q4_0, DType::q4_0, 4, 32), seed + 100);
    run_life(shape_with(DType::f16, DType::f16, 0, 0), seed + 200);
  }
  CHECK_EQ(tokensieve::page_counts().used, before);
}

TEST("keys that are coarse already keep their groups when more follow") {
  Given given(shape_with(DType::kivi4, DType::kivi4, 4, 32));
  check::Random random(1);
  given.append(200, random);
  std::vector<int32_t> named;
  for (int i = 10; i < 80; i++) named.push_back(i);  // two groups, and six rows
  given.cache->coarsen(0, 0, named);
  const std::vector<float> first = read(*given.cache, Side::keys, 0);
  given.cache->coarsen(0, 0, {5, 6});  // before all: every group begins elsewhere
  const std::vector<float> shifted = read(*given.cache, Side::keys, 0);
  CHECK(!std::equal(first.begin(), first.begin() + 64 * kSize, shifted.begin() + 2 * kSize));
  given.cache->coarsen(0, 0, {100, 101, 102, 5000});  // behind them; a token that has no row is passed over
  const std::vector<float> more = read(*given.cache, Side::keys, 0);
  CHECK(std::equal(shifted.begin(), shifted.begin() + 64 * kSize, more.begin()));
  CHECK_EQ(given.cache->coarse_rows(0, 0), 75);
  given.cache->coarsen(0, 0, {5, 101});  // all are there: nothing changes
  CHECK(read(*given.cache, Side::keys, 0) == more);
}

namespace {

constexpr int kGroup = 3, kQueries = kHeads * kGroup, kRows = 420;
constexpr float kScale = 0.18f;

// A query of head h over the rows as they read back, in double.
std::vector<double> attended(const KvCache& cache, const float* q, int h) {
  const std::vector<float> keys = read(cache, Side::keys, h / kGroup), values = read(cache, Side::values, h / kGroup);
  std::vector<double> sums(kSize);
  double total = 0;
  for (size_t j = 0; j < kRows; j++) {
    double dot = 0;
    for (size_t c = 0; c < kSize; c++) dot += static_cast<double>(q[c]) * static_cast<double>(keys[j * kSize + c]);
    const double p = std::exp(dot * static_cast<double>(kScale));
    total += p;
    for (size_t c = 0; c < kSize; c++) sums[c] += p * static_cast<double>(values[j * kSize + c]);
  }
  for (double& x : sums) x /= total;
  return sums;
}

std::vector<float> attend(const KvCache& cache, const std::vector<float>& q, int n) {
  std::vector<float> out(q.size());
  tokensieve::kernels::View views[kHeads];
  const std::vector<int32_t> first(static_cast<size_t>(n), 0), end(static_cast<size_t>(n), kRows);
  for (int h = 0; h < kHeads; h++) {
    cache.view(0, h, &views[h]);
    views[h].first = first.data(), views[h].end = end.data();
  }
  tokensieve::kernels::AttentionShape shape;
  shape.heads = kQueries, shape.kv_heads = kHeads, shape.head_size = kSize, shape.scale = kScale;
  tokensieve::kernels::AttentionJob job;
  job.q = q.data(), job.ldq = kQueries * kSize, job.n = n, job.views = views;
  job.out = out.data(), job.ldo = kQueries * kSize;
  Team team(2);
  std::vector<uint64_t> scratch(backend().attention_scratch(shape, &job, 1, team.size()) / 8 + 16);
  void* const aligned = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
  backend().attention(shape, &job, 1, aligned, team);
  return out;
}

}  // namespace

TEST("what attention gives is what it would give over the rows as they read back, at every instruction set") {
  at_each_instruction_set([] {
    Given given(shape_with(DType::kivi4, DType::kivi4, 4, 32));
    check::Random random(5);
    given.append(kRows, random, false);
    for (int h = 0; h < kHeads; h++) given.cache->coarsen(0, h, middle(kRows, 0.5 + 0.2 * h, random));
    given.cache->settle(0);
    for (int n : {1, 3, 7}) {
      const std::vector<float> q = random.normals(static_cast<size_t>(n * kQueries * kSize));
      const std::vector<float> out = attend(*given.cache, q, n);
      double worst = 0;
      for (size_t line = 0; line < static_cast<size_t>(n * kQueries); line++) {
        const std::vector<double> want =
            attended(*given.cache, q.data() + line * kSize, static_cast<int>(line % kQueries));
        for (size_t c = 0; c < kSize; c++)
          worst = std::max(worst, std::fabs(want[c] - static_cast<double>(out[line * kSize + c])));
      }
      const bool rounds = n > 4 && check::attends_in_int8(backend().name);
      CHECK_NEAR(worst, 0, rounds ? 2e-2 : 3e-4);
    }
  });
}

TEST("without memory nothing changes") {
  Given given(shape_with(DType::kivi4, DType::kivi4, 4, 32));
  check::Random random(2);
  given.append(300, random);
  const std::vector<int32_t> named = middle(300, 0.5, random);
  const std::vector<float> keys = read(*given.cache, Side::keys, 0), values = read(*given.cache, Side::values, 0);
  const size_t used = tokensieve::page_counts().used;
  int failures = 0;
  for (int allowed = 0;; allowed++) {
    tokensieve::fail_page_allocations_after(allowed);
    bool failed = false;
    try {
      given.cache->coarsen(0, 0, named);
    } catch (const Error& error) {
      failed = error.code() == tokensieve::Code::out_of_memory;
    }
    tokensieve::fail_page_allocations_after(-1);
    if (!failed) break;
    failures++;
    CHECK(read(*given.cache, Side::keys, 0) == keys && read(*given.cache, Side::values, 0) == values);
    CHECK_EQ(given.cache->coarse_rows(0, 0), 0);
    CHECK_EQ(tokensieve::page_counts().used, used);
  }
  CHECK(failures > 8);
  CHECK_EQ(given.cache->coarse_rows(0, 0), static_cast<int>(named.size()));
}

TEST("head sizes that 2 bits do not fit, rows that are set aside and files with a row twice are refused") {
  KvCache odd(shape_of(DType::f16, DType::f16, 1, 1, 24, 0), backend());
  CHECK_THROWS(odd.coarsen(0, 0, {0}), Error);
  Given given(shape_with(DType::f16, DType::f16, 0, 0));
  check::Random random(2);
  given.append(40, random);
  given.cache->coarsen(0, 0, {3, 4});
  given.cache->open_store();
  CHECK_THROWS(given.cache->exchange(0, 0, {1, 2}, {5}), Error);
  std::string saved;
  given.cache->save(&saved);
  const auto load = [&](const std::string& bytes) {
    KvCache::load(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                  shape_with(DType::f16, DType::f16, 0, 0), backend(), nullptr, 40);
  };
  load(saved);
  const int32_t first[] = {3, 4, 0, 1, 2}, twice[] = {3, 4, 0, 1, 3};
  const size_t at = saved.find(std::string(reinterpret_cast<const char*>(first), sizeof first));
  CHECK(at != std::string::npos);
  std::string broken = saved;
  broken.replace(at, sizeof twice, reinterpret_cast<const char*>(twice), sizeof twice);
  CHECK_THROWS(load(broken), Error);
  std::string more = saved;
  more[at - 4] = 41;  // coarse rows
  CHECK_THROWS(load(more), Error);
}
