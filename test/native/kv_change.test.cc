// Changes of pages against the page functions of the reference, one row at a time: every type and side, on every backend.
#include "cache_problem.h"
#include "kernel_test.h"

using namespace kernel_test;

namespace {

using Op = PageOp::Kind;

const DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::kivi4, DType::kivi2};
const Side kSides[] = {Side::keys, Side::values};

// A page that can be copied.
struct alignas(64) Line {
  uint8_t bytes[64];
};
struct Page {
  std::vector<Line> lines;
  explicit Page(size_t bytes, int fill = 0) : lines(bytes / 64) { std::memset(lines.data(), fill, bytes); }
  uint8_t* data() { return lines.data()->bytes; }
  const uint8_t* data() const { return lines.data()->bytes; }
  size_t size() const { return lines.size() * sizeof(Line); }
};

bool is_group(Side side, DType type) { return side == Side::keys && is_kivi(type); }

// A page of the reference with all 32 rows of x.
Page stored(Side side, DType type, const Matrix& x) {
  const int d = x.columns();
  Page page(reference_backend().page_bytes(side, type, d), 0);
  if (is_group(side, type)) {
    reference_backend().store_kivi_keys(type, d, x.data(), x.ld(), page.data(), alone);
  } else {
    const StoreJob job{side, type, x.data(), x.ld(), x.rows(), page.data(), 0};
    reference_backend().store_rows(d, &job, 1, alone);
  }
  return page;
}

std::vector<float> loaded(Side side, DType type, int d, const Page& page, int first, int count) {
  std::vector<float> y(static_cast<size_t>(count * d));
  const Piece piece{page.data(), static_cast<int16_t>(first), static_cast<int16_t>(count), type};
  reference_backend().load_rows(side, d, piece, y.data(), static_cast<size_t>(d), alone);
  return y;
}

bool same(const Page& a, const Page& b) { return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size()); }

PageOp op_of(Op kind, Side side, DType type, int from_row, int to_row, int count) {
  PageOp op{};
  op.kind = kind, op.side = side, op.type = type;
  op.from_row = static_cast<uint8_t>(from_row), op.to_row = static_cast<uint8_t>(to_row);
  op.count = static_cast<uint8_t>(count);
  return op;
}
PageOp between(PageOp op, const Page& from, Page& to) {
  op.from = from.data(), op.to = to.data();
  return op;
}

void run(const Backend& backend, int d, std::vector<PageOp> ops, std::vector<int32_t> ends) {
  backend.change_pages(d, ops.data(), ends.data(), static_cast<int>(ends.size()), alone);
  std::fill(ops.begin(), ops.end(), PageOp());  // the lists are read when the call returns
  std::fill(ends.begin(), ends.end(), -1);
}

template <class F>
void each_page(F&& f) {
  for (const DType type : kTypes) {
    for (const int d : {32, 96, 256}) {
      for (const Side side : kSides) f(side, type, d);
    }
  }
}

}  // namespace

TEST("rows move to other pages and within their own, and leave the others") {
  const struct {
    int from, to, count;
  } moves[] = {{0, 5, 1}, {31, 0, 1}, {3, 4, 20}, {4, 3, 28}, {0, 1, 31}, {1, 0, 31}, {10, 2, 17}, {0, 0, 32}};
  check::Random random(2);
  each_page([&](Side side, DType type, int d) {
    if (is_group(side, type)) return;
    const Page from = stored(side, type, Matrix::normal(32, d, random)),
               other = stored(side, type, Matrix::normal(32, d, random));
    for (const auto& move : moves) {
      Page want = other, slid = from;
      for (int i = 0; i < move.count; ++i) {
        for (Page* to : {&want, &slid})
          reference_backend().copy_row(side, type, d, from.data(), move.from + i, to->data(), move.to + i, alone);
      }
      for (const Backend* backend : backends()) {
        const PageOp op = op_of(Op::move, side, type, move.from, move.to, move.count);
        Page got = other, own = from;
        run(*backend, d, {between(op, from, got), between(op, own, own)}, {1, 2});
        CHECK(same(got, want));
        CHECK(same(own, slid));
      }
    }
  });
}

TEST("rows of several pages are loaded and packed into another type") {
  check::Random random(3);
  each_page([&](Side side, DType type, int d) {
    for (const DType open : {DType::f16, DType::q8_0}) {
      const Page a = stored(side, open, Matrix::normal(32, d, random)),
                 b = stored(side, open, Matrix::normal(32, d, random));
      std::vector<float> rows = loaded(side, open, d, a, 20, 12);
      const std::vector<float> more = loaded(side, open, d, b, 3, 9);
      rows.insert(rows.end(), more.begin(), more.end());
      Page want(reference_backend().page_bytes(side, type, d), 7);
      const int first = 5, count = 21;
      if (is_group(side, type)) {
        Matrix all(32, d);
        for (int r = 0; r < 32; ++r) {
          const int as = std::min(std::max(r - first, 0), count - 1);
          std::copy_n(&rows[static_cast<size_t>(as * d)], d, &all.at(r, 0));
        }
        reference_backend().store_kivi_keys(type, d, all.data(), all.ld(), want.data(), alone);
      } else {
        const StoreJob job{side, type, rows.data(), static_cast<size_t>(d), count, want.data(), first};
        reference_backend().store_rows(d, &job, 1, alone);
      }
      for (const Backend* backend : backends()) {
        Page got(want.size(), 7);
        PageOp load = op_of(Op::load, side, open, 20, first, 12), next = op_of(Op::load, side, open, 3, 17, 9);
        load.from = a.data(), next.from = b.data();
        PageOp store = op_of(is_group(side, type) ? Op::group : Op::store, side, type, first, first, count);
        store.to = got.data();
        run(*backend, d, {load, next, store}, {3});
        CHECK(same(got, want));
      }
    }
  });
}

TEST("programs beside each other keep their scratch apart; copies, and numbers that come and go") {
  check::Random random(4);
  constexpr int kPrograms = 9, d = 64;
  const Matrix x = Matrix::normal(32, d, random);
  for (const Backend* backend : backends()) {
    std::vector<std::vector<float>> in, out(kPrograms, std::vector<float>(3 * d, -1.f));
    std::vector<Page> pages(kPrograms, stored(Side::values, DType::q4_0, x)),
        copies(kPrograms, Page(pages[0].size(), 0));
    std::vector<PageOp> ops;
    std::vector<int32_t> ends;
    for (int p = 0; p < kPrograms; ++p) {
      in.emplace_back();
      for (int i = 0; i < 3 * d; ++i) in.back().push_back(random.normal());
    }
    for (int p = 0; p < kPrograms; ++p) {
      const size_t at = static_cast<size_t>(p);
      PageOp take = op_of(Op::take, Side::keys, DType::f32, 0, 29, 3),
             give = op_of(Op::give, Side::keys, DType::f32, 29, 0, 3);
      take.from = reinterpret_cast<const uint8_t*>(in[at].data());
      give.to = reinterpret_cast<uint8_t*>(out[at].data());
      PageOp copy = between(op_of(Op::copy, Side::values, DType::q4_0, 0, 0, 1), pages[at], copies[at]);
      copy.lines = static_cast<uint16_t>(pages[at].size() / 64);
      ops.insert(ops.end(), {take, copy, give});
      ends.push_back(static_cast<int32_t>(ops.size()));
    }
    run(*backend, d, ops, ends);
    for (size_t p = 0; p < kPrograms; ++p) CHECK(out[p] == in[p] && same(copies[p], pages[p]));
  }
}

TEST("rows fold into others, in double and in order") {
  check::Random random(5);
  each_page([&](Side side, DType type, int d) {
    const Page page = stored(side, type, Matrix::normal(32, d, random, 2));
    const std::vector<float> x = loaded(side, type, d, page, 0, 32);
    const float weights[] = {0.25f, 1.5f, -0.3f, 0.7f};
    const int rows[] = {3, 17, 30, 9};
    std::vector<float> want(static_cast<size_t>(2 * d));
    for (int c = 0; c < d; ++c) {
      double sum = 0;
      for (int i = 0; i < 3; ++i)
        sum += static_cast<double>(weights[i]) * static_cast<double>(x[static_cast<size_t>(rows[i] * d + c)]);
      const double own = static_cast<double>(weights[3]);
      want[static_cast<size_t>(c)] =
          static_cast<float>(own * static_cast<double>(x[static_cast<size_t>(9 * d + c)]) + sum);
      want[static_cast<size_t>(d + c)] =
          static_cast<float>(own * static_cast<double>(x[static_cast<size_t>(9 * d + c)]));
    }
    for (const Backend* backend : backends()) {
      std::vector<float> got(want.size());
      std::vector<PageOp> ops;
      for (int i : {0, 1, 2, 3, 3}) {
        PageOp op = op_of(i == 3 ? Op::mix : Op::add, side, type, rows[i], ops.size() == 4 ? 1 : 0, 1);
        op.from = page.data(), op.weight = weights[i];
        ops.push_back(op);
      }
      PageOp give = op_of(Op::give, side, type, 0, 0, 2);
      give.to = reinterpret_cast<uint8_t*>(got.data());
      ops.push_back(give);
      run(*backend, d, ops, {static_cast<int32_t>(ops.size())});
      CHECK(got == want);
    }
  });
}
